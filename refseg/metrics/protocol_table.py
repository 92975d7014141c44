"""The tables of docs/protocols.md: `python -m refseg.metrics.protocol_table [--results OUT.json] [--write PAGE]`.

Without options it prints what each protocol fixes. `--results` takes the file that
`refseg evaluate --protocol all --json OUT.json` wrote and prints how far one model's predictions move. `--write` puts
the tables between the markers of a Markdown page.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from refseg.errors import DataError, RefsegError
from refseg.files import write_text
from refseg.metrics.protocols import PROTOCOLS, Protocol

METRICS = ("cIoU", "gIoU", "mIoU", "Pr@0.5", "Pr@0.7", "Pr@0.9", "N_acc", "T_acc")


def rules_table() -> str:
    """One row a protocol: what makes its masks, what is counted, and where the rules come from."""
    head = (
        "protocol",
        "headline",
        "mask",
        "compared at",
        "saying none",
        "empty union",
        "Pr@X",
        "added to sums",
        "source",
    )
    rows = [
        (
            f"`{entry.name}`",
            entry.headline,
            _mask(entry),
            _resolution(entry),
            _none(entry),
            f"{entry.empty_union:.0f}" if entry.task in ("masks", "video") else "-",
            (">" if entry.strict else "≥") + " X" if entry.task == "masks" else "-",
            _smoothing(entry),
            entry.source,
        )
        for entry in PROTOCOLS.values()
    ]
    return markdown(head, rows)


def results_table(document: Mapping[str, Any]) -> str:
    """One row a protocol from the JSON of `refseg evaluate --protocol all`, in percent, the headline in bold."""
    try:
        rows = []
        for name, entry in document["protocols"].items():
            metrics, headline = entry["metrics"], entry["protocol"]["headline"]
            cells = ["-" if metrics[key] is None else f"{100 * metrics[key]:.2f}" for key in METRICS]
            bold = (f"**{cell}**" if key == headline else cell for key, cell in zip(METRICS, cells, strict=True))
            rows.append((f"`{name}`", *bold))
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"not a file of refseg evaluate with several protocols: no {error}") from error
    return markdown(("protocol", *METRICS), rows)


def worked_table() -> str:
    """The five expressions of `refseg.metrics.worked_example` under every protocol of masks, as fractions."""
    from refseg.metrics.worked_example import DRAWN, drawing, worked_scores

    head = (
        "protocol",
        *(f"{key} {what}" for key, (what, *_) in DRAWN.items()),
        "cIoU",
        "gIoU",
        "Pr@0.6",
        "N_acc",
        "T_acc",
    )
    rows = []
    for name, result in worked_scores().items():
        values = [f"{row['iou']:.3g}" for row in result.rows]
        values += [f"{result[metric]:.4f}" for metric in ("cIoU", "gIoU", "Pr@0.6", "N_acc", "T_acc")]
        rows.append((f"`{name}`", *values))
    return f"```\n{drawing()}\n```\n\n{markdown(head, rows)}"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, *rows)]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]])


def fill(page: str, marker: str, content: str) -> str:
    """The page with `content` between `<!-- marker -->` and `<!-- /marker -->`. Raises `DataError` without them."""
    start, end = f"<!-- {marker} -->", f"<!-- /{marker} -->"
    before, found, rest = page.partition(start)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise DataError(f"the page has no {start} ... {end}")
    return f"{before}{start}\n{content}\n{end}{after}"


def _mask(entry: Protocol) -> str:
    if entry.task == "boxes":
        return f"boxes of score ≥ {entry.score_threshold}"
    if entry.task in ("phrases", "box"):
        return "boxes, best first" if entry.task == "phrases" else "the best box"
    sign = "≥" if entry.inclusive else ">"
    merged = ", the likeliest object a pixel" if entry.objects == "merged" else ""
    return f"p {sign} {entry.threshold}, {entry.resized} resized, {entry.interpolation}{merged}"


def _resolution(entry: Protocol) -> str:
    if entry.task == "boxes":
        return f"{entry.box_overlap} IoU ≥ {entry.overlap_level}"
    if entry.task in ("phrases", "box"):
        whose = "phrase" if entry.task == "phrases" else "expression"
        wanted = f"any box of the {whose}" if entry.phrase_boxes == "any" else f"the box around the {whose}'s boxes"
        return f"{wanted}, IoU {'>' if entry.strict else '≥'} {entry.overlap_level}"
    if entry.task == "video":
        skipped = (
            "" if entry.skipped_frames == (0, 0) else ", without {} first and {} last".format(*entry.skipped_frames)
        )
        return f"the picture's size, frame by frame{skipped}" + ("; the best answer" if entry.match_objects else "")
    if entry.resolution == "original":
        return "the picture's size"
    return "the network's input, targets " + ("from outlines" if entry.target == "polygons" else "by nearest")


def _none(entry: Protocol) -> str:
    if entry.task == "boxes":
        return "no box kept"
    if entry.task in ("phrases", "box"):
        return "-"
    who = f"under {entry.minimum_pixels} px" if entry.no_target_rule == "pixels" else "the prediction's own flag"
    what = {"mask": "clears the mask", "intersection": "zeroes I, keeps U", "none": "clears nothing"}[entry.gating]
    value = "; without target 1 if none is predicted, else 0" if entry.no_target == "decision" else ""
    return f"{who} {what}{value}"


def _smoothing(entry: Protocol) -> str:
    parts = {
        "I": entry.numerator_smoothing,
        "U": entry.denominator_smoothing,
        "ΣU": entry.cumulative_smoothing,
        "N": entry.mean_smoothing,
    }
    return ", ".join(f"{name} + {value:g}" for name, value in parts.items() if value) or "-"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print or write the tables; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m refseg.metrics.protocol_table", description=__doc__)
    parser.add_argument("--results", metavar="OUT.json", help="of refseg evaluate --protocol all --json OUT.json")
    parser.add_argument("--write", metavar="PAGE", help="put the tables into this page instead of printing them")
    options = parser.parse_args(arguments)
    try:
        tables = {"rules": rules_table(), "worked": worked_table()}
        if options.results:
            tables["differences"] = results_table(_read_json(options.results))
        if not options.write:
            print("\n\n".join(tables.values()))
            return 0
        try:
            page = Path(options.write).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{options.write}: cannot be read ({error})") from error
        for marker, table in tables.items():
            page = fill(page, marker, table)
        write_text(options.write, page)
    except RefsegError as error:
        print(f"protocol_table: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def _read_json(path: str) -> Any:
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({error})") from error


if __name__ == "__main__":
    raise SystemExit(main())
