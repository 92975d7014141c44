"""The side-by-side study as Markdown and JSON. Every number comes from the runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from refseg.metrics.counts import Row
from refseg.studies.claims import Claim, Entry
from refseg.studies.settings import TARGET_ACCURACY, Run, Settings
from refseg.studies.weighing import equal_time, percent_metrics, value_of, weigh
from refseg.training.monitor import time_text

__all__ = ["to_dict", "to_markdown"]

SHARED = "ResNet"
"""Kind of the shared encoder."""
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
    rows: Mapping[str, Sequence[Row]],
    times: Mapping[str, Mapping[str, Any]],
    encoder: Mapping[str, Any] | None = None,
    packaged: Mapping[str, Mapping[str, Any]] | None = None,
    shipped: Mapping[str, Mapping[str, Any]] | None = None,
    unread: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Everything that the page says, ready for JSON: `systems` in percent, `claims` with their sentences, `runs`.

    `results` and `rows` are by the run's name, `times` by the system's; `encoder` is what is known of the shared one;
    `packaged` is name -> test set -> score on photographs of weights that ship, `shipped` is name -> what
    `refseg.studies.packaged.on_scenes` gives of them. Claims of which no run is finished are named in `waiting`.
    """
    runs = {entry.name: Run(entry, settings.budget) for entry in chosen}
    done = {name: results[run.name] for name, run in runs.items() if "metrics" in results.get(run.name, {})}
    seconds, at_time = equal_time(done)
    systems: dict[str, Any] = {}
    for name, result in done.items():
        training = result["training"]
        systems[name] = percent_metrics(result) | {
            "gIoU_equal_time": round(100 * at_time[name], 2) if name in at_time else None,
            "expressions_per_second": round(training["sentences"] / max(1e-9, training["seconds"]), 1),
        }
    for name, result in (shipped or {}).items():
        systems[name] = {**result["metrics"], "gIoU_equal_time": None, "expressions_per_second": None}
    weighed = [_claim(claim, settings, results, rows) for claim in claims]
    return {
        "settings": asdict(settings),
        "encoder": dict(encoder or {}),
        "equal_time_seconds": round(seconds, 1),
        "systems": systems,
        "shipped": {name: dict(result) for name, result in (shipped or {}).items()},
        "unread": {name: dict(metrics) for name, metrics in (unread or {}).items()},
        "claims": [claim for claim in weighed if any(row["seeds"] for row in claim["rows"])],
        "waiting": [claim["title"] for claim in weighed if not any(row["seeds"] for row in claim["rows"])],
        "photographs": _on_photographs(results.values(), packaged or {}),
        "runs": {name: dict(result) for name, result in results.items()},
        "order": [entry.name for entry in chosen],
        "times": {name: dict(entry) for name, entry in times.items()},
    }


def _on_photographs(
    results: Iterable[Mapping[str, Any]], packaged: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, dict[str, float | int | None]]]:
    """System -> test set -> metrics in percent and `expressions`."""
    sets = {result["name"]: result["sets"] for result in results if "sets" in result} | dict(packaged)
    return {
        name: {
            test: {key: None if value is None else round(100 * value, 2) for key, value in score["metrics"].items()}
            | {"expressions": score["counts"]["sentences"]}
            for test, score in tests.items()
        }
        for name, tests in sets.items()
    }


def _claim(
    claim: Claim,
    settings: Settings,
    results: Mapping[str, Mapping[str, Any]],
    rows: Mapping[str, Sequence[Row]],
) -> dict[str, Any]:
    budget = settings.claim_budget or settings.budget
    table = []
    for (label, _), entry in zip(claim.rows, claim.entries(), strict=True):
        names = [Run(entry, budget, seed).name for seed in range(settings.seeds)]
        done = [name for name in names if "metrics" in results.get(name, {})]
        every = [results[name]["metrics"] for name in done]
        metrics: dict[str, list[float]] = {
            name: [round(100 * each[name], 2) for each in every if each.get(name) is not None]
            for name in (*_PERCENT, "Acc@0.5")
        }
        if claim.metric == "mIoU_one":
            metrics["mIoU_one"] = [round(100 * value_of(rows[name], "mIoU_one"), 2) for name in done]
        table.append({"label": label, "entry": entry.name, "seeds": len(done), "metrics": metrics})
    better, worse = (claim.entry(label) for label in claim.pair)
    pairs = {
        seed: (rows[Run(better, budget, seed).name], rows[Run(worse, budget, seed).name])
        for seed in range(settings.seeds)
        if {Run(better, budget, seed).name, Run(worse, budget, seed).name} <= rows.keys()
    }
    verdict = weigh(claim, pairs) if pairs else None
    return {
        "name": claim.name,
        "title": claim.title,
        "source": claim.source,
        "printed": claim.printed,
        "metric": claim.metric,
        "expressions": budget,
        "rows": table,
        "verdict": asdict(verdict) if verdict else None,
        "sentence": verdict.sentence(claim) if verdict else "No pair of runs is finished.",
    }


