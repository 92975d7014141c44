"""`refseg evaluate` and `refseg calibrate`: score a model on a data set, and choose its thresholds on one."""

from __future__ import annotations

import json as json_format
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from refseg.cli import options
from refseg.cli.app import App
from refseg.cli.options import arg, flag, opt
from refseg.cli.tables import print_table
from refseg.errors import RefsegError
from refseg.inference import DEFAULT_MODEL

if TYPE_CHECKING:
    from refseg.data import ReferringDataset
    from refseg.metrics import Protocol

FEWEST = 200
"""Expressions that thresholds are chosen from, unless --force says that fewer will do."""

app = App()


def _mask_protocols() -> list[Protocol]:
    from refseg.metrics import PROTOCOLS

    return [entry for entry in PROTOCOLS.values() if entry.task == "masks"]


def _protocols_here() -> list[Protocol]:
    """Of masks first, then the others."""
    from refseg.metrics import PROTOCOLS

    return [*_mask_protocols(), *(entry for entry in PROTOCOLS.values() if entry.task != "masks")]


def _describe_protocols() -> tuple[str, list[tuple[str, str]]]:
    return "protocols", [(entry.name, entry.title) for entry in _protocols_here()]


def _lines_option(text: str) -> Any:
    return opt("FILE.jsonl", text, group=options.WRITING)


