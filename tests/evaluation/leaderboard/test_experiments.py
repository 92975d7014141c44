"""The documents' tables: all are listed, every row is made by what exists, and scores stand beside their row."""

from __future__ import annotations

import csv
import json
import shlex
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from refseg.cli.app import load_verb
from refseg.cli.main import main
from refseg.cli.verbs import VERBS
from refseg.errors import RefsegError
from refseg.evaluation.leaderboard import Board, load_measured, load_published, select
from refseg.evaluation.leaderboard.experiments import (
    DATA,
    DOCUMENTS,
    entries,
    experiments,
    find_entry,
    numbers_of,
    row_of,
    row_of_preset,
    rows,
)
from refseg.evaluation.leaderboard.page import costs, lines, page
from refseg.evaluation.leaderboard.published import published_text
from refseg.models import MODELS, preset, row_names
from refseg.training.layers import named, read_layers
from refseg.training.recipe import read_recipe

ROOT = Path(__file__).parents[3]
USES = {line["recipe"]: line for line in csv.DictReader(published_text("recipes").splitlines())}

# Tables and figures of each document, counted on it; tables whose parts (a), (b) have numbers count as two.
# RefTR's pages with tables 2 to 5 were not at hand.
COUNTS = {
    "gres": (7, 9),
    "lts": (7, 5),
    "restr": (6, 5),
    "reftr": (5, 1),
    "thesis": (4 + 9 + 5 + 7, 1 + 4 + 7 + 16 + 10 + 10),
}
NUMBERLESS = {"gres": {"Table 1"}, "thesis": {"Table 6.1"}, "reftr": {f"Table {number}" for number in range(2, 6)}}
UNPRINTED = (
    "reftr: ", "mattnet: table 2", "instances: ", "m3att: section 5.2.2", "vlt: figure 4.13", "vlt: table 4.8",
)  # fmt: skip
"""How the names of rows begin that no table of the five documents prints a number of."""


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_table_and_figure_is_listed_once(document: str) -> None:
    listed = entries(document)
    assert max(Counter(entry.name for entry in listed).values()) == 1
    kinds = Counter(entry.name.split(" ")[0] for entry in listed)
    assert (kinds["Table"], kinds["Figure"]) == COUNTS[document]
    printed = {number.table for number in load_published() if number.document == document}
    tables = {entry.name for entry in listed if entry.name.startswith("Table")}
    assert tables == {name for name in printed if name.startswith("Table")} | NUMBERLESS.get(document, set())


def test_every_row_that_authors_ran_is_made_or_says_why_not() -> None:
    for number in load_published():
        if number.document in DOCUMENTS and number.table.startswith("Table") and number.origin in ("own", "rerun"):
            row = row_of(number)
            assert row is not None, (number.system, number.configuration, number.visual_encoder)
            assert bool(row.missing) != bool(row.recipes), row
            assert row.missing or row.presets or row.also or row.evaluate, row


def test_presets_of_a_row_exist_and_are_one_model() -> None:
    known = {name: preset(name) for row in rows() for name in row.presets}
    for row in rows():
        same = [known[name] for name in row.presets if name.startswith(f"{name.partition(':')[0]}: table")]
        if row.system in ("VLT", "LTS", "M3Att", "ISFP") and row.configuration == "":
            assert all(config == same[0] for config in same), row.presets
    assert len(known) > 80


def test_every_row_of_the_systems_knows_its_published_row() -> None:
    """So that what is trained by its name stands beside it; rows without a printed number are listed above."""
    for name in row_names():
        row = row_of_preset(name)
        if row is None:
            assert name.startswith(UNPRINTED), name
            continue
        assert any((n.system, n.configuration, n.visual_encoder) == row.key for n in load_published()), name
    assert row_of_preset("vlt: table 4.3: 4 queries").configuration == "4 queries"
    assert row_of_preset("isfp-paper", ["--protocol vlt", "--oracle mask"]).configuration == "oracle: true mask"
    assert row_of_preset("rela-paper", ["--protocol rela"]).configuration == ""
    pretrained = row_of_preset("reftr-official", (), "runs/reftr-genome-refcoco+-masks")
    assert pretrained.configuration == "pre-trained on Visual Genome"
    assert row_of_preset("reftr-official", (), "runs/reftr-official-refcoco-masks").configuration == ""
    assert row_of_preset("no such preset") is None


