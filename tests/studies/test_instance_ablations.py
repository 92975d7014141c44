"""Parts of `instances` switched off one by one: what a row changes, what is counted, and that it is undone."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import refseg
from refseg.cli.main import main
from refseg.metrics.grounding import box_iou
from refseg.models.instances.evidence import RULES
from refseg.models.instances.model import Instances
from refseg.studies.instance_ablations import ROWS, ablate, is_right, measure, to_markdown
from refseg.studies.photographs import ScoredSet


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("ablations") / "scenes"
    assert main(["data", "scenes", str(folder), "--train", "0", "--val", "4", "--test", "0", "--size", "128"]) == 0
    return str(folder)


def test_right_is_one_to_one() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        count = int(rng.integers(0, 4))
        corners = rng.uniform(0, 60, (count, 2))
        targets = np.concatenate([corners, corners + rng.uniform(5, 40, (count, 2))], axis=1)
        boxes = (targets + rng.normal(0, 2, (count, 2)).repeat(2, 0).reshape(count, 4))[rng.permutation(count)]
        overlap = box_iou(boxes, targets) if count else np.zeros((0, 0))
        any_way = any(
            all(overlap[row, column] >= 0.5 for row, column in enumerate(order))
            for order in itertools.permutations(range(count))
        )
        assert is_right(boxes, targets) == any_way
        assert not is_right(np.concatenate([boxes, [[0.0, 0.0, 1.0, 1.0]]]), targets)


def test_a_row_is_undone() -> None:
    model = refseg.load("instances", device="cpu").model
    assert isinstance(model, Instances)
    config, means, weights = model.chooser.config, model.chooser.means, model.chooser.weights.clone()
    for row in ROWS:
        with ablate(model, row):
            assert all(not getattr(model.chooser.config, name) for name in row.off)
            assert (model.chooser.means is means) != row.lists_alone
            if row.rules:
                assert model.chooser.weights.equal(model.chooser.rules)
        assert (model.chooser.config, model.chooser.means) == (config, means)
        assert model.chooser.weights.equal(weights)


def test_the_table(scenes: str, tmp_path) -> None:
    sets = [ScoredSet("scenes", scenes, split="val")]
    document = measure("instances", sets, tmp_path, "both")
    rows = document["sets"]["scenes"]["rows"]
    assert list(rows) == [row.name for row in ROWS]
    for numbers in rows.values():
        assert all(value is None or 0 <= value <= 1 for value in numbers.values())
    assert rows["the noun alone"]["right"] < rows["all"]["right"]
    assert len(to_markdown(document).splitlines()) == len(ROWS) + 4
    command = ["studies", "instance-ablations", "-o", str(tmp_path), "--referring", f"scenes={scenes},split=val"]
    weights = tmp_path / "chooser.safetensors"
    save_file({"weights": torch.tensor(list(RULES.values()))}, weights)
    command += ["--half", "both", "--chooser"]
    assert main([*command, f"the same={weights}"]) == 0  # from what is kept
    lines = (tmp_path / "ablations.md").read_text().splitlines()
    assert lines[: len(ROWS) + 2] == to_markdown(document).splitlines()[: len(ROWS) + 2]
    assert lines[len(ROWS) + 2].split("|")[2:] == lines[2].split("|")[2:]
    save_file({"weights": torch.zeros(3)}, weights)
    assert main([*command, f"the same={weights}"]) == 2
    assert main(["studies", "instance-ablations", "-o", str(tmp_path), "--referring", "nowhere"]) == 2
