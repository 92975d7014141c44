"""Every recipe of a main experiment trains two steps on small copies of its data set, and so do other data sets."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from refseg.cli.main import main
from refseg.config import read_toml
from refseg.encoders.vision.resnet import RESNET101
from refseg.errors import ConfigError
from refseg.evaluation.leaderboard.experiments import DATA
from refseg.evaluation.leaderboard.published import published_text
from refseg.models import preset, row_names
from refseg.training.epochs import in_steps
from refseg.training.layers import read_layers
from refseg.training.recipe import differences, parse_recipe, read_recipe
from refseg.training.source import open_pictures
from tests.support.small_runs import small, write_data

RECIPES = Path(__file__).parents[2] / "recipes"
USES = {line["recipe"]: line for line in csv.DictReader(published_text("recipes").splitlines())}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all data sets, where the runs of this module are kept: some go on from others."""
    return write_data(tmp_path_factory.mktemp("small"))


def train(place: Path, recipe: str, *words: str) -> int:
    return main(["train", str(RECIPES / f"{recipe}.toml"), f"data.root={place}", *small(recipe), *words])


# At the small size ResNet-101 is ResNet-50.
LARGER = [name for name in USES if "-r101" in name]


@pytest.mark.parametrize("recipe", [name for name in USES if name not in LARGER])
def test_a_recipe_trains_two_steps(recipe: str, place: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(place)
    assert train(place, recipe) == 0, capsys.readouterr().err
    folder = place / "runs" / recipe
    assert (folder / "final" / "model.safetensors").is_file()
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log if line["kind"] == "train"] == [1, 2]


@pytest.mark.parametrize("recipe", LARGER)
def test_the_larger_encoder_is_all_that_differs(recipe: str) -> None:
    larger, other = (read_recipe(RECIPES / f"{name}.toml") for name in (recipe, recipe.replace("-r101", "")))
    model = larger.model_config()
    assert model.vision == RESNET101
    assert replace(model, vision=other.model_config().vision) == other.model_config()
    changed = differences(larger, other)
    assert {name.partition(".")[0] for name in changed} <= {"model", "output", "pretrained"}
    assert all("-r101" in str(before) for name, (before, _) in changed.items() if not name.startswith("model"))


@pytest.mark.parametrize("data", [name for name in DATA if name not in ("flickr30k", "visual-genome")])
def test_a_recipe_opens_another_data_set(data: str, place: Path) -> None:
    recipe = read_recipe(RECIPES / "m3att-paper-refcoco.toml", [f"data.root={place}"], data=data)
    opened = open_pictures(recipe.data).dataset
    assert opened.name == DATA[data].dataset
    assert opened.split_by == (DATA[data].split_by or opened.split_by)
    assert {sample.split for sample in opened} == {"train"}
    assert recipe.model_config().text.max_words == max(15, DATA[data].least_words)


