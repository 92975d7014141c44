"""What makes the documents' tables: the recipe, the model and the data set behind every row, and the rows of a table.

    published/tables.csv    every table and figure of the documents, and how a figure is made
    published/rows.csv      a published row (system, configuration, visual encoder) -> recipe and model of this package
    published/recipes.csv   a recipe -> the data set that it names, and what its command wants beside it

A row is a run for each data set that its numbers are about; `also` names every other preset that is the same row, and
patterns of runs (runs/...) where presets do not tell rows apart.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from typing import NamedTuple

from refseg.errors import ConfigError, RefsegError, did_you_mean
from refseg.evaluation.leaderboard.published import Result, documents, load_published, published_text

__all__ = [
    "DATA",
    "DOCUMENTS",
    "DataSet",
    "Entry",
    "Experiment",
    "Row",
    "data_set",
    "entries",
    "experiments",
    "find_entry",
    "numbers_of",
    "renamed",
    "row_of",
    "row_of_preset",
    "rows",
    "slug",
]

DOCUMENTS = ("gres", "lts", "restr", "reftr", "thesis")
"""The five documents, of whose tables and figures `entries` has every one."""
ROOT = "DATA"
"""The folder of the data sets in a printed command."""


class DataSet(NamedTuple):
    """A data set that recipes are run on; `printed` and `partition` are its names in the documents."""

    dataset: str
    split_by: str | None
    printed: str
    partition: str = ""
    least_words: int = 0
    """Words that an expression keeps at least: more than for RefCOCO where expressions are longer."""
    trained_on: str = ""
    """The data set, by its key, of which models learn that are scored on this one where a source names no other."""
    hidden: bool = False
    """Whether its server alone scores the validation set: answers are written for it."""


DATA: dict[str, DataSet] = {
    "refcoco": DataSet("refcoco", "unc", "RefCOCO", "unc"),
    "refcoco+": DataSet("refcoco+", "unc", "RefCOCO+", "unc"),
    "refcocog": DataSet("refcocog", "umd", "RefCOCOg", "umd", 20),
    "refcocog-google": DataSet("refcocog", "google", "RefCOCOg", "google", 20),
    "grefcoco": DataSet("grefcoco", "unc", "gRefCOCO", "unc", 20),
    "referit": DataSet("refclef", None, "ReferIt", "berkeley"),
    "flickr30k": DataSet("flickr30k", None, "Flickr30k Entities"),
    "visual-genome": DataSet("visual-genome", None, "Visual Genome"),
    "ref-youtube-vos": DataSet("ref-youtube-vos", None, "YouTube-RVOS", hidden=True),
    "mevis": DataSet("mevis", None, "MeViS", hidden=True),
    # As ReferFormer, beside which the thesis stands: without learning from it.
    "ref-davis17": DataSet("ref-davis17", None, "Ref-DAVIS17", trained_on="ref-youtube-vos"),
}
"""By the name that `refseg train --data` takes. VLT, LTS and M3Att give RefCOCOg's expressions 20 words, not 15."""


@dataclass(frozen=True)
class Row:
    """A published row, and what makes it here; `missing` says why nothing does."""

    system: str
    configuration: str
    visual_encoder: str
    subset: str
    recipes: tuple[str, ...]
    """Runs one after the other, of which the last one is scored; the names of files in recipes/."""
    preset: str
    """The model, "" for the recipe's own."""
    also: tuple[str, ...]
    evaluate: str
    """Further words of `refseg evaluate`."""
    missing: str

    @property
    def key(self) -> tuple[str, str, str]:
        """System, configuration and visual encoder, as `Result` has them."""
        return (self.system, self.configuration, self.visual_encoder)

    @property
    def presets(self) -> tuple[str, ...]:
        """All names of presets and rows that are this one."""
        return tuple(name for name in (self.preset, *self.also) if name and not name.startswith("runs/"))


@dataclass(frozen=True)
class Entry:
    """A table or figure: `how` makes a figure (or a table without a row in the results), `note` says what to know."""

    document: str
    name: str
    what: str
    how: str
    note: str

    @property
    def title(self) -> str:
        """ "thesis table 4.3", as `refseg tables` takes it."""
        return f"{self.document} {self.name.lower()}"


