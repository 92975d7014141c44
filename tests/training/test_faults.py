"""Faults from outside: bad files, killed workers, full disks, lost checkpoints. A run ends with a line, and goes on."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from refseg.errors import CheckpointError, DataError
from refseg.training import loop
from refseg.training.loop import TrainingError
from refseg.training.recipe import parse_recipe
from refseg.training.source import Batches
from tests.support.tiny_system import Tiny, recipe_values
from tests.support.training_process import TrainingProcess
from tests.training.test_evaluation import write_grefcoco
from tests.training.test_loop import log_of, run, same_tensors, weights


def step_of(folder: Path) -> int:
    return json.loads((folder / "training.json").read_text())["step"]


def flip(path: Path, place: int = -50) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 0x10
    path.write_bytes(bytes(content))


def pictures_of(root: Path) -> list[Path]:
    return sorted((root / "images" / "train2014").iterdir())


def on_disk(folder: Path, root: Path, **data: Any) -> dict[str, Any]:
    values = recipe_values(folder, steps=4)
    values["data"] |= {"root": str(root), **data}
    return values


def test_an_error_in_a_worker_ends_the_run_with_a_line(tmp_path: Path) -> None:
    write_grefcoco(tmp_path / "data", ["train"] * 3)
    for picture in pictures_of(tmp_path / "data"):
        picture.write_bytes(picture.read_bytes()[:60])
    process = TrainingProcess(on_disk(tmp_path / "run", tmp_path / "data", workers=1), tmp_path)
    text = process.ended()
    assert process.returncode == 1, text
    assert "Traceback" not in text
    assert "none of the 8 samples of a batch can be read" in " ".join(text.split())


def test_a_bad_picture_does_not_end_an_augmented_run(tmp_path: Path) -> None:
    write_grefcoco(tmp_path / "data", ["train"] * 5)
    pictures_of(tmp_path / "data")[2].write_bytes(b"\xff\xd8 no picture")
    augment = {"hflip": 1.0, "random_crop": 0.5, "color_jitter": 0.5}
    losses, outcome = run(on_disk(tmp_path / "run", tmp_path / "data", augment=augment))
    assert outcome is not None
    assert outcome.step == 4
    assert len(losses) == 4


def test_a_bad_picture_does_not_end_a_run_that_draws_its_answers(tmp_path: Path) -> None:
    write_grefcoco(tmp_path / "data", ["train"] * 3 + ["val"] * 2)
    pictures_of(tmp_path / "data")[3].write_bytes(b"\xff\xd8 no picture")
    values = on_disk(tmp_path / "run", tmp_path / "data")
    values["evaluation"] = {"every": 2, "samples": 4}
    _, outcome = run(values)
    assert outcome is not None
    assert outcome.best is not None


def test_a_gradient_that_is_not_finite_is_not_stepped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss is finite: the slope of a root at 0 is not."""
    own = Tiny.losses

    def losses(model: Tiny, output: Any, targets: Any) -> dict[str, torch.Tensor]:
        parts = own(model, output, targets)
        if model.calls == 8:
            parts["mask"] = parts["mask"] + (model.verdict.weight * 0).sqrt().sum()
        return parts

    monkeypatch.setattr(Tiny, "losses", losses)
    with pytest.raises(TrainingError, match="the gradient is not finite at step 8"):
        run(recipe_values(tmp_path))
    assert step_of(tmp_path / "last") == 5
    assert all(value.isfinite().all() for value in weights(tmp_path / "last").values())
    assert not (tmp_path / "final").exists()


def test_weights_that_are_not_finite_are_never_the_end_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []
    monkeypatch.setattr(loop, "build", lambda config: made.append(Tiny(config)) or made[0])

    def on_step(step: int, loss: float) -> None:
        if step == 12:
            made[0].text.weight.data[1, 2] = float("inf")

    with pytest.raises(TrainingError, match=r"not finite numbers: .*text\.weight"):
        loop.train(parse_recipe(recipe_values(tmp_path)), False, on_step)
    assert not (tmp_path / "final").exists()
    assert step_of(tmp_path / "last") == 10
    assert all(value.isfinite().all() for value in weights(tmp_path / "last").values())


