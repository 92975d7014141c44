"""The small systems trained side by side: the same drawn scenes, the same sentences, as many of them for each.

    one pool of scenes, one vocabulary -> for each entry: its recipe -> training -> thresholds -> one evaluation set
                                                       `-> parameters, multiply-accumulates, milliseconds

Every entry has a folder of its own with its training run and, once it is done, `result.json`: what is finished is not
trained again, what was interrupted goes on, and what fails costs nobody else anything. What is compared stands in
`refseg.studies.claims`; `refseg.studies.report` writes it down.
"""

from __future__ import annotations

import json
import re
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from refseg.data.sample import ReferringDataset, Sample
from refseg.errors import CheckpointError, ConfigError, RefsegError
from refseg.files import write_text
from refseg.studies.claims import Entry
from refseg.training.recipe import DataRecipe, Recipe, parse_recipe, read_recipe, recipe_to_dict

__all__ = ["Settings", "Stopped", "build_recipe", "prepare", "run_entries", "time_entries"]

SETTINGS, RESULT, VOCABULARY = "settings.json", "result.json", "vocabulary.txt"
METRICS = ("gIoU", "cIoU", "mIoU_target", "Pr@0.7", "N_acc", "T_acc", "Acc@0.5")
"""What is kept of a score; Acc@0.5 is of boxes, where a system gives them."""


class Stopped(RefsegError):
    """A signal ended the training in the middle; the same command goes on from there."""


@dataclass(frozen=True)
class Settings:
    """What all entries share."""

    budget: int = 10_000
    """Sentences that each entry is trained on, one after the other; a picture's sentences share its encoding."""
    pictures_per_batch: int = 8
    sentences_per_picture: int = 6
    pool: int = 2000
    """Different scenes to learn from."""
    sentences: int = 24
    """Sentences that a scene is drawn with."""
    size: int = 192
    """Side of a scene in pixels."""
    seed: int = 0
    """Of the scenes that are learnt from, of the first weights and of the order."""
    test_seed: int = 1_000_003
    """Of the scenes that are scored: another world than the one that is learnt from."""
    test_pictures: int = 50
    thresholds: Literal["plain", "calibrated"] = "plain"
    """plain: .5 for masks and no-target probabilities, for all. calibrated: chosen for each on further scenes, as
    `refseg calibrate` does, never on those that are scored."""
    workers: int = 0
    """Processes that prepare batches beside the training process."""

    def __post_init__(self) -> None:
        for name in ("budget", "pictures_per_batch", "sentences_per_picture", "pool", "sentences", "test_pictures"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)}: 1 or more is wanted")
        if self.workers < 0:
            raise ConfigError(f"workers={self.workers}: 0 or more is wanted")
        if self.test_seed == self.seed:
            raise ConfigError(f"test_seed={self.test_seed}: the scenes that are scored want a seed of their own")

    @property
    def steps(self) -> int:
        """Optimiser steps of every entry."""
        return max(1, round(self.budget / (self.pictures_per_batch * self.sentences_per_picture)))


def prepare(folder: Path, settings: Settings) -> None:
    """Make the folder ready: its settings, and the vocabulary of the scenes that are learnt from.

    Raises `ConfigError` when the folder holds entries of other settings, since their numbers could not be compared.
    """
    stored, values = folder / SETTINGS, asdict(settings)
    if stored.exists():
        found = _read(stored)
        # How many processes prepare batches changes no number.
        other = [name for name in values if name != "workers" and found.get(name) != values[name]]
        if other:
            was = ", ".join(f"{name} = {found.get(name)} (now {values[name]})" for name in other)
            raise ConfigError(f"{stored}: was begun with {was}; give the same, or choose another folder")
    else:
        write_text(stored, json.dumps(values, indent=1) + "\n")
    if not (folder / VOCABULARY).exists():
        from refseg.encoders.text.tokenizer import split_words

        words: dict[str, None] = {}
        for sample in _pool(folder, settings, "train", min(settings.pool, 500)):
            words.update(dict.fromkeys(split_words(sample.text)))
        write_text(folder / VOCABULARY, "\n".join(sorted(words)) + "\n")


