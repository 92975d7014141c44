"""refseg import: from an authors' file to a folder that answers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import refseg
from refseg.cli.main import main
from tests.support.published_rela import published


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """A published checkpoint of a tiny ReLA, and the word pieces of its 30 entries."""
    folder = tmp_path_factory.mktemp("published")
    torch.save({"model": published(), "iteration": 7}, folder / "model_final.pth")
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "red", "cup"]
    (folder / "bert").mkdir()
    (folder / "bert" / "vocab.txt").write_text("\n".join(pieces + [f"w{n}" for n in range(30 - len(pieces))]) + "\n")
    return folder


def test_imported_folder_answers(files: Path, tmp_path: Path, capsys) -> None:
    command = ["import", "rela", str(files / "model_final.pth"), "-o", str(tmp_path / "rela")]
    options = ["--tokenizer", str(files / "bert"), "--input-size", "64", "--max-words", "6"]
    assert main([*command, *options]) == 0
    assert "M parameters" in capsys.readouterr().out
    document = json.loads((tmp_path / "rela" / "config.json").read_text())
    assert document["system"] == "rela"
    assert document["info"]["source"]["file"] == "model_final.pth"
    assert len(document["info"]["source"]["sha256"]) == 64
    segmenter = refseg.load(tmp_path / "rela", device="cpu")
    answer = segmenter(np.zeros((40, 50, 3), dtype=np.uint8), "the red cup")
    assert answer.mask.shape == (40, 50)
    assert main([*command, *options]) == 0  # a model folder may be replaced


def test_bad_input_is_one_line(files: Path, tmp_path: Path, capsys) -> None:
    good, out = str(files / "model_final.pth"), str(tmp_path / "out")
    (tmp_path / "damaged.pth").write_text("?")
    torch.save({"a": torch.ones(1)}, tmp_path / "other.pth")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    cases = [
        (["rela", str(tmp_path / "damaged.pth"), "-o", out], "damaged.pth"),
        (["rela", str(tmp_path / "other.pth"), "-o", out], "not a checkpoint of ReLA"),
        (["rela", str(tmp_path), "-o", out], "is a folder"),
        (["yolo", good, "-o", out], "no importer"),
        (["rela", good, "-o", str(tmp_path / "mine"), "--tokenizer", str(files / "bert")], "not empty"),
        (["rela", good, "-o", good, "--tokenizer", str(files / "bert")], "is a file"),
        (["rela", good, "-o", out, "--tokenizer", str(tmp_path / "mine")], "no tokenizer"),
        (["rela", good, "-o", out], "give a local folder"),
    ]
    for arguments, message in cases:
        assert main(["import", *arguments]) == 2, arguments
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "precious"
    assert not Path(out).exists()


def test_tokenizer_must_be_the_checkpoints(files: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n")
    command = ["import", "rela", str(files / "model_final.pth"), "-o", str(tmp_path / "out")]
    assert main([*command, "--tokenizer", str(tmp_path)]) == 2
    assert "5 entries" in capsys.readouterr().err
