"""The small systems trained side by side: the same drawn scenes, the same expressions, as many of them for each.

    scenes, drawn once -> one encoder learns to see them -> its maps, kept in 16 bits
                                                              |
    one vocabulary -> for each entry and seed: its recipe -> training -> thresholds -> one evaluation set -> rows
                                          `-> parameters, multiply-accumulates, milliseconds

Systems whose picture encoder is the small ResNet start from the same one, which has learnt to see before
(`refseg.studies.shared_encoder`) and stays as it is; the others start from one of their kind that has had the same
lessons (`refseg.studies.starts`). Every run has a folder of its own with its training and, once it is done,
`result.json` and `rows.jsonl.gz`: what is finished is not trained again, what was interrupted goes on, what fails costs
nobody else anything, and several processes may work in one folder. What is compared stands in `refseg.studies.claims`;
`refseg.studies.report` writes it down.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from refseg.encoders.vision.resnet import SMALL_RESNET
from refseg.errors import CheckpointError, ConfigError, RefsegError
from refseg.files import locked, write_text
from refseg.metrics.bootstrap import confidence_interval
from refseg.metrics.counts import Row
from refseg.models.mattnet.config import MAttNetConfig
from refseg.studies import photographs, shared_encoder
from refseg.studies.finished import RESULT, RUNS, SETTINGS, VOCABULARY, carry, write_rows
from refseg.studies.finished import read_rows as rows_in
from refseg.studies.scene_sets import data_of, held_out, pool, test_set
from refseg.studies.settings import TARGET_ACCURACY, Run, Settings
from refseg.studies.starts import cached, encoder_digest, encoder_of, learn_to_see, start_of, with_encoder
from refseg.training.recipe import Recipe, parse_recipe, read_recipe, recipe_to_dict

__all__ = ["Stopped", "build_recipe", "collect", "prepare", "read_rows", "run_all", "run_folder", "time_runs"]

ERROR = "error.json"
CURVE_PICTURES = 25
_NO_SETTINGS = ("workers", "seeds", "budget", "claim_budget", "photographs")
"""Settings that change no number of a run; budgets stand in the runs' names, photographs have a folder of their own."""
METRICS = ("gIoU", "cIoU", "mIoU_target", "Pr@0.7", "N_acc", "T_acc", "Acc@0.5")
"""What is kept of a score; Acc@0.5 is of boxes, where a system gives them."""


class Stopped(RefsegError):
    """A signal ended the training in the middle; the same command goes on from there."""


class Busy(RefsegError):
    """Another process is at a run."""


def prepare(
    folder: Path,
    settings: Settings,
    recipes: Path,
    say: Callable[[str], None] = lambda text: None,
    kept: Path | None = None,
) -> None:
    """Make the folder ready: its settings, the vocabulary of the scenes that are learnt from, the shared encoder.

    What is finished in `kept` (see `refseg.studies.finished`) is taken over. Raises `ConfigError` when one of the two
    holds runs of other settings, since their numbers could not be compared, and `Stopped` when a signal ended the
    encoder's training.
    """
    _check_settings(folder, settings)
    if kept is not None:
        _check_settings(kept, settings)
        for name in carry(kept, folder):
            say(f"{name}: finished, from {kept}")
    if not (folder / SETTINGS).exists():
        write_text(folder / SETTINGS, json.dumps(asdict(settings), indent=1) + "\n")
    if not (folder / VOCABULARY).exists():
        from refseg.encoders.text.tokenizer import split_words

        words: dict[str, None] = {}
        for sample in pool(folder, settings, "train", min(settings.pool, 500)):
            words.update(dict.fromkeys(split_words(sample.text)))
        write_text(folder / VOCABULARY, "\n".join(sorted(words)) + "\n")
    if settings.encoder != "own":
        _see(SMALL_RESNET, recipes, folder, settings, say)
    if settings.photographs is not None:
        photographs.prepare(folder / photographs.FOLDER, settings.photographs, say)


