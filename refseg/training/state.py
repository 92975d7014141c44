"""Checkpoints of a run: `last` is a model folder with what training needs to go on exactly where it was.

training.safetensors holds the weights as they are (model.safetensors has their moving average when there is one) and
the optimiser's tensors by parameter name; training.json the numbers. The order of the data and all random numbers are
functions of seed and step, so no generator's state is part of it.
"""

from __future__ import annotations

import json
import random
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from refseg.encoders.text.tokenizer import Tokenizer
from refseg.errors import CheckpointError
from refseg.files import recover_folder, replacing_folder
from refseg.inference.checkpoint import check_files, read_config, write_model
from refseg.inference.locate import WEIGHTS
from refseg.state_dicts import listed, load_weights, not_finite, read_tensors, write_tensors
from refseg.training.ema import WeightEMA
from refseg.training.monitor import LOG, last_step

NUMBERS, TENSORS = "training.json", "training.safetensors"
LAST, PREVIOUS, BEST, FINAL = "last", "previous", "best", "final"
"""Folders of a run: the newest checkpoint, the one before it, the weights that scored best, those of the end."""


@dataclass
class Progress:
    """How far a run is. `sums` and `summed` are the losses since the last line of the log."""

    step: int = 0
    "optimiser steps done"
    sentences: int = 0
    seconds: float = 0.0
    "time spent in the loop, over all its resumptions"
    best: float | None = None
    best_step: int | None = None
    sums: dict[str, float] = field(default_factory=dict)
    summed: int = 0
    scaler: dict[str, Any] = field(default_factory=dict)
    "state of the loss scaler (precision float16)"


def save_state(
    folder: Path,
    model: nn.Module,
    tokenizer: Tokenizer,
    optimizer: torch.optim.Optimizer,
    ema: WeightEMA | None,
    progress: Progress,
    info: dict[str, Any],
) -> None:
    """Write the checkpoint, whole or not at all; the one before goes to `PREVIOUS` beside it.

    Raises `CheckpointError` for weights that are not finite.
    """
    tensors = {f"optimizer.{name}": value for name, value in _optimizer_tensors(optimizer).items()}
    if ema is not None:
        tensors |= {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors = {name: value.detach().to("cpu", copy=True).contiguous() for name, value in tensors.items()}
    if strange := not_finite({name: value for name, value in tensors.items() if name.startswith("model.")}):
        raise CheckpointError(f"the checkpoint is not saved: these are not finite numbers: {listed(strange)}")
    with replacing_folder(folder, keep=folder.parent / PREVIOUS) as temporary:
        # First what config.json, which is written last, holds the checksums of.
        write_tensors(temporary / TENSORS, tensors)
        (temporary / NUMBERS).write_text(json.dumps(asdict(progress), indent=1) + "\n", encoding="utf-8")
        write_model(temporary, model, tokenizer, info, state=ema.tensors if ema is not None else None)


def find_checkpoint(run: Path) -> tuple[Path | None, str]:
    """The newest whole checkpoint in the folder of a run (None where there is none), and what people should know of it.

    Every file is compared with its checksum. Raises `CheckpointError` when there are checkpoints and all are damaged.
    """
    recover_folder(run / LAST)
    there = [run / name for name in (LAST, PREVIOUS) if (run / name).is_dir()]
    problems: list[CheckpointError] = []
    for folder in there:
        try:
            check_files(folder, read_config(folder), tensors=(WEIGHTS, TENSORS))
            step = read_progress(folder).step
        except CheckpointError as error:
            problems.append(error)
            continue
        if folder.name == LAST:
            return folder, ""
        reason = f"{LAST} is damaged ({problems[0]})" if problems else f"{LAST} is gone"
        return folder, f"{reason}: going on from {PREVIOUS}, step {step}"
    if problems:
        raise problems[0]
    return None, ""


def check_not_lost(run: Path, steps: int, checkpoint_every: int) -> None:
    """Raises `CheckpointError` when the folder of a run that has no checkpoint shows that there was one.

    `steps` and `checkpoint_every` are those of its recipe: a run of fewer steps than `checkpoint_every` has its only
    checkpoint when it is finished, and people move `final` elsewhere.
    """
    reached = last_step(run / LOG)
    finished = (run / FINAL).is_dir() or reached >= steps
    if finished or reached > checkpoint_every:
        done = "is finished" if finished else f"had done {reached} steps"
        raise CheckpointError(
            f"{run}: the run {done}, but its checkpoints ({LAST}, {PREVIOUS}) are gone; put one back, or begin another "
            "run in another output.folder"
        )


def load_state(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, ema: WeightEMA | None) -> Progress:
    """Put a checkpoint into model, optimiser and average; says how far the run was.

    Raises `CheckpointError` when there is none, it is damaged, or it is of another model or optimiser.
    """
    progress = read_progress(folder)
    tensors = read_tensors(folder / TENSORS)
    saved = read_tensors(folder / WEIGHTS)
    own = {name[len("model.") :]: value for name, value in tensors.items() if name.startswith("model.")}
    load_weights(model, own or saved, str(folder))
    if ema is not None:
        # A run that kept none before starts one from its weights.
        for name, value in ema.tensors.items():
            value.copy_(saved[name])
    prefix = "optimizer."
    moments = {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}
    _restore_optimizer(optimizer, moments, folder / TENSORS)
    return progress


def read_progress(folder: Path) -> Progress:
    """training.json of a checkpoint."""
    path = folder / NUMBERS
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if set(values) != {item.name for item in fields(Progress)}:
            raise ValueError("other fields than a checkpoint's")
        return Progress(**values)
    except OSError as error:
        raise CheckpointError(f"{folder}: no checkpoint to resume from ({NUMBERS} is missing)") from error
    except (TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: damaged: {error}") from error


def seed_step(seed: int, step: int, piece: int) -> None:
    """Set every generator for one piece of one step, so that dropout is a function of (seed, step, piece) alone."""
    words = np.random.SeedSequence([seed, step, piece]).generate_state(3)
    random.seed(int(words[0]))
    np.random.seed(int(words[1]))
    torch.manual_seed(int(words[2]))


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    result = {}
    for group in optimizer.param_groups:
        for name, parameter in zip(group["names"], group["params"], strict=True):
            for key, value in optimizer.state.get(parameter, {}).items():
                if value is not None:
                    result[f"{name}:{key}"] = value if isinstance(value, Tensor) else torch.tensor(value)
    return result


def _restore_optimizer(optimizer: torch.optim.Optimizer, moments: dict[str, Tensor], path: Path) -> None:
    by_parameter: dict[str, dict[str, Tensor]] = {}
    for name, value in moments.items():
        parameter_name, _, key = name.rpartition(":")
        by_parameter.setdefault(parameter_name, {})[key] = value
    for group in optimizer.param_groups:
        for name, parameter in zip(group["names"], group["params"], strict=True):
            state = by_parameter.pop(name, None)
            if state is None:
                continue
            for key, value in state.items():
                if value.ndim and value.shape != parameter.shape:
                    raise CheckpointError(f"{path}: {name}:{key} is {tuple(value.shape)}, not {tuple(parameter.shape)}")
            # The step counters of Adam stay on the CPU, moments go where the parameter is.
            optimizer.state[parameter] = {
                key: value.to(parameter.device) if value.ndim else value for key, value in state.items()
            }
    if by_parameter:
        raise CheckpointError(
            f"{path}: the optimiser's tensors are of other parameters: {', '.join(sorted(by_parameter)[:5])}"
        )