@app.command("evaluate", more=_describe_protocols)
def evaluate(
    data: options.Data,
    split: options.Split,
    dataset: options.Dataset = None,
    split_by: options.SplitBy = None,
    limit: options.Limit = None,
    shard: Annotated[str, opt("K/N", "only every N-th picture from the K-th on", group=options.DATA)] = "0/1",
    model: options.Model = DEFAULT_MODEL,
    proposals: options.Proposals = None,
    device: options.Device = "auto",
    precision: options.Precision = "float32",
    device_map: options.DeviceMap = None,
    compile: options.Compile = False,
    protocol: Annotated[
        str,
        opt(
            "NAME",
            "a protocol, several with commas, or all of masks",
            names=lambda: ["all", *(entry.name for entry in _protocols_here())],
            group=options.COUNTING,
        ),
    ] = "native",
    threshold: options.Threshold = None,
    no_target_threshold: options.NoTargetThreshold = None,
    boundary: options.Boundary = False,
    minimum_pixels: Annotated[
        int | None,
        opt(
            "N",
            "none is said where fewer pixels are foreground, and by nothing else (GRES: 50)",
            "--minimum-pixels",
            group=options.COUNTING,
            check=options.at_least(1),
        ),
    ] = None,
    erase_words: Annotated[
        Literal["attention", "random"] | None,
        opt(
            "attention|random",
            "a word of each expression is erased: the one that the model reads most, or any",
            "--erase-words",
            group=options.COUNTING,
        ),
    ] = None,
    oracle: Annotated[
        Literal["location", "mask"] | None,
        opt("location|mask", "isfp: as if that branch were right", "--oracle", group=options.COUNTING),
    ] = None,
    clip_frames: Annotated[
        int | None,
        opt(
            "N",
            "video: frames that a model of clips sees at once (default: the whole clip)",
            "--clip-frames",
            group=options.COUNTING,
            check=options.at_least(1),
        ),
    ] = None,
    submission: Annotated[
        Path | None,
        opt("DIR", "video: a new folder of PNG files as the benchmark's server takes them", group=options.WRITING),
    ] = None,
    json: Annotated[Path | None, options.json_file("metrics, counts, the protocol and breakdowns")] = None,
    rows: Annotated[Path | None, _lines_option("a line an expression; refseg score --rows counts them again")] = None,
    predictions: Annotated[Path | None, _lines_option("masks as refseg score reads them")] = None,
    targets: Annotated[Path | None, _lines_option("the targets as refseg score reads them")] = None,
    batch_size: options.BatchSize = 16,
    workers: options.Workers = 0,
    ray: options.Ray = None,
    actors: options.Actors = None,
    gpus: options.Gpus = 0.0,
    cpus: options.Cpus = 1.0,
) -> None:
    """Score a model on a data set under a named protocol.

    Thresholds can be given for "native" and the protocols of video only: the others have their own. Every file and
    folder that is written is whole or absent.
    """
    part = _shard(shard)
    chosen = _protocols(protocol)
    for option, path in (("--json", json), ("--rows", rows), ("--predictions", predictions), ("--targets", targets)):
        options.check_file(path, option)
    options.check_ray(ray, actors, gpus)
    if ray is not None and (proposals or erase_words or oracle or submission or device_map or compile):
        raise RefsegError(
            "--ray: not together with --proposals (but --model instances@NAME), --erase-words, --oracle, --submission, "
            "--device-map or --compile"
        )
    from refseg.cli.score import print_score
    from refseg.data import open_dataset
    from refseg.evaluation import erase as erasing
    from refseg.evaluation.clips import first_clips
    from refseg.evaluation.evaluate import Writers, evaluate_protocols
    from refseg.evaluation.leaderboard import trained_as
    from refseg.evaluation.oracle import oracle_of
    from refseg.evaluation.score import protocol_table, write_score
    from refseg.evaluation.submission import check_submission, writing_submission
    from refseg.files import write_text
    from refseg.inference.predictor import load
    from refseg.progress import progress

    samples = open_dataset(data, dataset, split, split_by)
    if samples.problems:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in samples.problem_counts().items())
        print(f"the data set has problems ({kinds}); refseg data check {data} lists them", file=sys.stderr)
    if submission is not None:
        check_submission(submission, samples.name, chosen[0])
    if chosen[0].task == "video":
        samples = first_clips(samples, limit or 0)
    elif limit is not None:
        samples = samples[:limit]
    segmenter = load(
        model, device=device, precision=precision, proposals=proposals, device_map=device_map, compile=compile
    )
    protocols = [_with_thresholds(entry, threshold, no_target_threshold, segmenter.info) for entry in chosen]
    if minimum_pixels is not None:
        protocols = [_with_pixel_rule(entry, minimum_pixels) for entry in protocols]
    right = None if oracle is None else oracle_of(oracle, segmenter.model)
    changed: dict[str, Any] = {} if oracle is None else {"oracle": oracle}
    if erase_words is not None:
        with progress("reading words") as update:
            erased = erasing.erase_words(
                segmenter.model,
                segmenter.tokenizer,
                samples,
                erase_words,
                batch_size=batch_size,
                workers=workers,
                progress=update,
            )
        changed["erased"] = {"by": erase_words, "expressions": erased.count}
        kept = len(samples) - erased.count
        print(f"{erased.count:,} expressions have lost a word, {kept:,} of a single word have not", file=sys.stderr)
        samples = erased.samples
    with ExitStack() as stack:
        writers = [stack.enter_context(_json_lines(path)) if path else None for path in (rows, predictions, targets)]
        sent = None
        if submission is not None:
            sent = stack.enter_context(writing_submission(submission, samples.name, protocols[0]))
        scored = partial(
            evaluate_protocols,
            segmenter.model,
            segmenter.tokenizer,
            samples,
            protocols,
            batch_size=batch_size,
            workers=workers,
            precision=precision,
            boundary=boundary,
            shard=part,
            oracle=right,
            clip_frames=clip_frames,
            submission=sent,
        )
        if ray is not None:
            from refseg.apps.batch.evaluation import Job, evaluate_elsewhere, lines_of
            from refseg.apps.batch.execute import Cluster
            from refseg.inference.locate import full_name

            name = full_name(model)
            lines = lines_of(Writers(*writers))
            job = Job(
                data.absolute(), dataset, split, split_by, limit, part, name, device, precision, tuple(protocols),
                boundary, batch_size, lines,
            )  # fmt: skip
            cluster = Cluster(ray, actors, cpus, gpus)
            scored = partial(evaluate_elsewhere, job, len(samples.by_picture()), cluster=cluster)
        update = stack.enter_context(progress("expressions" if ray is None else "parts"))
        scores = scored(writers=Writers(*writers), progress=update)
    if sent is not None:
        print(f"{sent.files:,} files for the server in {submission}")
    _tell_unknown_words(samples, segmenter.tokenizer)
    for problem in scores[0].problems:
        print(f"not evaluated: {problem}", file=sys.stderr)
    if hidden := scores[0].counts["unannotated"]:
        where = predictions or submission or "a file with --predictions"
        print(f"{hidden:,} expressions have no annotation and are in no number; answers: {where}", file=sys.stderr)
    about = {
        "model": model,
        "data": {"dataset": samples.name, "split": samples.split, "split_by": samples.split_by},
        **trained_as(segmenter.info),
        **changed,
    }
    if len(scores) == 1:
        print_score(scores[0])
    else:
        print(protocol_table(scores))
    if json is None:
        return
    if len(scores) == 1:
        write_score(scores[0], json, **about)
    else:
        document = {"protocols": {entry.protocol.name: entry.to_dict() for entry in scores}, **about}
        write_text(json, json_format.dumps(document, indent=1, allow_nan=False) + "\n")
    print(f"written to {json}")


