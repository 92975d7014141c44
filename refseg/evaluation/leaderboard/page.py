"""The page of the documents' tables and figures: what makes each, its published numbers and the measured ones."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from refseg.evaluation.leaderboard.experiments import (
    DOCUMENTS,
    Entry,
    Experiment,
    Row,
    entries,
    experiments,
    numbers_of,
    row_of,
)
from refseg.evaluation.leaderboard.published import Result, documents

__all__ = ["costs", "lines", "page"]

HEADER = ["row", "of", "where", "published", "measured"]
COMMAND = "refseg tables -o docs/tables.md"
_COSTS = ("parameters", "MACs")
_HEAD = f"""# The documents' tables, one command each

Every table and figure of the five documents that this package implements, in their order, with the commands that make
it on the real data, the numbers that are printed there, and those that were measured with this package. A measured cell
is empty where nobody has run the command: the data sets cannot be had where this page was made. The page is written by
`{COMMAND}` (with `--measured runs` for your own runs) and tested against `refseg results`.

```
refseg tables                                        # the list
refseg tables "thesis table 4.3"                     # its commands and numbers
refseg tables "thesis table 4.3" --run --data DATA   # make it: train and score what is not there yet
refseg results --system VLT --measured runs          # your runs beside all published numbers
```

DATA holds the data sets (`refseg data get`, [data](data.md)). A run is trained into the folder that stands beside its
commands and scored into files there. What a command wants beside the data, encoders' weights and word vectors, it
names: `yolov3.weights` and `glove.840B.300d.txt` are files in the folder where it is typed, names with a slash are
fetched from the hub. Every recipe and every row is trained a step or two in the tests, on small made copies of the data
or at a small size; none was run to the end on the real data.
Numbers of systems that are only quoted in a table are not repeated here: `refseg results --dataset RefCOCO --sources`.
"""


def page(measured: Sequence[Result] = ()) -> str:
    """The whole page as Markdown."""
    parts = [_HEAD]
    for document in DOCUMENTS:
        about = documents()[document]
        parts.append(f"\n## {about['cite']}\n\n{about['authors']}: {about['title']}, {about['venue']}.\n")
        listed = entries(document)
        parts += [_table(entry, measured) for entry in listed if entry.name.startswith("Table")]
        figures = [entry for entry in listed if entry.name.startswith("Figure")]
        if figures:
            parts.append("\n### Figures\n\n| figure | of what | made by |\n|---|---|---|\n")
            parts += [f"| {entry.name} | {entry.what} | {_maker(entry)} |\n" for entry in figures]
    return "".join(parts)


def lines(entry: Entry, measured: Sequence[Result] = ()) -> list[list[str]]:
    """A table's numbers, a line a row and place: `HEADER`, then system and configuration, encoder, place, published and
    measured values. Rows that are quoted from elsewhere are left out."""
    groups: dict[tuple[str, str, str], list[Result]] = {}
    for number in numbers_of(entry):
        if row_of(number) is not None:
            name = ", ".join(filter(None, (number.system, number.configuration, number.subset)))
            trained = f" (trained on {number.trained_on})" if number.trained_on else ""
            encoder = number.visual_encoder
            groups.setdefault((name + trained, encoder, _place(number)), []).append(number)
    return [HEADER, *([*key, _values(group), _measured(group, measured)] for key, group in groups.items())]


def costs(entry: Entry) -> list[str]:
    """The commands for the sizes and operations that a table prints; they want no run."""
    wanted = dict.fromkeys(row_of(number) for number in numbers_of(entry) if number.metric in _COSTS)
    size = " --size 320" if any(number.metric == "MACs" for number in numbers_of(entry)) else ""
    made = [row for row in wanted if row is not None and not row.missing]
    return [f"refseg models {shlex.quote(_named(row, entry))} --cost{size}" for row in made]


def _named(row: Row, entry: Entry) -> str:
    """The row's name in this very table, where it has one."""
    return next((name for name in row.presets if f": {entry.name.lower()}" in name.lower()), row.presets[0])


def _table(entry: Entry, measured: Sequence[Result]) -> str:
    parts = [f"\n### {entry.name}: {entry.what}\n"]
    made = experiments(entry)
    if entry.note:
        parts.append(f"\n{entry.note[0].upper()}{entry.note[1:]}.\n")
    commands = [entry.how] if entry.how else []
    if made:
        commands.append(f"refseg tables {shlex.quote(entry.title)} --run --data DATA")
    commands += costs(entry)
    if commands:
        parts.append("\n```\n" + "\n".join(commands) + "\n```\n")
    body = lines(entry, measured)[1:]
    if body:
        parts.append("\n| " + " | ".join(HEADER) + " |\n|---|---|---|---|---|\n")
        parts += ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in body]
    if made:
        parts.append("\n| run | commands |\n|---|---|\n")
        parts += [f"| `{one.folder}` | {_commands(one)} |\n" for one in _once(made)]
    for text in dict.fromkeys(_missing(number) for number in numbers_of(entry)):
        parts.append(f"\n{text}\n" if text else "")
    return "".join(parts)


def _once(made: Sequence[Experiment]) -> list[Experiment]:
    """Runs, each once: a run that is scored in two ways is trained once."""
    by_folder: dict[str, list[Experiment]] = {}
    for one in made:
        by_folder.setdefault(one.folder, []).append(one)
    return [
        Experiment(
            group[0].row,
            group[0].data,
            folder,
            group[0].training,
            group[0].folders,
            tuple(words for one in group for words in one.scoring),
            tuple(file for one in group for file in one.scores),
        )
        for folder, group in by_folder.items()
    ]


def _commands(one: Experiment) -> str:
    """All commands of a run in one cell."""
    return "<br>".join(f"`{shlex.join(('refseg', *words))}`" for words in (*one.training, *one.scoring))


def _missing(number: Result) -> str:
    row = row_of(number)
    if row is None or not row.missing:
        return ""
    name = ", ".join(filter(None, (number.system, number.configuration, number.visual_encoder)))
    return f"Not made here: {name}: {row.missing}."


def _maker(entry: Entry) -> str:
    made = experiments(entry)
    if made:
        return f"`refseg tables {shlex.quote(entry.title)} --run --data DATA`; {entry.note}"
    if entry.how:
        return f"`{entry.how}`" + (f"; {entry.note}" if entry.note else "")
    if entry.note.startswith("refseg/"):
        return f"[{entry.note}](../{entry.note}): the same in text"
    return entry.note


def _place(number: Result) -> str:
    partition = number.partition if number.dataset == "RefCOCOg" else ""
    return " ".join(filter(None, (number.dataset, partition, number.split))) or "size and cost"


def _values(numbers: Sequence[Result]) -> str:
    units = {"%": "", "M": " M", "G": " G"}
    return ", ".join(f"{n.printed_metric} {n.printed_value}{units.get(n.unit, f' {n.unit}')}" for n in numbers)


def _measured(published: Sequence[Result], measured: Sequence[Result]) -> str:
    """The measured values that answer the same questions under the same protocol, by the metrics' printed names."""
    texts = []
    for number in published:
        for found in measured:
            if (found.question(), found.protocol) == (number.question(), number.protocol or "attention"):
                texts.append(f"{number.printed_metric} {found.printed_value}")
    return ", ".join(texts)