def test_a_recipe_is_run_on_another_data_set(place: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(place)
    assert train(place, "lts-paper-refcoco", "--data", "refcocog-google", "training.steps=1") == 0
    stored = read_toml(place / "runs" / "lts-paper-refcocog-google" / "recipe.toml")
    assert (stored["data"]["dataset"], stored["data"]["split_by"]) == ("refcocog", "google")
    assert stored["model"]["overrides"]["text"]["max_words"] == 20


def test_other_data_sets_and_models_are_runs_of_their_own() -> None:
    def folders(recipe: str, **names: str) -> tuple[str, str | None]:
        chosen = read_recipe(RECIPES / f"{recipe}.toml", **names)
        return chosen.output.folder, chosen.pretrained.model

    assert folders("vlt-paper-refcoco", data="refcoco+") == ("runs/vlt-paper-refcoco+", None)
    masks = folders("reftr-official-refcoco-masks", data="refcocog")
    assert masks == ("runs/reftr-official-refcocog-masks", "runs/reftr-official-refcocog/best")
    genome = folders("reftr-genome-r101-refcoco", data="refcoco+")
    assert genome == ("runs/reftr-genome-r101-refcoco+", "runs/reftr-pretrain-r101-genome/final")
    row = folders("vlt-paper-refcoco", preset="vlt: table 4.3: 4 queries")
    assert row[0] == "runs/vlt-table-4.3-4-queries-refcoco"
    both = folders("restr-paper-refcocog", preset="restr: table 3b: VME", data="referit")
    assert both[0] == "runs/restr-table-3b-vme-referit"
    given = read_recipe(RECIPES / "vlt-paper-refcoco.toml", ["output.folder=x"], data="refcoco+")
    assert given.output.folder == "x"


@pytest.mark.parametrize("row", ["rela: table 2 #1: hard split, input", "rela: table 2 #2: hard split, decoder"])
def test_hard_splits_go_through_a_recipe(row: str) -> None:
    chosen = read_recipe(RECIPES / "rela-paper-grefcoco.toml", preset=row)
    assert chosen.model_config() == preset(row)
    assert parse_recipe({"model": {"preset": row}}).model_config() == preset(row)


def test_seven_convolutions_are_trained_by_name(place: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(place)
    small_convolutions = [word for word in small("vlt-paper-refcoco") if not word.startswith("model.transformer")]
    words = ["--preset", "vlt: table 4.1: 7 conv layers", "model.transformer.hidden=8"]
    recipe = str(RECIPES / "vlt-paper-refcoco.toml")
    assert main(["train", recipe, f"data.root={place}", *small_convolutions, *words]) == 0, capsys.readouterr().err
    assert (place / "runs" / "vlt-table-4.1-7-conv-layers-refcoco" / "final").is_dir()


def test_every_row_is_a_preset_of_a_recipe() -> None:
    for name in row_names():
        recipe = parse_recipe({"model": {"preset": name}})
        assert recipe.model_config() == preset(name) == preset(name.upper())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--preset", "vlt: table 4.3: 5 queries"], "no row of a table; did you mean 'vlt: table 4.3:"),
        (["--preset", "vlt-papre"], "did you mean 'vlt-paper'"),
        (["--preset", "nonsense"], "which `refseg models` lists"),
        (["--data", "refcocoo"], "did you mean 'refcoco'"),
        (["data.exclude=['gone.txt']"], "data.exclude: gone.txt cannot be read"),
        (["training.epochs=-1"], "training.epochs=-1.0: 0 or more is wanted"),
    ],
)
def test_wrong_names_are_one_line(words: list[str], message: str, place: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(place)
    recipe = str(RECIPES / "vlt-paper-refcoco.toml")
    assert main(["train", recipe, f"data.root={place}", "output.folder=wrong", *words]) == 2
    printed = capsys.readouterr().err.strip().splitlines()
    assert len(printed) == 1
    assert message in printed[0]
    assert not (place / "wrong" / "recipe.toml").exists()


def test_extended_files(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text('[training]\nsteps = 5\nseed = 2\n[optimizer]\ngroups = [{names = ["a"]}]\n')
    (tmp_path / "next.toml").write_text('extends = "base.toml"\n[training]\nepochs = 2\n[optimizer]\nlr = 0.5\n')
    values = read_layers(tmp_path / "next.toml")
    assert values == {"training": {"epochs": 2, "seed": 2}, "optimizer": {"groups": [{"names": ["a"]}], "lr": 0.5}}
    assert read_recipe(tmp_path / "next.toml", ["training.steps=7"]).training.epochs == 0
    (tmp_path / "ring.toml").write_text('extends = "ring.toml"\n')
    with pytest.raises(ConfigError, match="extend one another"):
        read_layers(tmp_path / "ring.toml")
    (tmp_path / "gone.toml").write_text('extends = "bas.toml"\n')
    with pytest.raises(ConfigError, match=r"gone\.toml: extends: no file 'bas\.toml' beside it; .*'base\.toml'"):
        read_layers(tmp_path / "gone.toml")


def test_epochs_become_steps(place: Path) -> None:
    """RefCOCO's small copy: 4 pictures, 8 things, 16 sentences are learnt from."""
    values = {
        "data": {"root": str(place), "dataset": "refcoco", "unit": "sentence", "pictures_per_batch": 2},
        "training": {"epochs": 3},
        "schedule": {"kind": "step", "milestone_epochs": [1, 2.5], "warmup_epochs": 0.5},
        "evaluation": {"every_epochs": 1},
    }
    recipe = parse_recipe(values)
    whole = in_steps(recipe, open_pictures(recipe.data))
    assert (whole.training.steps, whole.schedule.milestones, whole.schedule.warmup_steps) == (24, (8, 20), 4)
    assert (whole.evaluation.every, whole.training.epochs, whole.schedule.milestone_epochs) == (8, 0.0, ())
    assert in_steps(whole, open_pictures(recipe.data)) == whole
    for unit, of, steps in (("sentence", "object", 12), ("picture", "item", 6), ("picture", "sentence", 6)):
        other = parse_recipe(
            {**values, "data": {**values["data"], "unit": unit}, "training": {"epochs": 3, "epoch_of": of}}
        )
        assert in_steps(other, open_pictures(other.data)).training.steps == steps
    scenes = parse_recipe({"training": {"epochs": 3}})
    with pytest.raises(ConfigError, match=r"training\.epochs: drawn scenes and mixed sources never end"):
        in_steps(scenes, open_pictures(scenes.data))


def test_listed_pictures_are_not_learnt_from(place: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("1\n2\n")
    shared = [{"train_id": 3, "evaluation_id": 9}]
    (tmp_path / "leak.json").write_text(json.dumps({"train": "a", "evaluation": "b", "shared": shared}))
    data = {"root": str(place), "dataset": "refcoco"}

    def opened(*files: str):
        recipe = parse_recipe({"data": {**data, "exclude": [str(tmp_path / name) for name in files]}})
        return open_pictures(recipe.data)

    kept = opened("list.txt", "leak.json")
    assert {sample.image_id for index in range(kept.count) for sample in kept.samples(index)} == {4}
    assert "3 of 4 pictures are left out" in kept.notice
    (tmp_path / "all.txt").write_text("1 2 3 4")
    with pytest.raises(ConfigError, match="list every picture of refcoco"):
        opened("all.txt")
    (tmp_path / "bad.txt").write_text("one")
    with pytest.raises(ConfigError, match="a picture's number a line"):
        opened("bad.txt")
    (tmp_path / "bad.json").write_text("[]")
    with pytest.raises(ConfigError, match="a report of `refseg data leak --json`"):
        opened("bad.json")
