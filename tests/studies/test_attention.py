"""The seed's attention averaged over a data set: against a loop, and its file beside ReSTR's table 3a."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from refseg.cli.main import main
from refseg.encoders.text.tokenizer import WordTokenizer
from refseg.errors import RefsegError
from refseg.evaluation.leaderboard import load_measured
from refseg.evaluation.leaderboard.experiments import find_entry
from refseg.evaluation.leaderboard.page import lines
from refseg.generation.scenes import SceneDataset, drawn_samples
from refseg.inference.checkpoint import save_model
from refseg.models import build, preset
from refseg.studies.attention import attention_shares
from tests.support.contract import filled
from tests.support.small_runs import write_data

WORDS = WordTokenizer(["the", "left", "right", "red", "ball"], 7)


def tiny() -> torch.nn.Module:
    config = preset("restr: table 3b: VME")
    text = replace(config.text, vocabulary_size=WORDS.vocabulary_size, max_words=7, width=12, layers=1, heads=2)
    small = replace(
        config,
        input=replace(config.input, size=64, divisor=16),
        vision=replace(config.vision, width=16, layers=1, heads=2, feedforward=16, grid=4),
        text=replace(text, feedforward=16),
        fusion=replace(config.fusion, width=16, heads=2, feedforward=16),
    )
    return filled(build(small)).eval()


def test_shares_are_the_mean_of_single_expressions() -> None:
    model = tiny()
    samples = drawn_samples(SceneDataset(0, 2, 64, 3, "val", False))
    chosen = samples[:5]
    document = attention_shares(model, WORDS, chosen, batch_size=2)
    alone = [attention_shares(model, WORDS, [sample])["breakdowns"]["layer"] for sample in chosen]
    layers = document["breakdowns"]["layer"]
    assert list(layers) == [f"layer {number}" for number in range(1, 5)]
    assert document["counts"]["sentences"] == 5
    for name, shares in layers.items():
        for kind, value in shares.items():
            assert value == pytest.approx(sum(one[name][kind] for one in alone) / 5, rel=1e-4)
        assert 0.0 < sum(shares.values()) < 1.0  # the rest is the seed's own


def test_other_systems_do_not_tell() -> None:
    class Silent(torch.nn.Module):
        config = preset("restr-paper")

        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(()))

        def forward(self, batch: object) -> object:
            return type("Answer", (), {"attention_maps": {}})()

    with pytest.raises(RefsegError, match="Silent does not tell"):
        attention_shares(Silent(), WORDS, drawn_samples(SceneDataset(0, 1, 64, 1, "val", False)))


def test_the_command_writes_what_stands_beside_table_3a(tmp_path: Path, monkeypatch, capsys) -> None:
    write_data(tmp_path)
    monkeypatch.chdir(tmp_path)
    recipe = {"model": {"preset": "restr: table 3b: VME"}, "data": {"dataset": "refcocog"}}
    save_model(tmp_path / "model", tiny(), WORDS, {"training": {"recipe": recipe}})
    words = ["--data", str(tmp_path), "--dataset", "refcocog", "--split-by", "google", "--split", "train"]
    assert main(["attention", "--model", "model", *words, "--json", "shares.json"]) == 0
    assert "layer 4" in capsys.readouterr().out
    body = lines(find_entry("restr table 3a"), load_measured([tmp_path / "shares.json"]))[1:]
    assert all(line[4].startswith("attention on pixels ") for line in body)
    assert main(["attention", "--model", "model", *words[:-1], "trian"]) == 2