def test_a_killed_worker_costs_no_step(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    values = recipe_values(tmp_path / "cut", steps=100_000)
    values["data"]["workers"] = 1
    values["output"]["checkpoint_every"] = 100_000
    process = TrainingProcess(values, tmp_path)
    process.wait_for_lines(tmp_path / "cut" / "log.jsonl", 3)
    workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(workers[-1]), signal.SIGKILL)
    text = process.ended()
    assert process.returncode == 1, text
    assert "Traceback" not in text
    assert "was ended by SIGKILL" in " ".join(text.split())
    done = step_of(tmp_path / "cut" / "last")
    assert done >= 6
    values["output"]["folder"] = str(tmp_path / "whole")

    def on_step(step: int, loss: float) -> None:
        if step == done:
            os.kill(os.getpid(), signal.SIGTERM)

    loop.train(parse_recipe(values), False, on_step)
    assert same_tensors(weights(tmp_path / "cut" / "last"), weights(tmp_path / "whole" / "last"))
    torch.set_num_threads(threads)


def failing(monkeypatch: pytest.MonkeyPatch, number: int, error: Exception) -> None:
    """The pieces of batches, of which piece `number` (from 0) cannot be had."""
    own = Batches.iterate

    def iterate(self: Batches, first: int, steps: int) -> Iterator[Any]:
        for place, piece in enumerate(own(self, first, steps)):
            if place == number:
                raise error
            yield piece

    monkeypatch.setattr(Batches, "iterate", iterate)


@pytest.mark.parametrize("error", [DataError("a folder is gone"), OSError(28, "No space left on device"), KeyError(3)])
def test_the_checkpoint_of_an_aborted_step_is_exact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """The first of two pieces has gone through the batch normalisation when the second one fails."""
    whole, _ = run(recipe_values(tmp_path / "whole", accumulation=2))
    values = recipe_values(tmp_path / "cut", accumulation=2)
    with monkeypatch.context() as patch:
        failing(patch, 7, error)
        with pytest.raises(KeyError if isinstance(error, KeyError) else TrainingError):
            run(values)
    assert step_of(tmp_path / "cut" / "last") == 3
    rest, _ = run(values, resume=True)
    assert rest == {step: loss for step, loss in whole.items() if step > 3}
    assert same_tensors(weights(tmp_path / "cut" / "last"), weights(tmp_path / "whole" / "last"))


def test_a_second_run_in_a_folder_is_refused_and_a_closed_terminal_stops_the_first(tmp_path: Path) -> None:
    values = recipe_values(tmp_path / "run", steps=100_000)
    first = TrainingProcess(values, tmp_path)
    try:
        first.wait_for_lines(tmp_path / "run" / "log.jsonl", 2)
        (tmp_path / "second").mkdir()
        second = TrainingProcess(values, tmp_path / "second", arguments=["--resume"])
        text = second.ended()
        assert second.returncode == 2, text
        assert f"another run (process {first.pid}) writes there" in " ".join(text.split())
        os.kill(first.pid, signal.SIGHUP)
    finally:
        text = first.ended()
    assert first.returncode == 128 + signal.SIGHUP, text
    assert "Traceback" not in text
    assert step_of(tmp_path / "run" / "last") >= 4


def too_small() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, 12_000))


def test_a_full_disk_ends_the_run_with_a_line(tmp_path: Path) -> None:
    values = recipe_values(tmp_path / "run")
    values["model"]["width"] = 128
    process = TrainingProcess(values, tmp_path, before=too_small)
    text = process.ended()
    assert process.returncode == 1, text
    assert "Traceback" not in text
    assert "File too large" in text
    assert not [path for path in (tmp_path / "run").iterdir() if path.name.endswith(".part")]