def build_recipe(entry: Entry, recipes: Path, folder: Path, settings: Settings) -> Recipe:
    """The recipe that an entry is trained by: its system's, with the data, the length and the seed that all share.

    Optimiser, precision, clipping and the schedule's form are the system's own; the warm-up takes a twentieth.
    """
    recipe = read_recipe(recipes / entry.recipe)
    values = recipe_to_dict(recipe)
    values["model"]["overrides"] = _merged(recipe.model.overrides, entry.overrides)
    values["model"]["preset"] = entry.preset or recipe.model.preset
    data = replace(
        _data(folder, settings, "train"),
        pictures_per_batch=settings.pictures_per_batch,
        sentences_per_picture=settings.sentences_per_picture,
        workers=settings.workers,
        vocabulary=str(folder / VOCABULARY),
    )
    values["data"] = recipe_to_dict(replace(recipe, data=data))["data"]
    steps = settings.steps
    values["training"] |= {"steps": steps, "seed": settings.seed}
    values["schedule"] |= {"warmup_steps": steps // 20}
    if recipe.schedule.milestones:
        shrunk = {round(milestone * steps / recipe.training.steps) for milestone in recipe.schedule.milestones}
        values["schedule"]["milestones"] = sorted(shrunk)
    values["evaluation"]["every"] = 0
    values["output"] |= {
        "folder": str(run_folder(folder, entry) / "run"),
        "log_every": max(1, min(50, steps // 5)),
        "checkpoint_every": max(20, steps // 10),
        "half": False,
        "tensorboard": False,
    }
    return parse_recipe(values)


def run_folder(folder: Path, entry: Entry) -> Path:
    """Where an entry is kept."""
    return folder / "entries" / re.sub(r"[^a-z0-9]+", "-", entry.name.lower()).strip("-")


def run_entries(
    entries: Sequence[Entry],
    recipes: Path,
    folder: Path,
    settings: Settings,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, dict[str, Any]]:
    """Train and score what is not finished yet: name -> result, or {"error": ...} where an entry failed.

    Raises `Stopped` when a signal ended an entry's training.
    """
    results: dict[str, dict[str, Any]] = {}
    for number, entry in enumerate(entries, start=1):
        place = f"[{number} of {len(entries)}] {entry.name}"
        try:
            recipe = build_recipe(entry, recipes, folder, settings)
            known = finished(entry, recipe, folder)
            say(f"{place}: {'is finished' if known else f'{settings.steps} steps'}")
            results[entry.name] = known or _run(entry, recipe, folder, settings, say)
        except Stopped:
            raise
        except Exception as error:  # whatever it is, the other entries go on
            message = " ".join(str(error).split()) or type(error).__name__
            say(f"{place}: failed: {message}")
            if not isinstance(error, RefsegError):
                say(traceback.format_exc())
            results[entry.name] = {"error": message}
    return results


def finished(entry: Entry, recipe: Recipe, folder: Path) -> dict[str, Any] | None:
    """What an entry gave, None before its end. Raises `CheckpointError` for the result of another model."""
    path = run_folder(folder, entry) / RESULT
    if not path.exists():
        return None
    result = _read(path)
    if result.get("model") != _model_of(recipe):
        raise CheckpointError(
            f"{path}: is of another model than {entry.name} is now; delete {path.parent} to train it again"
        )
    return result


def _run(entry: Entry, recipe: Recipe, folder: Path, settings: Settings, say: Callable[[str], None]) -> dict[str, Any]:
    from refseg.evaluation.evaluate import evaluate_model, native_protocol
    from refseg.inference.checkpoint import load_model
    from refseg.inference.predictor import choose_device
    from refseg.studies.operation_counts import count_cost
    from refseg.training.loop import train
    from refseg.training.setup import RECIPE

    own = run_folder(folder, entry)
    final = own / "run" / "final"
    if not final.exists():
        outcome = train(recipe, resume=(own / "run" / RECIPE).exists())
        if outcome.signal:
            raise Stopped(f"{entry.name} was stopped after step {outcome.step}; the same command goes on from there")
    device = choose_device("auto")
    model, tokenizer, info = load_model(final, device)
    if settings.thresholds == "calibrated" and "calibration" not in info:
        from refseg.evaluation.calibrate import calibrate, store

        store(final, calibrate(model, tokenizer, _held_out(folder, settings)), "drawn scenes, val")
        model, tokenizer, info = load_model(final, device)
    protocol = native_protocol(info)
    score = evaluate_model(model, tokenizer, test_set(folder, settings), protocol, batch_size=64)
    say("  " + "  ".join(f"{name} {score[name]:.4f}" for name in METRICS[:6] if name in score))
    config: Any = model.config
    cost = count_cost(config)
    document = score.to_dict()
    kinds = document["breakdowns"].get("kind", {})
    result = {
        "name": entry.name,
        "recipe": entry.recipe,
        "overrides": dict(entry.overrides),
        "model": _model_of(recipe),
        "parameters": cost.parameters,
        "macs": cost.macs,
        "macs_of_a_further_sentence": cost.further_sentence,
        "training": {name: info["training"][name] for name in ("step", "sentences", "seconds")}
        | {"precision": recipe.training.precision, "device": str(device)},
        "thresholds": [protocol.threshold, protocol.no_target_threshold],
        "metrics": {name: document["metrics"][name] for name in METRICS if name in document["metrics"]},
        "counts": document["counts"],
        "kinds": {kind: {name: row[name] for name in ("sentences", "gIoU")} for kind, row in kinds.items()},
    }
    write_text(own / RESULT, json.dumps(result, indent=1) + "\n")
    return result


def time_entries(
    entries: Sequence[Entry], folder: Path, rounds: int = 5, sentences: int = 5
) -> dict[str, dict[str, Any]]:
    """Milliseconds of finished entries, one after the other so that the machine is alike for all: of a picture with one
    sentence and of each further sentence on it, medians over `rounds` (see `refseg benchmark`)."""
    import torch

    from refseg.studies.benchmark import Options, run_benchmark

    device = "cuda" if torch.cuda.is_available() else "cpu"
    found: dict[str, dict[str, Any]] = {}
    for entry in entries:
        final = run_folder(folder, entry) / "run" / "final"
        if not (run_folder(folder, entry) / RESULT).exists():
            continue
        report = run_benchmark(Options(str(final), device, sentences=(1, sentences), rounds=rounds))
        first, many = (case.summary()["median"]["total"] * 1000 for case in report.cases)
        found[entry.name] = {
            "picture": round(first, 3),
            "further_sentence": round((many - first) / (sentences - 1), 3),
            "machine": report.machine,
        }
    return found


def test_set(folder: Path, settings: Settings) -> ReferringDataset:
    """The scenes that are scored; drawn once and kept."""
    return _scenes(folder, settings, "test")


def _held_out(folder: Path, settings: Settings) -> ReferringDataset:
    """Scenes to choose thresholds on: neither learnt from nor scored."""
    return _scenes(folder, settings, "val")


def _scenes(folder: Path, settings: Settings, split: str) -> ReferringDataset:
    return ReferringDataset(list(_pool(folder, settings, split, settings.test_pictures)), name="scenes", split=split)


def _data(folder: Path, settings: Settings, split: str) -> DataRecipe:
    return DataRecipe(
        seed=settings.test_seed if split == "test" else settings.seed,
        split="train" if split == "train" else "val",
        size=settings.size,
        sentences=settings.sentences,
        pool=settings.pool if split == "train" else settings.test_pictures,
        pool_folder=str(folder / "scenes" / split),
    )


def _pool(folder: Path, settings: Settings, split: str, count: int) -> Iterator[Sample]:
    """The sentences of the first `count` scenes."""
    from refseg.training.pool import ScenePool

    pool = ScenePool.of(_data(folder, settings, split))
    for index in range(count):
        yield from pool[index]


def _model_of(recipe: Recipe) -> dict[str, Any]:
    """The whole configuration, as JSON gives it back."""
    from refseg.models import config_to_dict

    return dict(json.loads(json.dumps(config_to_dict(recipe.model_config()))))


def _merged(base: Any, changes: Any) -> dict[str, Any]:
    """Nested fields, the second's in the place of the first's."""
    result = dict(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = _merged(result[key], value) if both else value
    return result


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error}); delete it to make it anew") from error