@dataclass(frozen=True)
class Experiment:
    """A row on one training set: commands that train it, and those that score it."""

    row: Row
    data: str
    """A key of `DATA`."""
    folder: str
    """The run that is scored."""
    training: tuple[tuple[str, ...], ...]
    """Words of `refseg`, a command a stage."""
    folders: tuple[str, ...]
    """The run of each stage."""
    scoring: tuple[tuple[str, ...], ...]
    scores: tuple[str, ...]
    """The file that each scoring command writes."""


def entries(document: str | None = None) -> list[Entry]:
    """Every table and figure of the five documents, or of one."""
    return [Entry(**line) for line in _read("tables") if document in (None, line["document"])]


@cache
def rows() -> tuple[Row, ...]:
    """Every published row of a system of this package that its authors or GRES's ran."""
    return tuple(
        Row(
            system=line["system"],
            configuration=line["configuration"],
            visual_encoder=line["visual_encoder"],
            subset=line["subset"],
            recipes=tuple(_listed(line["recipe"])),
            preset=line["preset"],
            also=tuple(_listed(line["also"])),
            evaluate=line["evaluate"],
            missing=line["missing"],
        )
        for line in _read("rows")
    )


def find_entry(title: str) -> Entry:
    """The table or figure that is called so: "thesis table 4.3", "gres 5". Raises `RefsegError` with the near ones."""
    every = {_plain(entry.title): entry for entry in entries()}
    wanted = _plain(title)
    for name in (wanted, re.sub(r"^(\S+) (?=\d)", r"\1 table ", wanted)):
        if name in every:
            return every[name]
    parts = [entry for name, entry in every.items() if re.fullmatch(rf"{re.escape(wanted)}[a-z]", name)]
    if parts:
        raise RefsegError(f"{title!r} has parts: {', '.join(entry.title for entry in parts)}")
    raise RefsegError(f"no table or figure {title!r}; {did_you_mean(wanted, [entry.title for entry in entries()])}")


@cache
def _rows_by_key() -> dict[tuple[str, str, str, str], Row]:
    """The first row of each key and subset."""
    return {(*row.key, row.subset): row for row in reversed(rows())}


def numbers_of(entry: Entry) -> list[Result]:
    """The published numbers of a table, in its order."""
    return [r for r in load_published() if (r.document, r.table) == (entry.document, entry.name)]


def row_of(result: Result) -> Row | None:
    """What makes a number: that of its subset where it has one of its own; None for other systems' quoted numbers."""
    if result.origin not in ("own", "rerun", "measured"):
        return None
    key = (result.system, result.configuration, result.visual_encoder)
    known = _rows_by_key()
    return known.get((*key, result.subset)) or known.get((*key, ""))


def row_of_preset(preset: str, evaluated: Sequence[str] = (), run: str = "") -> Row | None:
    """The published row that a trained preset stands beside, None where there is none. `evaluated` are options that it
    was scored with ("--oracle mask"), `run` is its folder: some rows are one model, scored or begun in another way."""
    fitting = [row for row in rows() if any(fnmatchcase(run, name) for name in row.also if name.startswith("runs/"))]
    fitting = fitting or [row for row in rows() if _plain(preset) in map(_plain, row.presets)]
    scored = [row for row in fitting if row.evaluate in evaluated]
    return next(iter(scored or [row for row in fitting if not row.evaluate]), None)


def experiments(entry: Entry, data: str = ROOT) -> list[Experiment]:
    """The runs that make a table, in the order of its rows; `data` is the folder of the data sets.

    Rows that nothing makes are left out: `row_of` of their numbers says why. Numbers of size and cost need no run.
    """
    if entry.name.startswith("Figure"):
        return _of_figure(entry, data)
    groups: dict[tuple[Row, str], dict[tuple[str, ...], None]] = {}
    for number in numbers_of(entry):
        row, place = row_of(number), _key(number.dataset, number.partition)
        if row is None or row.missing or place is None or not number.split:
            continue
        trained = _key(number.trained_on, "") or DATA[place].trained_on or place
        groups.setdefault((row, trained), {})[place, number.split, number.protocol] = None
    return [_experiment(row, trained, list(wanted), data) for (row, trained), wanted in groups.items()]


