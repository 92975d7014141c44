"""A training that is killed, at whatever moment and however often, ends with the same bits.

REFSEG_RELIABILITY_KILLS=100 says how many runs are killed (default 4 at moments and 4 at operations on files).
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.reliability.children import CONTEXT, run, train_here
from tests.support.tiny_system import recipe_values
from tests.training.test_loop import log_of, same_tensors, weights

pytestmark = [pytest.mark.reliability, pytest.mark.timeout(3600)]
KILLS = int(os.environ.get("REFSEG_RELIABILITY_KILLS", "8"))


class Whole(NamedTuple):
    """The run that nobody killed."""

    folder: Path
    seconds: float
    operations: int


def values_of(folder: Path) -> dict[str, Any]:
    values = recipe_values(folder, steps=14, accumulation=2)
    values["data"]["pool"] = 12
    values["evaluation"] = {"every": 4, "samples": 2, "pictures": 6}
    values["output"] |= {"checkpoint_every": 3, "tensorboard": False}
    return values


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    home = tmp_path_factory.mktemp("whole")
    count = CONTEXT.Value("i", 0)
    assert run(train_here, values_of(home / "warm"), str(home / "cache"), False) == 0
    begin = time.monotonic()
    assert run(train_here, values_of(home / "run"), str(home / "cache"), False, 0, count) == 0
    return Whole(home / "run", time.monotonic() - begin, count.value)


def check_same(folder: Path, whole: Path) -> None:
    assert log_of(folder) == log_of(whole)
    for name in ("last", "previous"):
        assert same_tensors(weights(folder / name), weights(whole / name)), name
    for name in ("final", "best"):
        assert (folder / name / "model.safetensors").read_bytes() == (whole / name / "model.safetensors").read_bytes()
    assert not [path for path in folder.rglob("*") if path.name.endswith(".part")]


def kill_and_resume(folder: Path, whole: Whole, dice: random.Random, at_operation: bool) -> int:
    """Kill a run, and its resumptions with some probability; says how often it was killed."""
    cache, kills = str(folder / "cache"), 0
    while True:
        resume = (folder / "run" / "recipe.toml").exists()  # what is killed before is none yet
        if kills and dice.random() < 0.6:
            assert run(train_here, values_of(folder / "run"), cache, resume) == 0
            return kills
        place = dice.randint(1, whole.operations) if at_operation else 0
        moment = None if at_operation else dice.uniform(0, 1.1 * whole.seconds)
        code = run(train_here, values_of(folder / "run"), cache, resume, place, kill_after=moment)
        if code == 0:
            return kills
        assert code == -signal.SIGKILL
        kills += 1


@pytest.mark.parametrize("number", range(KILLS))
def test_a_killed_run_ends_with_the_same_bits(
    number: int, whole: Whole, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    dice = random.Random(f"{request.config.getoption('--seed')} {number}")
    kill_and_resume(tmp_path, whole, dice, at_operation=number % 2 == 0)
    check_same(tmp_path / "run", whole.folder)
    shutil.rmtree(tmp_path / "run")
