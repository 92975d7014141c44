"""The tables of the systems side by side as Markdown and JSON. Every number comes from the runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from refseg.studies.claims import Claim, Entry
from refseg.studies.side_by_side import Settings
from refseg.training.monitor import time_text

__all__ = ["to_dict", "to_markdown"]

_PERCENT = {
    "gIoU": "gIoU",
    "cIoU": "cIoU",
    "mIoU_target": "mIoU with target",
    "Pr@0.7": "Pr@.7",
    "N_acc": "N-acc",
    "T_acc": "T-acc",
}


def to_dict(
    settings: Settings,
    chosen: Sequence[Entry],
    claims: Sequence[Claim],
    results: Mapping[str, Mapping[str, Any]],
    times: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Everything that the Markdown says, ready for JSON."""
    return {
        "settings": asdict(settings),
        "systems": [entry.name for entry in chosen],
        "claims": [
            {
                "name": claim.name,
                "title": claim.title,
                "source": claim.source,
                "printed": claim.printed,
                "rows": [
                    {"label": label, "entry": entry.name}
                    for (label, _), entry in zip(claim.rows, claim.entries(), strict=True)
                ],
            }
            for claim in claims
        ],
        "results": {name: dict(result) for name, result in results.items()},
        "times": {name: dict(entry) for name, entry in times.items()},
    }


def to_markdown(document: Mapping[str, Any], command: str) -> str:
    """A page of what `to_dict` gives; `command` makes it again."""
    results, times = document["results"], document["times"]
    parts = [_head(document, command)]
    if document["systems"]:
        names = document["systems"]
        parts += ["## The systems", _scores([(name, name) for name in names], results)]
        parts += ["### gIoU by kind of sentence", _kinds(names, results)]
        parts += ["### What they cost", _costs(names, results, times), _machine(times)]
    for claim in document["claims"]:
        rows = [(row["label"], row["entry"]) for row in claim["rows"]]
        parts += [f"## {claim['title']}", f"{claim['source']}: {claim['printed']}.", _scores(rows, results)]
    failed = {name: result["error"] for name, result in results.items() if "error" in result}
    if failed:
        parts += ["## Without a number", "\n".join(f"- {name}: {message}" for name, message in failed.items())]
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(document: Mapping[str, Any], command: str) -> str:
    settings = document["settings"]
    batch = settings["pictures_per_batch"] * settings["sentences_per_picture"]
    counts = next((result["counts"] for result in document["results"].values() if "counts" in result), None)
    scored = ""
    if counts:
        scored = (
            f"They are scored on {settings['test_pictures']} scenes of another seed with {counts['sentences']:,} "
            f"sentences, of which {counts['no_target']} mean nothing, under the protocol `native` (percent). "
        )
    described = "a pixel counts from probability .5 on, and so does the no-target probability"
    if settings["thresholds"] == "calibrated":
        described = "thresholds are chosen for each system on further scenes, by the rule of `refseg calibrate`"
    return (
        "# The systems side by side, on drawn scenes\n\n"
        "The small configuration (`MINI`) of every system, trained from its recipe on the same drawn scenes: the same "
        f"pictures and sentences in the same order, {settings['budget']:,} sentences in batches of {batch}, "
        f"scenes of {settings['size']} pixels, one seed. {scored}{described[0].upper()}{described[1:]}.\n\n"
        f"```\n{command}\n```\n\n"
        "This compares wirings at a small size, with the same small picture encoder wherever the system lets one "
        "choose, and little training. It says nothing about the published weights, and one seed does not separate "
        "systems that lie close together. gIoU counts a sentence without target as right when nothing is answered, so "
        "a model that never answers has the share of such sentences as its gIoU; mIoU with target rewards no silence. "
        "`--budget` gives every system more sentences."
    )


def _scores(rows: Sequence[tuple[str, str]], results: Mapping[str, Mapping[str, Any]]) -> str:
    """Label and entry a row; the boxes' accuracy stands in a last column where some row has boxes."""
    done = [results[entry]["metrics"] for _, entry in rows if "metrics" in results.get(entry, {})]
    boxes = {"Acc@0.5": "boxes Acc@.5"} if any(metrics.get("Acc@0.5") is not None for metrics in done) else {}
    columns = _PERCENT | boxes
    lines = []
    for label, entry in rows:
        metrics = results.get(entry, {}).get("metrics")
        cells = ["failed" if metrics is None else _percent(metrics.get(name)) for name in columns]
        lines.append([label, *cells])
    return _table(["", *columns.values()], lines)


def _kinds(names: Sequence[str], results: Mapping[str, Mapping[str, Any]]) -> str:
    counts: dict[str, int] = {}
    for name in names:
        for kind, row in results.get(name, {}).get("kinds", {}).items():
            counts.setdefault(kind, row["sentences"])
    lines = []
    for name in names:
        kinds = results.get(name, {}).get("kinds")
        if kinds is not None:
            lines.append([name, *(_percent(kinds.get(kind, {}).get("gIoU")) for kind in counts)])
    return _table(["", *(f"{kind.replace('_', ' ')} ({count})" for kind, count in counts.items())], lines)


def _costs(names: Sequence[str], results: Mapping[str, Any], times: Mapping[str, Any]) -> str:
    lines = []
    for name in names:
        result, measured = results.get(name, {}), times.get(name, {})
        if "parameters" not in result:
            continue
        further = result["macs_of_a_further_sentence"]
        lines.append(
            [
                name,
                f"{result['parameters'] / 1e6:.2f} M",
                f"{result['macs'] / 1e9:.2f} G",
                "the same" if further is None else f"{further / 1e9:.2f} G",
                *(f"{measured[part]:.1f}" if part in measured else "" for part in ("picture", "further_sentence")),
                time_text(result["training"]["seconds"]),
            ]
        )
    head = ["", "parameters", "MACs", "MACs of a further sentence", "ms a picture", "ms a further sentence", "training"]
    return _table(head, lines)


def _machine(times: Mapping[str, Any]) -> str:
    if not times:
        return ""
    machine = next(iter(times.values()))["machine"]
    return (
        f"Milliseconds are medians in float32 on {machine['name']} ({machine['device']}, {machine['threads']} threads, "
        f"torch {machine['torch']}), of a picture of 640 x 480 with one sentence from the encoded file to its mask, "
        "and of each further sentence on it. Training (minutes:seconds) is on the machine of the run, whatever else it "
        "did."
    )


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
