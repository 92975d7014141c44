"""Whole runs of a tiny system: they learn, stop, resume bit for bit, and leave folders that load."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from refseg.config import to_toml
from refseg.errors import CheckpointError, ConfigError
from refseg.inference.checkpoint import load_model
from refseg.training.loop import TrainingError, train
from refseg.training.recipe import parse_recipe
from tests.support.tiny_system import recipe_values


class Stop(BaseException):
    """What a test raises to end a run at once, as a kill does: no error that the run could save itself from."""


def run(values, resume=False, stop=None):
    """Train, and say what the loss of every step was; `stop` kills the run after that step."""
    losses = {}

    def on_step(step, loss):
        losses[step] = loss
        if step == stop:
            raise Stop

    try:
        outcome = train(parse_recipe(values), resume, on_step)
    except Stop:
        return losses, None
    return losses, outcome


def log_of(folder):
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [
        (line["step"], line["losses"], line["lr"], line["gradient_norm"]) for line in lines if line["kind"] == "train"
    ]


def weights(folder):
    return {**load_file(folder / "model.safetensors"), **load_file(folder / "training.safetensors")}


def same_tensors(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_a_run_learns_and_its_folder_loads(tmp_path):
    values = recipe_values(tmp_path / "run", steps=60)
    losses, outcome = run(values)
    assert outcome.step == 60
    assert outcome.signal == 0
    early, late = (sum(losses[s] for s in steps) / 8 for steps in (range(1, 9), range(53, 61)))
    assert late < 0.7 * early
    model, tokenizer, info = load_model(tmp_path / "run" / "final")
    assert not model.training
    assert info["training"]["step"] == 60
    assert info["training"]["sentences"] == 60 * 8
    assert int(tokenizer(["the red square"]).mask.sum()) >= 3
    assert sorted(entry.name for entry in (tmp_path / "run").iterdir()) == [
        ".lock", "final", "last", "log.jsonl", "previous", "recipe.toml", "vocabulary"]  # fmt: skip


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_a_killed_run_resumes_bit_for_bit(tmp_path, ema_decay):
    whole, _ = run(recipe_values(tmp_path / "whole", ema_decay=ema_decay))
    part, outcome = run(recipe_values(tmp_path / "cut", ema_decay=ema_decay), stop=8)
    assert outcome is None
    rest, _ = run(recipe_values(tmp_path / "cut", ema_decay=ema_decay), resume=True)
    assert sorted(rest) == list(range(6, 13))
    assert {**part, **rest} == whole
    assert log_of(tmp_path / "cut") == log_of(tmp_path / "whole")
    assert same_tensors(weights(tmp_path / "cut" / "last"), weights(tmp_path / "whole" / "last"))


def test_a_killed_process_resumes_bit_for_bit(tmp_path):
    """The same with the real command and SIGKILL, a data worker, the pool, bfloat16 and accumulation."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the other process: the order of sums depends on it
    values = recipe_values(tmp_path / "whole", steps=30, precision="bfloat16", accumulation=2)
    values["data"] |= {"workers": 1, "pool": 12}
    run(values)
    cut = tmp_path / "cut"
    values["output"]["folder"] = str(cut)
    process = start(values, tmp_path)
    log, limit = cut / "log.jsonl", time.monotonic() + 200
    while time.monotonic() < limit and process.poll() is None:
        if log.exists() and len(log.read_text().splitlines()) >= 4:
            process.kill()
            break
        time.sleep(0.002)
    _, text = process.communicate(timeout=200)
    assert process.returncode == -signal.SIGKILL, text
    run(values, resume=True)
    torch.set_num_threads(threads)
    assert log_of(cut) == log_of(tmp_path / "whole")
    assert same_tensors(weights(cut / "last"), weights(tmp_path / "whole" / "last"))


def start(values, folder, *launcher, arguments=(), before=None):
    """The real command line in a process (group) of its own, which calls `before` first."""
    recipe = folder / "recipe.toml"
    recipe.write_text(to_toml(values))
    command = [
        sys.executable,
        *launcher,
        str(Path(__file__).parents[1] / "support" / "tiny_system.py"),
        "train",
        str(recipe),
        *arguments,
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "REFSEG_CACHE": str(folder / "cache")}
    return subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True, preexec_fn=before
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_run_with_a_checkpoint_of_that_step(tmp_path, number):
    whole, _ = run(recipe_values(tmp_path / "whole"))
    values = recipe_values(tmp_path / "cut")

    def on_step(step, loss):
        if step == 7:
            os.kill(os.getpid(), number)

    outcome = train(parse_recipe(values), False, on_step)
    assert (outcome.step, outcome.signal) == (7, number)
    rest, outcome = run(values, resume=True)
    assert rest == {step: loss for step, loss in whole.items() if step > 7}
    assert outcome.signal == 0
    assert log_of(tmp_path / "cut") == log_of(tmp_path / "whole")


def test_workers_and_the_pool_do_not_change_what_is_learnt(tmp_path):
    def losses_of(name, **data):
        values = recipe_values(tmp_path / name, steps=4)
        values["data"] |= data
        return run(values)[0]

    assert losses_of("none") == losses_of("one", workers=1)
    pooled = losses_of("pool", pool=8)
    assert pooled == losses_of("again", pool=8, workers=1)
    assert pooled != losses_of("endless")


