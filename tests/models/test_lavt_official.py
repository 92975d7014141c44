"""A checkpoint of LAVT's published code: read from a file as its training writes it, and computed by its formulas."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from refseg.cli.main import main
from refseg.errors import CheckpointError
from refseg.inference.checkpoint import load_model
from refseg.official import load, recognise
from refseg.state_dicts import read_state
from refseg.types import Batch, Tokens
from tests.support.contract import assert_near
from tests.support.published_lavt import published
from tests.support.published_rela import published as published_rela


def write(path: Path) -> Path:
    """As train.py of the code saves: network and BERT apart, the options of the command line beside them."""
    model, bert = published()
    options = argparse.Namespace(model="lavt", swin_type="base", lr=5e-5, mha="")
    torch.save({"model": model, "bert_model": bert, "optimizer": {"state": {}}, "epoch": 3, "args": options}, path)
    return path


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    return read_state(write(tmp_path_factory.mktemp("lavt") / "refcoco.pth"))


def test_the_file_of_a_training_run_holds_both_parts(state) -> None:
    assert recognise(state) == "lavt"
    assert "bert_model.embeddings.word_embeddings.weight" in state
    assert "classifier.conv1_1.weight" in state


def test_every_tensor_is_explained(state) -> None:
    model = load("lavt", state, input_size=64)
    config = model.config
    assert not model.training
    assert (config.vision.embed_dim, config.vision.depths, config.vision.window) == (8, (1, 1, 2, 1), 4)
    assert (config.vision.heads, config.width, config.text.width, config.text.layers) == ((1, 2, 2, 4), 32, 64, 1)
    assert (config.losses.background, config.losses.foreground, config.input.size) == (0.9, 1.1, 64)
    unused = {name for name in state if not state[name].is_floating_point() or ".layers.3.res_gate." in name}
    learnt = sum(value.numel() for name, value in state.items() if name not in unused)
    kept = {name: value for name, value in model.state_dict().items() if value.is_floating_point()}
    assert sum(value.numel() for value in kept.values()) == learnt


@torch.no_grad()
def test_pixels_read_words_as_in_the_code(state) -> None:
    """The first stage's fusion and gate, from the published tensors by the code's own steps: kernels of size 1."""
    model = load("lavt", state, input_size=64)
    pixels, words = torch.randn(2, 20, 8), torch.randn(2, 7, 64)
    real = torch.arange(7)[None] < torch.tensor([[7], [4]])
    prefix = "backbone.layers.0."

    def conv(name: str, tokens: Tensor) -> Tensor:
        weight, bias = (state[f"{prefix}fusion.{name}.{part}"] for part in ("weight", "bias"))
        return F.conv1d(tokens.transpose(1, 2), weight, bias)

    shown = real[:, None].float()
    query = F.instance_norm(conv("image_lang_att.f_query.0", pixels)).transpose(1, 2)
    key, value = (conv(f"image_lang_att.f_{part}.0", words) * shown for part in ("key", "value"))
    scores = query @ key / math.sqrt(8) + (1e4 * shown - 1e4)
    gathered = (scores.softmax(dim=-1) @ value.transpose(1, 2)).transpose(1, 2)
    weight, bias = (state[f"{prefix}fusion.image_lang_att.W.0.{part}"] for part in ("weight", "bias"))
    language = F.instance_norm(F.conv1d(gathered, weight, bias))
    mixed = F.gelu(conv("vis_project.0", pixels)) * language
    fused = F.gelu(conv("project_mm.0", mixed.transpose(1, 2))).transpose(1, 2)
    first, second = (state[f"{prefix}res_gate.{index}.weight"] for index in (0, 2))
    gate = torch.tanh(F.linear(F.relu(F.linear(fused, first)), second))

    text = model.encode_text(Tokens(torch.ones(2, 7, dtype=torch.long), real))
    after = model.language_stages.after_stage(type(text)(words, words[:, 0], real))
    out, on = after(0, pixels, (4, 5))
    assert_near(out, fused)
    assert_near(on, pixels + gate * fused)


@torch.no_grad()
def test_bert_in_the_network_is_the_same_model(state) -> None:
    """The code's later variant keeps BERT in the network, and its checkpoints behind `module.`."""
    one = {f"module.{name.replace('bert_model.', 'text_encoder.')}": value for name, value in state.items()}
    one = {name.removeprefix("module."): value for name, value in one.items()}
    models = [load("lavt", each, input_size=64) for each in (state, one)]
    ids = torch.tensor([[2, 5, 6, 3, 0]])
    batch = Batch(torch.randn(1, 3, 64, 64), torch.ones(1, 64, 64, dtype=torch.bool), Tokens(ids, ids != 0))
    masks = [model(batch).mask_logits for model in models]
    assert torch.equal(*masks)
    assert masks[0].shape == (1, 16, 16)


def test_what_does_not_fit_is_listed(state) -> None:
    with pytest.raises(CheckpointError, match=r"unexplained: classifier\.extra\.weight"):
        load("lavt", {**state, "classifier.extra.weight": torch.zeros(2)})
    lost = {name: value for name, value in state.items() if name != "classifier.bn2_3.bias"}
    with pytest.raises(CheckpointError, match=r"not in the checkpoint.*blocks\.1\.1\.norm\.bias"):
        load("lavt", lost)
    alone = {name: value for name, value in state.items() if not name.startswith("bert_model.")}
    with pytest.raises(CheckpointError, match=r"LAVT without its BERT.*give the whole file"):
        load("lavt", alone)
    with pytest.raises(CheckpointError, match="its names are those of 'rela': load it as that"):
        load("lavt", published_rela())


def test_import_writes_a_model_folder(tmp_path: Path, capsys) -> None:
    letters = [chr(code) for code in range(ord("a"), ord("z"))]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters]
    (tmp_path / "pieces").mkdir()
    (tmp_path / "pieces" / "vocab.txt").write_text("\n".join(pieces) + "\n")
    file = write(tmp_path / "refcoco.pth")
    assert len(pieces) == 30
    words = ["--tokenizer", str(tmp_path / "pieces"), "--input-size", "64"]
    assert main(["import", "lavt", str(file), "-o", str(tmp_path / "lavt"), *words]) == 0, capsys.readouterr().err
    model, _, info = load_model(tmp_path / "lavt")
    assert model.config.input.size == 64
    assert info["source"]["system"] == "lavt"