def _protocols(names: str) -> list[Protocol]:
    from refseg.metrics import get_protocol

    return _mask_protocols() if names == "all" else [get_protocol(name.strip()) for name in names.split(",")]


def _with_thresholds(
    protocol: Protocol, threshold: float | None, no_target_threshold: float | None, info: dict[str, Any]
) -> Protocol:
    from refseg.evaluation.evaluate import native_protocol

    given = {"threshold": threshold, "no_target_threshold": no_target_threshold}
    given = {name: value for name, value in given.items() if value is not None}
    if protocol.task == "video":
        # Benchmarks of video take masks, however a system cuts them.
        native = native_protocol(info)
        stored = {"threshold": native.threshold, "no_target_threshold": native.no_target_threshold}
        return replace(protocol, **{**stored, **given})  # type: ignore[arg-type]
    if protocol.task == "boxes" and threshold is None:
        # Which boxes a model answers with hangs on when it answers none; the protocol says nothing of that.
        own = native_protocol(info).no_target_threshold if no_target_threshold is None else no_target_threshold
        return replace(protocol, no_target_threshold=own)
    if protocol.name != "native":
        if given:
            raise RefsegError(f"protocol {protocol.name} has its own thresholds; --threshold goes with native only")
        return protocol
    return replace(native_protocol(info), **given)  # type: ignore[arg-type]


def _with_pixel_rule(protocol: Protocol, minimum: int) -> Protocol:
    """The protocol with GRES's rule for systems without a no-target head (section 5.3), of whatever system."""
    if protocol.task != "masks":
        raise RefsegError(f"--minimum-pixels: protocol {protocol.name} compares {protocol.task}, not masks")
    return replace(protocol, no_target_rule="pixels", minimum_pixels=minimum, gating="mask")


def _tell_unknown_words(samples: ReferringDataset, tokenizer: object) -> None:
    """Where a model knows the words of its own data set, as one does that is scored on another."""
    from refseg.encoders.text.tokenizer import WordTokenizer, split_words

    if not isinstance(tokenizer, WordTokenizer):
        return
    counts = Counter(word for text in samples.texts() for word in split_words(text) if word.isalnum())
    unknown = sum(count for word, count in counts.items() if tokenizer.known(word) is None)
    if 50 * unknown > (total := counts.total()):
        print(f"{unknown:,} of {total:,} words in the expressions are unknown to the model", file=sys.stderr)


def _shard(text: str) -> tuple[int, int]:
    number, slash, total = text.partition("/")
    if not (slash and number.isdigit() and total.isdigit() and int(number) < int(total)):
        raise RefsegError(f"--shard is K/N with K from 0 to N - 1, such as 0/4, not {text!r}")
    return int(number), int(total)


@contextmanager
def _json_lines(path: Path) -> Iterator[Any]:
    """A function that writes a line; the file appears when all are written."""
    from refseg.files import replacing

    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", errors="backslashreplace") as handle:
        # A lone half of a surrogate pair becomes \uXXXX, as JSON writes it.
        yield lambda values: handle.write(json_format.dumps(values, ensure_ascii=False) + "\n")


