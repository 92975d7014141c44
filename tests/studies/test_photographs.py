"""The systems side by side on photographs: which take part, on what, and what the page says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from refseg.cli.main import main
from refseg.encoders.vision.nanodet import ShuffleNetConfig
from refseg.errors import ConfigError
from refseg.inference.checkpoint import load_model
from refseg.models import MODELS
from refseg.state_dicts import read_tensors
from refseg.studies import photographs
from refseg.studies.claims import systems
from refseg.studies.photographs import Photographs, ScoredSet
from refseg.studies.settings import Run, Settings, runs_of, takes_encoders
from refseg.studies.side_by_side import build_recipe

RECIPES = Path(__file__).parents[2] / "recipes"
SETTINGS = Settings(budget=4, pictures_per_batch=2, sentences_per_picture=2, pool=2, size=64, test_pictures=1, curve=0)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn scenes on disk, in the place of photographs."""
    folder = tmp_path_factory.mktemp("data")
    words = ["--train", "4", "--val", "2", "--test", "1", "--size", "96", "--sentences", "6", "--workers", "1"]
    assert main(["data", "scenes", str(folder), *words]) == 0
    return folder


def test_a_test_set_is_read_from_the_command_line() -> None:
    text = "refcoco=a/b,dataset=refcoco,split=val"
    assert ScoredSet.parse(text) == ScoredSet("refcoco", "a/b", "refcoco", None, "val")
    assert ScoredSet.parse("x=data") == ScoredSet("x", "data")
    for wrong in ("data", "=data", "x="):
        with pytest.raises(ConfigError, match="is NAME=DIR"):
            ScoredSet.parse(wrong)
    with pytest.raises(ConfigError, match="'split'"):
        ScoredSet.parse("x=d,spilt=val")
    with pytest.raises(ConfigError, match="--photograph-test"):
        Photographs("data", ())


def test_systems_with_a_place_for_another_encoder_take_part() -> None:
    taken = {entry.name for entry in systems() if takes_encoders(entry)}
    assert {entry.name for entry in systems()} - taken == {"lavt", "mattnet"}
    for name in taken & MODELS.keys():
        assert ShuffleNetConfig in get_args(get_type_hints(type(MODELS[name].presets["MINI"]))["vision"])


def test_every_system_is_built_on_the_encoder(tmp_path: Path) -> None:
    settings = replace(SETTINGS, photographs=Photographs("data", (ScoredSet("x", "data"),), budget=8, size=96))
    runs = [run for run in runs_of(systems(), [], settings) if run.photographs]
    assert len(runs) == 9
    wanted = load_model("rela-photo")[0].config.vision  # type: ignore[union-attr]
    for run in runs:
        recipe = build_recipe(run, RECIPES, tmp_path, settings)
        config = recipe.model_config()
        assert (config.vision, config.input.size, recipe.training.steps) == (wanted, 96, 2)
        assert not getattr(config, "tags", ())
        assert recipe.data.root == "data"
        assert any("vision.*" in rule.names and not rule.train for rule in recipe.optimizer.groups)
        # The run on scenes is another one, and stays as it was.
        assert build_recipe(replace(run, photographs=False), RECIPES, tmp_path, settings).data.root is None
        assert replace(run, photographs=False).name != run.name


def test_a_system_without_a_place_says_so(tmp_path: Path) -> None:
    settings = replace(SETTINGS, photographs=Photographs("data", (ScoredSet("x", "data"),)))
    for name, words in (("lavt", "does not take a shufflenet"), ("mattnet", "regions alone")):
        entry = next(entry for entry in systems() if entry.name == name)
        with pytest.raises(ConfigError, match=words):
            build_recipe(Run(entry, 8, photographs=True), RECIPES, tmp_path, settings)


def test_the_encoder_is_that_of_the_weights(data: Path, tmp_path: Path) -> None:
    chosen = Photographs(str(data), (ScoredSet("scenes", str(data)),))
    photographs.prepare(tmp_path, chosen)
    kept = read_tensors(tmp_path / photographs.WEIGHTS)
    for name, value in load_model("rela-photo")[0].vision.state_dict().items():  # type: ignore[union-attr]
        assert (kept[name] == value).all()
    with pytest.raises(ConfigError, match="no picture encoder"):
        photographs.prepare(tmp_path / "other", replace(chosen, encoder="instances"))


def test_command(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["studies", "side-by-side", "-o", str(tmp_path), "--recipes", str(RECIPES), "--budget", "4", "--pool", "2"]
    words += ["--pictures-per-batch", "2", "--sentences-per-picture", "2", "--size", "64", "--test-pictures", "1"]
    words += ["--encoder", "own", "--curve", "0", "--only", "reftr", "--no-timing"]
    test = f"drawn={data},split=val"
    assert main([*words, "--photograph-test", test]) == 2
    assert "give --photographs" in capsys.readouterr().err
    words += ["--photographs", str(data), "--photograph-budget", "4", "--photograph-size", "64"]
    assert main(words) == 2
    assert "--photograph-test NAME=DIR" in capsys.readouterr().err
    assert main([*words, "--photograph-test", test]) == 0
    document = json.loads((tmp_path / "scenes.json").read_text())
    found = document["photographs"]
    assert list(found) == ["reftr", "instances"]
    assert found["reftr"]["drawn"]["expressions"] == found["instances"]["drawn"]["expressions"] > 0
    # On scenes the system has a row of its own.
    assert document["systems"]["reftr"]["gIoU"] == pytest.approx(
        100 * document["runs"]["reftr-4-0"]["metrics"]["gIoU"], abs=0.01
    )
    page = (tmp_path / "scenes.md").read_text()
    assert "## On photographs" in page
    assert f"drawn, {found['reftr']['drawn']['expressions']} expressions" in page