def _see(
    config: object, recipes: Path, folder: Path, settings: Settings, say: Callable[[str], None]
) -> dict[str, float]:
    try:
        return learn_to_see(config, recipes, folder, settings, say)
    except shared_encoder.Stopped as stopped:
        raise Stopped(f"{stopped}; the same command goes on from there") from stopped


def _check_settings(folder: Path, settings: Settings) -> None:
    """Raises `ConfigError` when the folder holds runs of other settings."""
    stored, values = folder / SETTINGS, asdict(settings)
    if not stored.exists():
        return
    found = _read(stored)
    other = [name for name in values if name not in _NO_SETTINGS and found.get(name) != values[name]]
    if other:
        was = ", ".join(f"{name} = {found.get(name)} (now {values[name]})" for name in other)
        raise ConfigError(f"{stored}: was begun with {was}; give the same, or choose another folder")


def build_recipe(run: Run, recipes: Path, folder: Path, settings: Settings) -> Recipe:
    """The recipe that an entry is trained by: its system's, with the data, the length and the seed that all share.

    Optimiser, clipping and the schedule's form are the system's own; the warm-up takes a twentieth.
    """
    entry = run.entry
    recipe = read_recipe(recipes / entry.recipe, preset=entry.preset)
    values = recipe_to_dict(recipe)
    pictures = settings.photographs if run.photographs else None
    size = {"input": {"size": pictures.size if pictures else settings.size}}
    values["model"]["overrides"] = _merged(_merged(recipe.model.overrides, size), entry.overrides)
    data = replace(
        data_of(folder, settings, "train"),
        pictures_per_batch=settings.pictures_per_batch,
        sentences_per_picture=settings.sentences_per_picture,
        workers=settings.workers,
        vocabulary=str(folder / VOCABULARY),
    )
    values["data"] = recipe_to_dict(replace(recipe, data=data))["data"]
    steps = settings.steps(run.budget)
    values["training"] |= {"steps": steps, "seed": run.seed, "precision": settings.precision}
    values["schedule"] |= {"warmup_steps": steps // 20}
    if recipe.schedule.milestones:
        shrunk = {round(milestone * steps / recipe.training.steps) for milestone in recipe.schedule.milestones}
        values["schedule"]["milestones"] = sorted(shrunk)
    curve = settings.curve and run.seed == 0 and not pictures
    values["evaluation"] |= {
        "every": -(-steps // settings.curve) if curve else 0,
        "pictures": CURVE_PICTURES,
        "samples": 0,
    }
    values["output"] |= {
        "folder": str(run_folder(folder, run) / "run"),
        "log_every": max(1, min(50, steps // 5)),
        "checkpoint_every": max(20, min(500, steps // 10)),
        "half": False,
        "tensorboard": False,
    }
    whole = parse_recipe(values)
    if pictures:
        return photographs.on_photographs(whole, folder / photographs.FOLDER, pictures)
    config = whole.model_config()
    if isinstance(config, MAttNetConfig):
        return cached(whole, folder, (config.vision, config.detector, config.grid, config.regions, config.input))
    return with_encoder(whole, folder, settings) if settings.encoder != "own" else whole


def run_folder(folder: Path, run: Run) -> Path:
    """Where a training is kept."""
    return folder / RUNS / run.name


def run_all(
    runs: Sequence[Run],
    recipes: Path,
    folder: Path,
    settings: Settings,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, dict[str, Any]]:
    """Train and score what is not finished yet: name of the run -> result, or {"error": ...} where it failed.

    What another process is at is left to it, and in no result. Raises `Stopped` when a signal ended a training.
    """
    results: dict[str, dict[str, Any]] = {}
    for number, run in enumerate(runs, start=1):
        place = f"[{number} of {len(runs)}] {run}"
        try:
            recipe = build_recipe(run, recipes, folder, settings)
            known = finished(run, recipe, folder)
            say(f"{place}: {'is finished' if known else f'{recipe.training.steps} steps'}")
            if known is None:
                with _mine(run_folder(folder, run)):
                    known = finished(run, recipe, folder) or _run(run, recipe, recipes, folder, settings, say)
            results[run.name] = known
            (run_folder(folder, run) / ERROR).unlink(missing_ok=True)
        except Stopped:
            raise
        except Busy as busy_now:
            say(f"{place}: {busy_now}")
        except Exception as error:  # whatever it is, the other runs go on
            message = " ".join(str(error).split()) or type(error).__name__
            say(f"{place}: not done: {message}")
            if not isinstance(error, RefsegError):
                say(traceback.format_exc())
            results[run.name] = {"error": message}
            write_text(run_folder(folder, run) / ERROR, json.dumps({"error": message}) + "\n")
    return results


def collect(runs: Sequence[Run], recipes: Path, folder: Path, settings: Settings) -> dict[str, dict[str, Any]]:
    """The results of all runs, whichever process they are of: name -> result, or {"error": why there is none}."""
    results: dict[str, dict[str, Any]] = {}
    for run in runs:
        try:
            known = finished(run, build_recipe(run, recipes, folder, settings), folder)
        except RefsegError as error:
            results[run.name] = {"error": " ".join(str(error).split())}
            continue
        path = run_folder(folder, run) / ERROR
        results[run.name] = known or (_read(path) if path.exists() else {"error": "is not finished"})
    return results


@contextmanager
def _mine(own: Path) -> Iterator[None]:
    """The run's folder, for this process alone. Raises `Busy` where another one is at it."""
    own.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(own / ".lock", "process {} is at it"))
        except RefsegError as error:
            raise Busy(str(error)) from error
        yield


def finished(run: Run, recipe: Recipe, folder: Path) -> dict[str, Any] | None:
    """What a run gave, None before its end. Raises `CheckpointError` for the result of another model."""
    path = run_folder(folder, run) / RESULT
    if not path.exists():
        return None
    result = _read(path)
    if result.get("model") != _model_of(recipe):
        raise CheckpointError(
            f"{path}: is of another model than {run.entry.name} is now; delete {path.parent} to train it again"
        )
    return result


def read_rows(folder: Path, run: Run) -> list[Row]:
    """What a finished run answered, expression by expression."""
    return rows_in(run_folder(folder, run))


def _run(
    run: Run, recipe: Recipe, recipes: Path, folder: Path, settings: Settings, say: Callable[[str], None]
) -> dict[str, Any]:
    from refseg.evaluation.evaluate import native_protocol
    from refseg.inference.checkpoint import load_model
    from refseg.inference.predictor import choose_device
    from refseg.studies.operation_counts import count_cost
    from refseg.training.loop import train
    from refseg.training.setup import RECIPE

    own = run_folder(folder, run)
    final = own / "run" / "final"
    seen = None
    if recipe.pretrained.vision and not run.photographs:
        seen = _see(encoder_of(recipe), recipes, folder, settings, say)
    if not final.exists():
        outcome = train(recipe, resume=(own / "run" / RECIPE).exists())
        if outcome.signal:
            raise Stopped(f"{run} was stopped after step {outcome.step}; the same command goes on from there")
    device = choose_device("auto")
    model, tokenizer, info = load_model(final, device)
    if settings.thresholds == "calibrated" and "calibration" not in info:
        from refseg.evaluation.calibrate import calibrate, store

        # Seven of eight expressions have a target: gIoU alone would have a model say *none* hardly ever.
        chosen = calibrate(
            model, tokenizer, held_out(folder, settings), target_accuracy=TARGET_ACCURACY, slack=0.02, lean="none"
        )
        store(final, chosen, "drawn scenes, val")
        model, tokenizer, info = load_model(final, device)
    protocol = native_protocol(info)
    tests = {"scenes": test_set(folder, settings)}
    if run.photographs and settings.photographs is not None:
        tests = photographs.open_test_sets(settings.photographs)
    scores, rows = photographs.score_all(model, tokenizer, tests, protocol)
    for name, each in scores.items():
        say(f"  {name}  " + "  ".join(f"{key} {each[key]:.4f}" for key in METRICS[:6] if key in each))
    config: Any = model.config
    cost = count_cost(config)
    document, curve = next(iter(scores.values())).to_dict(), _curve(own / "run" / "log.jsonl")
    training = {name: info["training"][name] for name in ("step", "sentences", "seconds")}
    if curve:
        training["seconds"] = curve[-1]["seconds"]
    kinds = document["breakdowns"].get("kind", {})
    result = {
        "name": run.entry.name,
        "seed": run.seed,
        "budget": run.budget,
        "recipe": run.entry.recipe,
        "overrides": dict(run.entry.overrides),
        "model": _model_of(recipe),
        "encoder": "photographs" if run.photographs else start_of(recipe, settings),
        "encoder_file": encoder_digest(recipe),
        "encoder_kind": type(encoder_of(recipe)).__name__.removesuffix("Config"),
        "encoder_probe": seen,
        "parameters": cost.parameters,
        "macs": cost.macs,
        "macs_of_a_further_sentence": cost.further_sentence,
        "training": training | {"precision": recipe.training.precision, "device": str(device)},
        "thresholds": [protocol.threshold, protocol.no_target_threshold],
        "metrics": {name: document["metrics"][name] for name in METRICS if name in document["metrics"]},
        "counts": document["counts"],
        "kinds": {kind: {name: row[name] for name in ("sentences", "gIoU")} for kind, row in kinds.items()},
        "curve": curve,
    }
    if run.photographs:
        result["sets"] = {name: photographs.kept(each, METRICS) for name, each in scores.items()}
    first = next(iter(rows.values()))
    interval = confidence_interval([Row.from_dict(row) for row in first], "gIoU")
    result["gIoU_interval"] = [interval.low, interval.high]
    write_rows(own, first)
    write_text(own / RESULT, json.dumps(result, indent=1) + "\n")
    return result


def _curve(log: Path) -> list[dict[str, float]]:
    """The evaluations during a training: expressions seen, seconds of training without evaluations, gIoU on scenes of
    the split val."""
    points: list[dict[str, float]] = []
    last, evaluating = {"sentences": 0.0, "seconds": 0.0}, 0.0
    for line in log.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        if "sentences" in entry:
            last = {"sentences": float(entry["sentences"]), "seconds": round(float(entry["seconds"]) - evaluating, 2)}
        elif "metrics" in entry:
            points.append({**last, "gIoU": entry["metrics"]["gIoU"]})
            evaluating += float(entry["evaluation_seconds"])
    return points


def time_runs(runs: Sequence[Run], folder: Path, rounds: int = 5, expressions: int = 5) -> dict[str, dict[str, Any]]:
    """Milliseconds of finished runs by entry, one after the other so that the machine is alike for all: of a picture
    with one expression and of each further one on it, medians over `rounds` (see `refseg benchmark`)."""
    import torch

    from refseg.studies.benchmark import Options, run_benchmark

    device = "cuda" if torch.cuda.is_available() else "cpu"
    found: dict[str, dict[str, Any]] = {}
    for run in runs:
        final = run_folder(folder, run) / "run" / "final"
        if not (run_folder(folder, run) / RESULT).exists():
            continue
        report = run_benchmark(Options(str(final), device, sentences=(1, expressions), rounds=rounds))
        first, many = (case.summary()["median"]["total"] * 1000 for case in report.cases)
        found[run.entry.name] = {
            "picture": round(first, 3),
            "further_sentence": round((many - first) / (expressions - 1), 3),
            "machine": report.machine,
        }
    return found


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