def test_accumulation_is_the_mean_over_its_pieces(tmp_path):
    """Without dropout and batch statistics the gradient of a batch is the mean over equal pieces."""
    losses = []
    for pieces in (1, 2, 4):
        values = recipe_values(tmp_path / str(pieces), steps=1, accumulation=pieces)
        values["model"] |= {"dropout": 0.0, "normalise": False}
        losses.append(run(values)[0][1])
        state = load_file(tmp_path / str(pieces) / "last" / "training.safetensors")
        losses.append(state["optimizer.vision.0.weight:exp_avg"])
    assert losses[2] == pytest.approx(losses[0], rel=1e-5)
    assert losses[4] == pytest.approx(losses[0], rel=1e-5)
    torch.testing.assert_close(losses[3], losses[1], rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(losses[5], losses[1], rtol=1e-4, atol=1e-7)


def test_clipping_bounds_what_the_optimiser_sees(tmp_path):
    values = recipe_values(tmp_path, steps=1, clip_norm=0.01)
    run(values)
    state = load_file(tmp_path / "last" / "training.safetensors")
    moments = [value for name, value in state.items() if name.endswith(":exp_avg")]
    # After one step Adam's first moment is (1 - beta) times the clipped gradient.
    total = torch.stack([moment.double().square().sum() for moment in moments]).sum().sqrt()
    assert float(total) / 0.1 == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize(
    "change",
    [{"training": {"seed": 4}}, {"data": {"seed": 1}}, {"data": {"sentences_per_picture": 1}}, {"data": {"plus": True}},
     {"data": {"pictures_per_batch": 3}}, {"optimizer": {"lr": 0.02}}, {"schedule": {"warmup_steps": 0}},
     {"training": {"precision": "bfloat16"}}, {"training": {"clip_norm": 0.1}}, {"training": {"ema_decay": 0.1}},
     {"model": {"width": 4}}, {"data": {"vocab_min_count": 20}}, {"data": {"split": "val"}}, {"data": {"size": 40}},
     {"data": {"sentences": 2}}],
)  # fmt: skip
def test_every_field_changes_the_run(tmp_path, change):
    base = recipe_values(tmp_path / "base", steps=3)
    other = recipe_values(tmp_path / "other", steps=3)
    for room, fields in change.items():
        other[room] = {**other[room], **fields}
    run(base)
    run(other)
    assert not same_tensors(weights(tmp_path / "base" / "last"), weights(tmp_path / "other" / "last"))


def test_a_loss_that_is_not_finite_ends_the_run_and_spares_the_checkpoint(tmp_path):
    values = recipe_values(tmp_path)
    values["model"]["fail_at"] = 8
    with pytest.raises(TrainingError, match=r"not finite at step 8 .*mask nan.*lower optimizer\.lr.*last"):
        run(values)
    assert json.loads((tmp_path / "last" / "training.json").read_text())["step"] == 5
    assert all(value.isfinite().all() for value in weights(tmp_path / "last").values())


def test_folders_are_not_mixed_up(tmp_path):
    values = recipe_values(tmp_path, steps=2)
    with pytest.raises(CheckpointError, match="no run to resume"):
        run(values, resume=True)
    run(values)
    with pytest.raises(ConfigError, match="holds a run already: add --resume"):
        run(values)
    values["model"]["width"] = 16
    with pytest.raises(CheckpointError, match=r"another model.*width"):
        run(values, resume=True)


def test_a_run_killed_before_its_first_checkpoint_begins_again(tmp_path):
    whole, _ = run(recipe_values(tmp_path / "whole"))
    run(recipe_values(tmp_path / "cut"), stop=3)
    again, _ = run(recipe_values(tmp_path / "cut"), resume=True)
    assert again == whole


def test_more_steps_can_be_asked_for_later(tmp_path, capsys):
    values = recipe_values(tmp_path, steps=4)
    run(values)
    values["training"]["steps"] = 6
    losses, _ = run(values, resume=True)
    assert sorted(losses) == [5, 6]
    assert "training.steps = 6 (was 4)" in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
def test_two_processes_train_as_one_with_two_pieces(tmp_path):
    """Each of two processes takes half of the batch; the same halves as accumulation in one process, averaged."""
    values = recipe_values(tmp_path / "two", steps=3)
    values["model"] |= {"dropout": 0.0, "normalise": False}
    process = start(values, tmp_path, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    try:
        _, text = process.communicate(timeout=250)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, text
    assert "2 x cpu" in text
    values["output"]["folder"] = str(tmp_path / "one")
    values["training"]["accumulation"] = 2
    run(values)
    for one, two in zip(log_of(tmp_path / "one"), log_of(tmp_path / "two"), strict=True):
        assert two[1] == pytest.approx(one[1], rel=1e-4)
        assert two[3] == pytest.approx(one[3], rel=1e-3)


@pytest.mark.slow
def test_two_processes_with_workers_stop_together_when_their_launcher_is_asked_to(tmp_path):
    """torchrun hands SIGTERM to whole process groups, data workers included."""
    values = recipe_values(tmp_path / "two", steps=100_000)
    values["data"]["workers"] = 1
    process = start(values, tmp_path, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    log, limit = tmp_path / "two" / "log.jsonl", time.monotonic() + 200
    try:
        while time.monotonic() < limit and process.poll() is None:
            if log.exists() and len(log.read_text().splitlines()) >= 4:
                process.terminate()
                break
            time.sleep(0.05)
        _, text = process.communicate(timeout=100)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert "stopped after step" in text, text
    assert "DataLoader worker" not in text
    assert (tmp_path / "two" / "last").is_dir()