@app.command("calibrate")
def calibrate(
    model: Annotated[
        str, arg("MODEL", "model folder; with -o also packaged weights or a hub id", names=options.model_names)
    ],
    data: options.Data,
    dataset: options.Dataset = None,
    split: options.Split = "val",
    split_by: options.SplitBy = None,
    limit: options.Limit = None,
    target_accuracy: Annotated[
        float, opt("P", "least T_acc", check=options.probability, group=options.COUNTING)
    ] = 0.95,
    slack: Annotated[float, opt("X", "gIoU given up to answer none otherwise", group=options.COUNTING)] = 0.0,
    lean: Annotated[
        Literal["target", "none"],
        opt("WAY", "with --slack: none more rarely (target), or more often", group=options.COUNTING),
    ] = "target",
    device: options.Device = "auto",
    output: Annotated[Path | None, options.output("folder for a copy of the model with the thresholds")] = None,
    force: Annotated[
        bool, flag("--force", f"also from under {FEWEST} expressions, or where each of them has a target")
    ] = False,
    dry_run: options.DryRun = False,
) -> None:
    """Choose a model's thresholds on held-out pictures, and store them with its weights.

    Pictures are held out when training did not see them. Weights that came with the package, and those that the hub
    keeps on this machine, are never changed: -o says where a copy goes. Of a network of transformers, -o gets a small
    folder that names it and holds the thresholds.
    """
    from refseg.data import open_dataset
    from refseg.evaluation import calibrate as calibration
    from refseg.inference.foundation import holds_networks, save_foundation
    from refseg.inference.locate import locate_model
    from refseg.inference.predictor import load
    from refseg.progress import progress

    networks = holds_networks(model)
    folder = Path(model) if networks else locate_model(model)
    if output is None and not dry_run and (networks or not _is_own(folder, model)):
        raise RefsegError(f"{model}: these weights are not changed in place; -o FOLDER says where a copy goes")
    _check_copy(folder, output)
    samples = open_dataset(data, dataset, split, split_by)
    if limit is not None:
        samples = samples[:limit]
    if not force:
        _check_enough(samples)
    segmenter = load(model if networks else folder, device=device)
    with progress("calibrating") as update:
        chosen = calibration.calibrate(
            segmenter.model,
            segmenter.tokenizer,
            samples,
            target_accuracy=target_accuracy,
            slack=slack,
            lean=lean,
            progress=update,
        )
    print_table(
        ("", "threshold", "no-target threshold", *chosen.chosen),
        [
            (name, *(f"{value:.2f}" for value in pair), *(f"{value:.4f}" for value in metrics.values()))
            for name, pair, metrics in (
                ("0.5 for both", (0.5, 0.5), chosen.plain),
                ("chosen", (chosen.threshold, chosen.no_target_threshold), chosen.chosen),
            )
        ],
    )
    if dry_run:
        return
    source = f"{samples.name} {samples.split}"
    if output is None:
        calibration.store(folder, chosen, source)
    elif networks:
        save_foundation(output, cast(Any, segmenter.model), {**segmenter.info, **chosen.to_info(source)})
    else:
        from refseg.files import replacing_folder

        with replacing_folder(output) as temporary:
            shutil.copytree(folder, temporary, dirs_exist_ok=True)
            calibration.store(temporary, chosen, source)
    print(f"stored in {(output or folder) / 'config.json'}")


def _is_own(folder: Path, name: str) -> bool:
    """Whether a model is a folder that somebody named, and not one that came with the package or from the hub."""
    inside = options.PACKAGED.resolve() in folder.resolve().parents
    return Path(name).is_dir() and not inside


def _check_copy(folder: Path, output: Path | None) -> None:
    """Raises `RefsegError` where -o would overwrite what is no model folder, or packaged weights."""
    if output is None:
        return
    options.check_model_folder(output)
    if options.PACKAGED.resolve() in output.resolve().parents:
        raise RefsegError(f"{output}: the package's own weights are not changed; choose another folder for -o")


def _check_enough(samples: ReferringDataset) -> None:
    """Raises `RefsegError` where a set says too little about thresholds."""
    none = sum(sample.no_target for sample in samples)
    if not none:
        raise RefsegError(
            f"{samples.name} {samples.split}: every expression has a target, so nothing tells when to answer none; "
            "take a set with no-target expressions, or --force"
        )
    if len(samples) < FEWEST:
        raise RefsegError(
            f"{samples.name} {samples.split}: {len(samples)} expressions; thresholds are chosen from {FEWEST} or more, "
            "unless --force is given"
        )