@pytest.mark.parametrize("recipe", USES)
def test_what_is_said_of_recipes_is_in_them(recipe: str) -> None:
    path = ROOT / "recipes" / f"{recipe}.toml"
    head = path.read_text().split("\n\n")[0]
    use = USES[recipe]
    for word in use["words"].split():
        name = word.partition("=")[0]
        assert word in head or f"{name}=FILE" in head or f"{name}=VECTORS" in head, word
    read, data = read_recipe(path, use["words"].split()), DATA[use["data"]]
    assert read.data.dataset == data.dataset
    if read.data.split_by and data.split_by:
        assert read.data.split_by == data.split_by


def test_commands_are_those_that_refseg_takes() -> None:
    """Verbs and options exist, recipes are files, and a run's folder is the one that its recipe writes."""
    every = [one for entry in entries() for one in experiments(entry)]
    commands = [words for one in every for words in (*one.training, *one.scoring)]
    commands += [tuple(shlex.split(line)[1:]) for entry in entries() for line in costs(entry)]
    for entry in entries():
        commands += [tuple(shlex.split(part)[1:]) for part in filter(None, entry.how.split(" && "))]
        if entry.note.startswith("refseg/"):
            assert (ROOT / entry.note).is_file()
    assert len(commands) > 300
    for words in dict.fromkeys(commands):
        verb = words[0]
        assert verb in VERBS, words
        command = load_verb(verb)
        rest = list(words[1:])
        if hasattr(command, "commands"):
            command = command.commands[rest.pop(0)]
        known = {option for param in command.params for option in param.opts}
        assert {word for word in rest if word.startswith("-")} <= known, words
    runs = {(words[:6], folder) for made in every for folder, words in zip(made.folders, made.training, strict=True)}
    for words, folder in runs:
        options = {name[2:]: value for name, value in pairwise(words) if name.startswith("--")}
        values = named(read_layers(ROOT / words[1]), options.get("preset"), options.get("data"))
        assert values["output"]["folder"] == folder, words


def test_the_page_is_what_the_command_writes(tmp_path: Path, capsys) -> None:
    assert main(["tables", "-o", str(tmp_path / "tables.md")]) == 0
    assert (tmp_path / "tables.md").read_text() == (ROOT / "docs" / "tables.md").read_text(), (
        "the page is behind: refseg tables -o docs/tables.md"
    )


def test_the_page_holds_every_number_of_the_rows_that_are_made() -> None:
    text = page()
    for entry in entries():
        assert f"### {entry.name}: " in text or f"| {entry.name} |" in text
        cells = [line[3] for line in lines(entry)[1:]]
        wanted = Counter(f"{n.printed_metric} {n.printed_value}" for n in numbers_of(entry) if row_of(n) is not None)
        found = Counter(part.removesuffix(" M").removesuffix(" G") for cell in cells for part in cell.split(", "))
        assert found == wanted, entry.title