def to_markdown(document: Mapping[str, Any], command: str, plot: str | None = None) -> str:
    """A page of what `to_dict` gives; `command` makes it again, `plot` is the address of the learning curves."""
    names = [name for name in document["order"] if name in document["systems"]]
    shipped = document["shipped"]
    runs: dict[str, Mapping[str, Any]] = {}
    for result in document["runs"].values():
        if "metrics" in result and "sets" not in result:
            runs.setdefault(result["name"], result)  # systems stand before the further seeds of claims
    parts = [_head(document, command)]
    if names:
        parts += ["## The systems", _systems(names, document, runs)]
        parts += [_encoders(names, runs)]
        if plot:
            parts += [f"![gIoU on scenes of the split val by expressions learnt from]({plot})"]
        parts += ["### gIoU by kind of expression", _kinds({name: runs[name] for name in names} | dict(shipped))]
        parts += ["### What they cost", _costs(names, runs, document["times"]), _machine(document["times"])]
    claims = [claim for claim in document["claims"] if claim["metric"] != "mIoU_one"]
    costs = [claim for claim in document["claims"] if claim["metric"] == "mIoU_one"]
    for claim in claims:
        source = f"{claim['source']}: {claim['printed']}. {claim['expressions']:,} expressions a run."
        parts += [f"## {claim['title']}", source, _claim_table(claim), claim["sentence"]]
    if costs:
        parts += ["## What the no-target head costs on expressions with one target", _cost_table(costs)]
    if document.get("photographs"):
        parts += ["## On photographs", _photographs(document)]
    missing: dict[str, list[str]] = {}
    for name, result in document["runs"].items():
        if "error" in result:
            missing.setdefault(result["error"], []).append(name)
    if missing:
        lines = [f"- {', '.join(each)}: {message}" for message, each in missing.items()]
        waiting = f"Nothing is trained yet for: {'; '.join(document['waiting'])}." if document["waiting"] else ""
        parts += ["## Without a number", waiting, "\n".join(lines)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(document: Mapping[str, Any], command: str) -> str:
    settings, encoder = document["settings"], document["encoder"]
    batch = settings["pictures_per_batch"] * settings["sentences_per_picture"]
    counts = next((result["counts"] for result in document["runs"].values() if "counts" in result), None)
    scored = ""
    if counts:
        scored = (
            f"They are scored on {settings['test_pictures']} scenes of another seed with {counts['sentences']:,} "
            f"expressions, of which {counts['no_target']} mean nothing, under the protocol `native` (percent). "
        )
    described = "a pixel counts from probability .5 on, and so does the no-target probability"
    if settings["thresholds"] == "calibrated":
        described = (
            "thresholds are chosen for each system on further scenes: those of the highest gIoU, and from there the "
            f"no-target threshold as low as T-acc stays at {TARGET_ACCURACY:g} and gIoU within .02".replace("0.", ".")
        )
    near = ", close-ups (`refseg data scenes --close-up`: 2 to 6 things, twice as tall)" if settings["close_up"] else ""
    start = ""
    if encoder:
        probe = encoder["probe"]
        start = (
            "Systems with the small ResNet start from the same one, which has learnt to see drawn scenes before, "
            f"without expressions: {settings['encoder_passes']} passes in {time_text(float(encoder['seconds']))}; on "
            f"scenes that it has not seen it names the category of {100 * probe['category']:.0f} % of the cells of "
            f"things, the colour of {100 * probe['color']:.0f} % and the pattern of {100 * probe['pattern']:.0f} %. "
            + ("It stays as it is, and its maps are kept. " if settings["encoder"] == "frozen" else "It learns on. ")
            + "MAttNet sees the regions of the detector that ships (`detector`), whose features are kept. "
        )
    return (
        "# The systems side by side, on drawn scenes\n\n"
        "The small configuration (`MINI`) of every system, trained from its recipe on the same drawn scenes: the same "
        f"pictures and expressions in the same order, {settings['budget']:,} expressions in batches of {batch}, "
        f"scenes of {settings['size']} pixels{near}. {start}{scored}{described[0].upper()}{described[1:]}.\n\n"
        f"```\n{command}\n```\n\n"
        "This compares wirings at a small size. It says nothing about the published weights. Brackets are 95 % "
        "intervals over pictures: whatever they say, one seed does not separate systems that lie close together. gIoU "
        "counts an expression without target as right when nothing is answered, so a model that never answers has the "
        "share of such expressions as its gIoU; mIoU with target rewards no silence."
    )


def _systems(names: Sequence[str], document: Mapping[str, Any], runs: Mapping[str, Mapping[str, Any]]) -> str:
    systems = document["systems"]
    boxes = any(systems[name].get("Acc@0.5") is not None for name in names)
    head = [
        "",
        *_PERCENT.values(),
        *(["boxes Acc@.5"] if boxes else []),
        "gIoU at equal time",
        "expressions/s",
        "start",
    ]
    lines = []
    for name in names:
        metrics = systems[name]
        first = _number(metrics["gIoU"])
        if metrics.get("gIoU_low") is not None:
            first += f" ({_number(metrics['gIoU_low'])} to {_number(metrics['gIoU_high'])})"
        cells = [first, *(_number(metrics.get(key)) for key in list(_PERCENT)[1:])]
        cells += [_number(metrics.get("Acc@0.5"))] if boxes else []
        cells += [_number(metrics["gIoU_equal_time"]), f"{metrics['expressions_per_second']:.0f}"]
        lines.append([name, *cells, runs[name]["encoder"]])
    for name in document["shipped"]:
        metrics = systems[name]
        first = f"{_number(metrics['gIoU'])} ({_number(metrics['gIoU_low'])} to {_number(metrics['gIoU_high'])})"
        cells = [first, *(_number(metrics.get(key)) for key in list(_PERCENT)[1:])]
        lines.append([name, *cells, *([_number(metrics.get("Acc@0.5"))] if boxes else []), "", "", "ships"])
    for name, metrics in document["unread"].items():
        lines.append([f"*{name}*", *(_number(metrics[key]) for key in _PERCENT), *[""] * boxes, "", "", ""])
    seconds = document["equal_time_seconds"]
    note = (
        f"\n\nAt equal time: on 25 scenes of the split val after {time_text(seconds)}, which the quickest took for all "
        "of its expressions (evaluations left out)."
        if seconds
        else ""
    )
    if document["shipped"]:
        note += (
            "\n\nWhat ships stands beside them as it is: it has learnt from photographs and from other scenes, longer, "
            "with thresholds of its own."
        )
    if document["unread"]:
        note += (
            "\n\n*everything* and *nothing* are answers that read no expression: all things of the picture (their true "
            "masks), and none. A system that scores as *everything* does has learnt to see and not to read."
        )
    return _table(head, lines) + note


def _encoders(names: Sequence[str], runs: Mapping[str, Mapping[str, Any]]) -> str:
    """What is to be said of encoders that are not the shared one, or where that one was made again between two systems;
    nothing where all have the same."""
    groups: dict[str, list[str]] = {}
    lines = []
    for name in names:
        run = runs[name]
        if run["encoder"] == "own":
            lines.append(f"{name} learns to see from nothing on the way (`own`).")
        elif run.get("encoder_kind", SHARED) == SHARED and run["encoder"] in ("frozen", "tuned"):
            groups.setdefault(run["encoder_file"], []).append(name)
        elif run["encoder"] in ("frozen", "tuned") and run.get("encoder_probe"):
            probe = run["encoder_probe"]
            learns = " It learns on, at a tenth of the rate (`tuned`)." if run["encoder"] == "tuned" else ""
            lines.append(
                f"{name} begins with a {run['encoder_kind']} that has had the same lessons as the shared encoder: "
                f"category {100 * probe['category']:.0f} %, colour {100 * probe['color']:.0f} %, pattern "
                f"{100 * probe['pattern']:.0f} %.{learns}"
            )
    if len(groups) > 1:
        listed = "; ".join(", ".join(group) for group in groups.values())
        lines.append(
            "The shared encoder was made again by the same recipe, with other rounding, between these groups: "
            f"{listed}."
        )
    return " ".join(lines)


def _photographs(document: Mapping[str, Any]) -> str:
    settings, found = document["settings"]["photographs"], document["photographs"]
    text = (
        f"The same systems over the maps of the picture encoder of `{settings['encoder']}`, which stays as it is, at "
        f"{settings['size']} pixels: {settings['budget']:,} expressions of photographs each, one seed. Systems without "
        "a place for it are left out. Weights that ship with the package stand beside them; they have learnt "
        "more, from more, and in their own way."
    )
    tables = []
    for test in dict.fromkeys(test for tests in found.values() for test in tests):
        rows = {name: tests[test] for name, tests in found.items() if test in tests}
        count = next(iter(rows.values()))["expressions"]
        lines = [[name, *(_number(row.get(key)) for key in _PERCENT)] for name, row in rows.items()]
        tables.append(f"{test}, {count:,} expressions:\n\n{_table(['', *_PERCENT.values()], lines)}")
    return "\n\n".join([text, *tables])


def _kinds(results: Mapping[str, Mapping[str, Any]]) -> str:
    counts: dict[str, int] = {}
    for result in results.values():
        for kind, row in result.get("kinds", {}).items():
            counts.setdefault(kind, row["sentences"])
    lines = []
    for name, result in results.items():
        kinds = result.get("kinds", {})
        lines.append([name, *(_percent(kinds.get(kind, {}).get("gIoU")) for kind in counts)])
    return _table(["", *(f"{kind.replace('_', ' ')} ({count})" for kind, count in counts.items())], lines)


def _costs(names: Sequence[str], runs: Mapping[str, Any], times: Mapping[str, Any]) -> str:
    lines = []
    for name in names:
        result, measured = runs[name], times.get(name, {})
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
    head = ["", "parameters", "MACs", "MACs of a further expression", "ms a picture", "ms a further one", "training"]
    return _table(head, lines)


def _machine(times: Mapping[str, Any]) -> str:
    if not times:
        return ""
    machine = next(iter(times.values()))["machine"]
    return (
        f"Milliseconds are medians in float32 on {machine['name']} ({machine['device']}, {machine['threads']} threads, "
        f"torch {machine['torch']}), of a picture of 640 x 480 with one expression from the encoded file to its mask, "
        "and of each further expression on it. Training (evaluations left out) is on the machine of the run, whatever "
        "else it did."
    )


def _claim_table(claim: Mapping[str, Any]) -> str:
    boxes = any(row["metrics"]["Acc@0.5"] for row in claim["rows"])
    columns = {**_PERCENT, **({"Acc@0.5": "boxes Acc@.5"} if boxes else {})}
    lines = [
        [row["label"], str(row["seeds"]), *(_mean(row["metrics"][name]) for name in columns)] for row in claim["rows"]
    ]
    return _table(["", "seeds", *columns.values()], lines)


def _cost_table(claims: Sequence[Mapping[str, Any]]) -> str:
    lines = []
    for claim in claims:
        verdict = claim["verdict"]
        change = ""
        if verdict:
            change = f"{100 * verdict['difference']:+.1f} ({100 * verdict['low']:+.1f} to {100 * verdict['high']:+.1f})"
        lines.append([claim["rows"][0]["entry"], *(_mean(row["metrics"]["mIoU_one"]) for row in claim["rows"]), change])
    return _table(["mean IoU, one target", "with the head", "without", "difference"], lines)


def _mean(values: Sequence[float]) -> str:
    """The mean over seeds, with the lowest and the highest where there are several."""
    if not values:
        return ""
    mean = f"{sum(values) / len(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.1f} to {max(values):.1f})"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
