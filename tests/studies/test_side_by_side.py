"""The systems side by side: what they share, that they resume, that failures stay alone, and what the page says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from refseg.cli.main import main
from refseg.errors import CheckpointError, ConfigError
from refseg.models import MODELS
from refseg.studies import side_by_side
from refseg.studies.claims import CLAIMS, Claim, Entry, choose, entries_of, recipe_of, systems
from refseg.studies.report import to_dict, to_markdown
from refseg.studies.side_by_side import (
    RESULT,
    Settings,
    Stopped,
    build_recipe,
    prepare,
    run_entries,
    run_folder,
    time_entries,
)
from refseg.training.recipe import read_recipe

RECIPES = Path(__file__).parents[2] / "recipes"
SETTINGS = Settings(
    budget=8, pictures_per_batch=2, sentences_per_picture=2, pool=4, sentences=6, size=64, test_pictures=1
)
RELA = Entry("rela", recipe_of("rela"), {"input": {"size": 64}})


# What is compared


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.name)
def test_claims_are_of_configurations_that_exist_and_differ(claim: Claim, tmp_path: Path) -> None:
    if claim.system not in MODELS:
        pytest.skip(f"{claim.system} is not in this version")
    recipes = [build_recipe(entry, RECIPES, tmp_path, SETTINGS) for entry in claim.entries()]
    assert len({repr(recipe.model_config()) for recipe in recipes}) == len(recipes)
    assert len({entry.name for entry in claim.entries()}) == len(claim.rows)


def test_every_small_system_takes_part_and_is_asked_the_same() -> None:
    small = {name for name, system in MODELS.items() if "MINI" in system.presets}
    assert {entry.name for entry in systems()} == small | {"restr-resnet"}
    assert {claim.system for claim in CLAIMS} <= {"rela", "vlt", "m3att", "isfp", "lts", "restr", "reftr"}
    tags = set()
    for entry in systems():
        overrides = read_recipe(RECIPES / entry.recipe).model.overrides
        config = read_recipe(RECIPES / entry.recipe).model_config()
        assert getattr(config, "no_target_head", True), f"{entry.name} cannot say that nothing is meant"
        if entry.name != "mattnet":
            tags.add(tuple(overrides["tags"]))
    assert len(tags) == 1
    # MAttNet's region features come from a finished detector; it learns the attributes among those words.
    mattnet = read_recipe(RECIPES / recipe_of("mattnet")).model_config()
    assert set(mattnet.attributes) < set(*tags)
    assert mattnet.selection == "binary"


def test_names_choose_systems_and_claims() -> None:
    chosen, claims = choose(["fusion", "rela"])
    assert ([entry.name for entry in chosen], [claim.name for claim in claims]) == (["rela"], ["fusion"])
    assert [entry.name for entry in entries_of(chosen, claims)] == ["rela", "restr-resnet", "restr-resnet: IME"]
    with pytest.raises(ConfigError, match="'minmap' is neither a system nor a claim; did you mean 'minimap'"):
        choose(["minmap"])


def test_all_share_data_length_and_seed(tmp_path: Path) -> None:
    found = [build_recipe(entry, RECIPES, tmp_path, SETTINGS) for entry in systems()]
    assert len({repr(recipe.data) for recipe in found}) == 1
    assert {(recipe.training.steps, recipe.training.seed, recipe.schedule.warmup_steps) for recipe in found} == {
        (2, 0, 0)
    }
    assert len({recipe.output.folder for recipe in found}) == len(found)
    assert Settings(budget=4800, pictures_per_batch=8, sentences_per_picture=6).steps == 100


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"budget": 0}, "budget=0"), ({"workers": -1}, "workers=-1"), ({"test_seed": 0}, "a seed of their own")],
)
def test_settings_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Settings(**changes)


def test_a_folder_keeps_its_settings(tmp_path: Path) -> None:
    prepare(tmp_path, SETTINGS)
    prepare(tmp_path, replace(SETTINGS, workers=1))
    with pytest.raises(ConfigError, match=r"begun with budget = 8 \(now 16\)"):
        prepare(tmp_path, replace(SETTINGS, budget=16))


# Runs


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("systems")
    prepare(folder, SETTINGS)
    broken = Entry("broken", recipe_of("nobody"))
    return folder, run_entries([broken, RELA], RECIPES, folder, SETTINGS)


def test_an_entry_is_trained_and_measured(trained: tuple[Path, dict[str, Any]]) -> None:
    folder, results = trained
    result = results["rela"]
    assert result["training"]["step"] == 2
    assert result["training"]["sentences"] == 8
    assert result["counts"]["sentences"] == 6
    assert set(result["metrics"]) >= {"gIoU", "cIoU", "Pr@0.7", "N_acc", "T_acc"}
    assert result["parameters"] > 3e6
    assert 0 < result["macs_of_a_further_sentence"] < result["macs"]
    assert sum(kind["sentences"] for kind in result["kinds"].values()) == 6
    assert result["thresholds"] == [0.5, 0.5]
    assert json.loads((run_folder(folder, RELA) / RESULT).read_text()) == result


def test_one_failure_costs_nobody_else(trained: tuple[Path, dict[str, Any]]) -> None:
    assert "nobody-mini-scenes.toml" in trained[1]["broken"]["error"]
    assert "metrics" in trained[1]["rela"]


def test_what_is_finished_is_not_trained_again(
    trained: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, results = trained
    monkeypatch.setattr(side_by_side, "_run", None)
    assert run_entries([RELA], RECIPES, folder, SETTINGS)["rela"] == results["rela"]
    other = Entry("rela", RELA.recipe, {"input": {"size": 96}})
    assert "of another model than rela is now" in run_entries([other], RECIPES, folder, SETTINGS)["rela"]["error"]
    with pytest.raises(CheckpointError, match="delete"):
        side_by_side.finished(other, build_recipe(other, RECIPES, folder, SETTINGS), folder)


def test_what_was_interrupted_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os
    import signal

    from refseg.training import loop

    prepare(tmp_path, SETTINGS)
    whole, calls = loop.train, []

    def stopped_once(recipe: Any, resume: bool = False) -> Any:
        calls.append(resume)
        if resume:
            return whole(recipe, resume=True)
        return whole(recipe, on_step=lambda step, loss: os.kill(os.getpid(), signal.SIGINT))

    monkeypatch.setattr(loop, "train", stopped_once)
    with pytest.raises(Stopped, match="stopped after step 1"):
        run_entries([RELA], RECIPES, tmp_path, SETTINGS)
    assert run_entries([RELA], RECIPES, tmp_path, SETTINGS)["rela"]["training"]["step"] == 2
    assert calls == [False, True]


def test_thresholds_come_from_scenes_of_their_own(tmp_path: Path) -> None:
    settings = replace(SETTINGS, thresholds="calibrated", budget=4)
    prepare(tmp_path, settings)
    result = run_entries([RELA], RECIPES, tmp_path, settings)["rela"]
    info = json.loads((run_folder(tmp_path, RELA) / "run" / "final" / "config.json").read_text())["info"]
    assert result["thresholds"] == [info["threshold"], info["no_target_threshold"]]
    assert info["calibration"]["data"] == "drawn scenes, val"
    scored = {sample.text for sample in side_by_side.test_set(tmp_path, settings)}
    chosen_on = {sample.text for sample in side_by_side._held_out(tmp_path, settings)}
    assert scored != chosen_on


# The page


def test_the_page_says_what_was_measured(trained: tuple[Path, dict[str, Any]]) -> None:
    folder, results = trained
    claim = Claim("c", "rela", "A claim", "a table", "1 with, 2 without", (("as it is", {}), ("absent", {"width": 64})))
    times = time_entries([RELA, Entry("broken", "x")], folder, rounds=1, sentences=2)
    assert set(times) == {"rela"}
    page = to_markdown(to_dict(SETTINGS, [RELA], [claim], results, times), "refseg systems --budget 8")
    metrics = results["rela"]["metrics"]
    assert f"| rela | {100 * metrics['gIoU']:.1f} | {100 * metrics['cIoU']:.1f} |" in page
    assert f"| as it is | {100 * metrics['gIoU']:.1f} |" in page
    assert "| absent | failed |" in page
    assert f"{results['rela']['parameters'] / 1e6:.2f} M" in page
    assert f"{times['rela']['picture']:.1f}" in page
    assert "refseg systems --budget 8" in page
    assert "- broken: " in page
    assert "a table: 1 with, 2 without." in page
    for line in page.splitlines():
        if line.startswith("|"):
            assert line.count("|") >= 3


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["systems", "--output", str(tmp_path / "out"), "--recipes", str(RECIPES), "--budget", "4", "--pool", "2"]
    words += ["--pictures-per-batch", "2", "--sentences-per-picture", "2", "--size", "64", "--test-pictures", "1"]
    assert main([*words, "--only", "reftr", "--no-timing"]) == 0
    document = json.loads((tmp_path / "out" / "scenes.json").read_text())
    assert document["results"]["reftr"]["metrics"]["Acc@0.5"] is not None
    page = (tmp_path / "out" / "scenes.md").read_text()
    assert "boxes Acc@.5" in page
    assert "--budget 4" in page
    assert main([*words, "--only", "refr"]) == 2
    assert "did you mean 'reftr'" in capsys.readouterr().err
    assert main(["systems", "--list"]) == 0
    assert "minimap" in capsys.readouterr().out
    assert main([*words, "--recipes", str(tmp_path / "nowhere")]) == 2