def data_set(name: str) -> DataSet:
    """The data set that --data calls `name`. Raises `ConfigError` with the near names."""
    if name not in DATA:
        raise ConfigError(f"--data: {name!r} is no data set of the recipes; {did_you_mean(name, list(DATA))}")
    return DATA[name]


def slug(name: str) -> str:
    """A name as a folder's: "vlt: table 4.3: 4 queries" becomes "vlt-table-4.3-4-queries"."""
    return re.sub(r"[^a-z0-9.+]+", "-", name.lower()).strip("-")


def renamed(path: str, own: str, data: str) -> str:
    """A run's path with another data set's name: "runs/vlt-paper-refcoco/best" of refcoco+ is its own run."""
    return re.sub(rf"(?<=-){re.escape(own)}(?=-|/|$)", data, path)


def _experiment(row: Row, data: str, wanted: Sequence[tuple[str, ...]], root: str) -> Experiment:
    known = {line["recipe"]: line for line in _read("recipes")}
    training, folders = [], []
    for recipe in row.recipes:
        line = known[recipe]
        own = line["data"]
        # Pre-training is on its own data set whatever the row is about.
        other = data if data != own and own != "visual-genome" else ""
        words = ["train", f"recipes/{recipe}.toml"]
        folder = f"runs/{recipe}"
        if row.preset:
            words += ["--preset", row.preset]
            folder = f"runs/{slug(row.preset)}-{other or DATA[own].dataset}"
        if other:
            words += ["--data", other]
            folder = folder if row.preset else renamed(folder, DATA[own].dataset, other)
        training.append((*words, f"data.root={root}", *line["words"].split()))
        folders.append(folder)
    scoring, scores = [], []
    for place, split, protocol in wanted:
        chosen = DATA[place]
        by = ["--split-by", chosen.split_by] if chosen.dataset == "refcocog" and chosen.split_by else []
        extra = row.evaluate.split()
        protocol = extra.pop(extra.index("--protocol") + 1) if "--protocol" in extra else protocol
        extra = [word for word in extra if word != "--protocol"]
        name = "-".join((place, split, protocol or "attention", *(slug(word) for word in extra)))
        file = f"{folders[-1]}/{name}.json"
        words = ["--model", f"{folders[-1]}/best", "--data", root, "--dataset", chosen.dataset, *by, "--split", split]
        if protocol:
            sent = ["--submission", file.removesuffix(".json")] if chosen.hidden else []
            scoring.append(("evaluate", *words, "--protocol", protocol, *extra, *sent, "--json", file))
        else:
            scoring.append(("attention", *words, "--json", file))
        scores.append(file)
    return Experiment(row, data, folders[-1], tuple(training), tuple(folders), tuple(scoring), tuple(scores))


def _of_figure(entry: Entry, root: str) -> list[Experiment]:
    """Figure 4.13 alone is a curve of runs that no table has."""
    if entry.title != "thesis figure 4.13":
        return []
    shares = [f"vlt: figure 4.13: N_DO {share}%" for share in (0, 10, 20, 30, 40, 50)]
    base = next(row for row in rows() if row.key == ("VLT", "", "DarkNet-53"))
    made = [Row(*base.key, "", base.recipes, share, (), "", "") for share in shares]
    return [_experiment(row, "refcoco", [("refcoco", "testB", "vlt")], root) for row in made]


def _key(dataset: str, partition: str) -> str | None:
    """The key of `DATA` that a printed data set is; the first partition where none is told."""
    found = (key for key, entry in DATA.items() if entry.printed == dataset and partition in ("", entry.partition))
    return next(found, None)


@cache
def _read(name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(published_text(name).splitlines()))


def _listed(text: str) -> Iterable[str]:
    return filter(None, (part.strip() for part in text.split(";")))


def _plain(name: str) -> str:
    names = " ".join(name.lower().replace(",", " ").split())
    for key, about in documents().items():
        names = names.replace(about["cite"].lower().replace(",", ""), key)
    return names