@pytest.mark.parametrize("fault", ["gone", "training.safetensors", "training.json", "model.safetensors", "config.json"])
def test_a_lost_or_damaged_checkpoint_is_made_up_for_by_the_one_before(
    tmp_path: Path, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, _ = run(recipe_values(tmp_path / "whole"))
    values = recipe_values(tmp_path / "cut")
    run(values, stop=11)
    last = tmp_path / "cut" / "last"
    assert (step_of(last), step_of(tmp_path / "cut" / "previous")) == (10, 5)
    if fault == "gone":
        shutil.rmtree(last)
    elif fault == "config.json":
        (last / fault).write_text((last / fault).read_text()[:-30])
    else:
        flip(last / fault, -20 if fault == "training.json" else -50)
    rest, _ = run(values, resume=True)
    assert "previous, step 5" in " ".join(capsys.readouterr().err.split())
    assert rest == {step: loss for step, loss in whole.items() if step > 5}


def test_a_run_that_lost_all_its_checkpoints_does_not_begin_again(tmp_path: Path) -> None:
    values = recipe_values(tmp_path / "run")
    run(values, stop=9)
    for name in ("last", "previous"):
        shutil.rmtree(tmp_path / "run" / name, ignore_errors=True)
    with pytest.raises(CheckpointError, match=r"had done 8 steps, but its checkpoints .* are gone"):
        run(values, resume=True)
    values = recipe_values(tmp_path / "finished", steps=3)
    run(values)
    shutil.rmtree(tmp_path / "finished" / "last")
    with pytest.raises(CheckpointError, match="is finished, but its checkpoints"):
        run(values, resume=True)
    # Moved to where it is used, and the log's beginning damaged: its last line still tells.
    shutil.rmtree(tmp_path / "finished" / "final")
    log = tmp_path / "finished" / "log.jsonl"
    log.write_bytes(b"\x80" + log.read_bytes()[1:])
    before = log.read_bytes()
    with pytest.raises(CheckpointError, match="is finished, but its checkpoints"):
        run(values, resume=True)
    assert log.read_bytes() == before


def test_the_best_score_is_forgotten_when_it_is_of_another_metric(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = recipe_values(tmp_path, steps=4)
    values["evaluation"] = {"every": 2, "pictures": 2, "samples": 0, "metric": "N_acc"}
    _, first = run(values)
    assert first is not None
    assert first.best == 1.0  # no other metric reaches that here
    values["training"]["steps"] = 6
    values["evaluation"]["metric"] = "gIoU"
    _, second = run(values, resume=True)
    assert second is not None
    assert second.best is not None
    assert second.best < 1
    assert "evaluation.metric" in " ".join(capsys.readouterr().err.split())
    document = json.loads((tmp_path / "best" / "config.json").read_text())
    assert document["info"]["training"]["step"] == 6


def test_what_a_killed_run_left_is_cleared_away(tmp_path: Path) -> None:
    values = recipe_values(tmp_path)
    run(values, stop=7)
    whole = log_of(tmp_path)
    (tmp_path / ".last.0badcafe.part").mkdir()
    (tmp_path / ".last.0badcafe.part" / "model.safetensors").write_bytes(b"half")
    (tmp_path / ".log.jsonl.x1.part").write_bytes(b"half")
    with (tmp_path / "log.jsonl").open("ab") as handle:
        handle.write(b'{"kind": "train", "step": 3, "losses"\xff\xfe\n\x80')
    run(values, resume=True)
    assert not [path.name for path in tmp_path.iterdir() if path.name.endswith(".part")]
    assert log_of(tmp_path)[: len(whole) - 1] == whole[:-1]


def test_the_number_of_workers_is_that_of_the_processors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    begun: list[int] = []

    class Loader(torch.utils.data.DataLoader):
        def __init__(self, *arguments: Any, num_workers: int, **options: Any) -> None:
            begun.append(num_workers)
            super().__init__(*arguments, num_workers=0, **options)

    monkeypatch.setattr("refseg.training.workers.DataLoader", Loader)
    monkeypatch.setattr("refseg.processors.processors", lambda: 3)
    values = recipe_values(tmp_path, steps=1)
    values["data"]["workers"] = 100
    run(values)
    assert begun == [3]
    assert "data.workers = 100: 3 are used" in " ".join(capsys.readouterr().err.split())