def score(path: Path, metrics: dict[str, float], **about: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {"metrics": metrics, "protocol": {"name": "vlt"}, "counts": {"sentences": 3, "no_target": 0}, **about}
    path.write_text(json.dumps(document))


def test_a_score_stands_beside_its_published_row(tmp_path: Path, capsys) -> None:
    data = {"dataset": "refcoco", "split": "testB", "split_by": "unc"}
    about = {"model": "runs/x/best", "preset": "vlt: table 4.3: 4 queries", "trained_on": "refcoco", "data": data}
    score(tmp_path / "runs" / "x" / "a.json", {"mIoU": 0.5, "gIoU": 0.5, "Pr@0.5": 0.25}, **about)
    measured = load_measured([tmp_path / "runs"])
    assert {(r.system, r.configuration, r.visual_encoder, r.trained_on) for r in measured} == {
        ("VLT", "4 queries", "DarkNet-53", "")
    }
    board = Board(select([*load_published(), *measured], system="VLT", dataset="RefCOCO", split="testB", metric="mIoU"))
    forms = [line[:2] for line in board.table()]
    assert forms.index(["VLT", "4 queries, measured here, vlt"]) == forms.index(["VLT", "4 queries"]) + 1
    assert ["VLT", "8 queries"] not in forms  # other ablations only when they are asked for
    four = next(line for line in lines(find_entry("thesis table 4.3"), measured) if line[0] == "VLT, 4 queries")
    assert four[4] == "IoU 50.00, Pr@0.5 25.00"
    assert main(["tables", "thesis table 4.3", "--measured", str(tmp_path / "runs")]) == 0
    assert "IoU 50.00, Pr@0.5 25.00" in capsys.readouterr().out
    other = {
        **about,
        "data": {"dataset": "refcoco+", "split": "val", "split_by": "unc"},
        "preset": "vlt: table 4.5: CL",
    }
    score(tmp_path / "b.json", {"mIoU": 0.5}, **other)
    _, *body = lines(find_entry("thesis 4.5b"), load_measured([tmp_path / "b.json"]))
    crossed = next(line for line in body if line[4])
    assert crossed[0] == "VLT, inter-sample learning without masking (trained on RefCOCO)"


def test_parts_of_a_split_are_measured_too(tmp_path: Path) -> None:
    """ReSTR's table 2 by length, and the attention of its table 3a by layer."""
    about = {"preset": "restr-paper", "trained_on": "refcocog", "protocol": {"name": "restr"}}
    data = {"dataset": "refcocog", "split": "val", "split_by": "google"}
    lengths = {"1-5 words": {"sentences": 3, "cIoU": 0.5}, "11+ words": {"sentences": 2, "cIoU": 0.25}}
    score(tmp_path / "a.json", {"cIoU": 0.4}, data=data, breakdowns={"length": lengths}, **about)
    body = lines(find_entry("restr table 2"), load_measured([tmp_path / "a.json"]))[1:]
    found = {line[0]: line[4] for line in body if line[4]}
    assert found == {"ReSTR, 1-5 words": "IoU 50.00", "ReSTR, 11-20 words": "IoU 25.00"}
    shares = {"layer 2": {"attention on pixels": 0.75, "attention on words": 0.25}}
    about |= {"preset": "restr: table 3b: VME", "protocol": {"name": "attention"}}
    score(tmp_path / "b.json", {}, data={**data, "split": "train"}, breakdowns={"layer": shares}, **about)
    body = lines(find_entry("restr table 3a"), load_measured([tmp_path / "b.json"]))[1:]
    assert [line[4] for line in body] == ["", "attention on pixels 75.00, attention on words 25.00", "", ""]
    score(tmp_path / "c.json", {}, data=data, breakdowns={"length": {"3 words": {"cIoU": "much"}}}, **about)
    with pytest.raises(RefsegError, match=r"breakdowns\.length: the metric cIoU"):
        load_measured([tmp_path / "c.json"])


@pytest.mark.parametrize(
    ("title", "message"),
    [
        ("thesis table 4.33", "did you mean 'thesis table 4.3'"),
        ("gres tabel 5", "did you mean 'gres table 5'"),
        ("restr table 3", "has parts: restr table 3a, restr table 3b"),
        ("nothing at all", "choose from"),
    ],
)
def test_a_table_that_is_not_there_names_the_near_ones(title: str, message: str, capsys) -> None:
    assert main(["tables", title]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_systems_of_the_rows_are_those_that_are_here() -> None:
    made = {name.partition("-")[0].partition(":")[0] for row in rows() for name in row.presets}
    assert made <= set(MODELS)
