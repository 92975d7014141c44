"""The systems side by side: what they share, that they resume, that failures stay alone, and what the page says."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refseg.cli.main import main
from refseg.errors import CheckpointError, ConfigError, RefsegError
from refseg.metrics.counts import Row
from refseg.models import MODELS
from refseg.state_dicts import read_tensors
from refseg.studies import shared_encoder, side_by_side
from refseg.studies.claims import CLAIMS, Claim, Entry, choose, entries_of, no_target_costs, recipe_of, systems
from refseg.studies.curves import curves_svg
from refseg.studies.finished import ABOUT, ENCODER_FILE, RESULT, carry
from refseg.studies.report import to_dict, to_markdown
from refseg.studies.scene_sets import data_of, held_out
from refseg.studies.scene_sets import test_set as scored_scenes
from refseg.studies.settings import Run, Settings, runs_of
from refseg.studies.shared_encoder import STATE, SeeingSettings, learn_to_see
from refseg.studies.side_by_side import Stopped, build_recipe, collect, prepare, run_all, run_folder, time_runs
from refseg.studies.unread import unread
from refseg.studies.weighing import equal_time, weigh
from refseg.training.recipe import read_recipe

RECIPES = Path(__file__).parents[2] / "recipes"
SETTINGS = Settings(
    budget=8,
    pictures_per_batch=2,
    sentences_per_picture=2,
    pool=4,
    sentences=6,
    size=64,
    test_pictures=1,
    encoder_passes=1,
    curve=0,
    seeds=1,
)
RELA, LTS = (Run(Entry(name, recipe_of(name)), 8) for name in ("rela", "lts"))


# What is compared


@pytest.mark.parametrize("claim", [*CLAIMS, *no_target_costs()], ids=lambda claim: claim.name)
def test_claims_are_of_configurations_that_exist_and_differ(claim: Claim, tmp_path: Path) -> None:
    assert claim.system in MODELS
    recipes = [build_recipe(Run(entry, 8), RECIPES, tmp_path, SETTINGS) for entry in claim.entries()]
    assert len({repr(recipe.model_config()) for recipe in recipes}) == len(recipes)
    assert len({entry.name for entry in claim.entries()}) == len(claim.rows)
    assert {claim.entry(label).name for label in claim.pair} <= {entry.name for entry in claim.entries()}


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


def test_groups_stand_for_their_members() -> None:
    chosen, claims = choose(["systems", "minimap"])
    assert [entry.name for entry in chosen] == [entry.name for entry in systems()]
    assert [claim.name for claim in claims] == ["minimap"]
    assert [claim.name for claim in choose(["no-target"])[1]] == [claim.name for claim in no_target_costs()]


def test_all_share_data_length_and_start(tmp_path: Path) -> None:
    runs = [Run(entry, 8) for entry in systems()]
    found = [build_recipe(run, RECIPES, tmp_path, SETTINGS) for run in runs]
    assert len({repr(replace(recipe.data, feature_cache=None)) for recipe in found}) == 1
    assert {(recipe.training.steps, recipe.training.seed, recipe.schedule.warmup_steps) for recipe in found} == {
        (2, 0, 0)
    }
    assert len({recipe.output.folder for recipe in found}) == len(found)
    shared = {run.entry.name for run, recipe in zip(runs, found, strict=True) if recipe.data.feature_cache}
    assert shared == {"rela", "m3att", "vlt", "reftr", "lts", "isfp", "cris", "restr", "restr-resnet", "mattnet"}
    for run, recipe in zip(runs, found, strict=True):
        assert recipe.model_config().input.size == 64
        if run.entry.name == "mattnet":  # what it keeps are features of regions, from a detector of its own
            continue
        frozen = any("vision.*" in rule.names and not rule.train for rule in recipe.optimizer.groups)
        # Words enter between the stages of LAVT's encoder: it has no maps to keep.
        assert frozen == (recipe.data.feature_cache is not None) == (run.entry.name != "lavt")
        assert recipe.pretrained.vision is not None
    starts = {run.entry.name: recipe.pretrained.vision for run, recipe in zip(runs, found, strict=True)}
    assert len({starts["rela"], starts["reftr"], starts["restr-resnet"]}) == 1
    assert len({starts["rela"], starts["restr"], starts["lavt"]}) == 3
    caches = {run.entry.name: recipe.data.feature_cache for run, recipe in zip(runs, found, strict=True)}
    assert caches["rela"] == caches["vlt"] == caches["lts"]
    assert caches["rela"] != caches["reftr"], "a dilated encoder has other maps"


def test_an_encoder_that_learns_on_has_a_lower_rate_and_no_cache(tmp_path: Path) -> None:
    tuned = build_recipe(RELA, RECIPES, tmp_path, replace(SETTINGS, encoder="tuned"))
    assert tuned.data.feature_cache is None
    assert [rule.lr_mult for rule in tuned.optimizer.groups if "vision.*" in rule.names] == [0.1]
    own = build_recipe(RELA, RECIPES, tmp_path, replace(SETTINGS, encoder="own"))
    assert own.pretrained.vision is None
    assert not [rule for rule in own.optimizer.groups if "vision.*" in rule.names]


@pytest.mark.parametrize(("name", "kind", "start"), [("restr", "ViT", "frozen"), ("lavt", "Swin", "tuned")])
def test_encoders_of_other_kinds_have_the_same_lessons(tmp_path: Path, name: str, kind: str, start: str) -> None:
    run = Run(choose([name])[0][0], 4)
    settings = replace(SETTINGS, pool=2, budget=4)
    prepare(tmp_path, settings, RECIPES)
    result = run_all([run], RECIPES, tmp_path, settings)[run.name]
    assert (result["encoder_kind"], result["encoder"]) == (kind, start)
    assert 0 <= result["encoder_probe"]["category"] <= 1
    recipe = build_recipe(run, RECIPES, tmp_path, settings)
    seen = read_tensors(Path(str(recipe.pretrained.vision)))
    trained = read_tensors(run_folder(tmp_path, run) / "run" / "final" / "model.safetensors")
    same = [trained[f"vision.{key}"].equal(value) for key, value in seen.items()]
    assert all(same) == (start == "frozen")
    document = to_dict(settings, [run.entry], [], {run.name: result}, {}, {})
    assert f"{name} begins with a {kind} that has had the same lessons" in to_markdown(document, "refseg")


def test_systems_are_trained_once_and_claims_with_every_seed() -> None:
    chosen, claims = choose(["rela", "minimap"])
    runs = runs_of(chosen, claims, replace(SETTINGS, seeds=2))
    # The row of the claim that is the system itself is the system's own run.
    assert [(run.entry.name, run.seed) for run in runs] == [
        ("rela", 0),
        ("rela: without minimap", 0),
        ("rela", 1),
        ("rela: without minimap", 1),
    ]
    fewer = runs_of(chosen, claims, replace(SETTINGS, claim_budget=4))
    assert [(run.entry.name, run.budget) for run in fewer] == [("rela", 8), ("rela", 4), ("rela: without minimap", 4)]
    assert Settings(budget=4800, pictures_per_batch=8, sentences_per_picture=6).steps(4800) == 100


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"budget": 0}, "budget=0"), ({"workers": -1}, "workers=-1"), ({"test_seed": 0}, "a seed of their own")],
)
def test_settings_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Settings(**changes)


# The shared encoder


def see(folder: Path, **changes: Any) -> Path:
    from refseg.training.pool import ScenePool

    pool = ScenePool.of(data_of(folder.parent, SETTINGS, "train"))
    settings = SeeingSettings(**{"passes": 2, "batch": 2, "width": 16, **changes})
    return learn_to_see(pool.__getitem__, 4, pool.__getitem__, 1, ["dog", "red", "striped"], 64, folder, settings)


def test_the_encoder_learns_what_the_scenes_hold(tmp_path: Path) -> None:
    """Two scenes by heart: their categories and colours, and where things end."""
    from refseg.training.pool import ScenePool

    tags = read_recipe(RECIPES / recipe_of("rela")).model.overrides["tags"]
    pool = ScenePool.of(data_of(tmp_path, SETTINGS, "train"))
    groups = [pool[0], pool[1]]
    settings = SeeingSettings(passes=60, batch=2, width=32, lr=4e-3)
    learn_to_see(lambda number: groups[number], 2, lambda number: groups[number], 2, tags, 64, tmp_path / "e", settings)
    probe = json.loads((tmp_path / "e" / ABOUT).read_text())["probe"]
    assert probe["category"] > 0.8
    assert probe["color"] > 0.8
    assert probe["boundary_f1"] > 0.5


def test_an_encoder_that_was_stopped_goes_on_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = read_tensors(see(tmp_path / "whole"))
    own = shared_encoder._keep

    def keep(path: Path, model: Any, optimizer: Any, step: int, seconds: float) -> None:
        own(path, model, optimizer, step, seconds)
        if step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(shared_encoder, "_SAVE_EVERY", -1.0)
    monkeypatch.setattr(shared_encoder, "_keep", keep)
    with pytest.raises(shared_encoder.Stopped):
        see(tmp_path / "cut")
    assert (tmp_path / "cut" / STATE).exists()
    monkeypatch.setattr(shared_encoder, "_keep", own)
    again = read_tensors(see(tmp_path / "cut"))
    assert whole.keys() == again.keys()
    assert all(whole[name].equal(again[name]) for name in whole)
    assert not (tmp_path / "cut" / STATE).exists()


def test_an_encoder_of_other_settings_is_refused(tmp_path: Path) -> None:
    file = see(tmp_path / "e")
    assert see(tmp_path / "e") == file
    with pytest.raises(CheckpointError, match="other settings"):
        see(tmp_path / "e", passes=3)


# Runs


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    prepare(folder, SETTINGS, RECIPES)
    return folder


@pytest.fixture(scope="module")
def trained(prepared: Path) -> tuple[Path, dict[str, Any]]:
    broken = Run(Entry("broken", recipe_of("nobody")), 8)
    return prepared, run_all([broken, RELA], RECIPES, prepared, replace(SETTINGS, curve=1))


def test_a_folder_keeps_its_settings(prepared: Path) -> None:
    prepare(prepared, replace(SETTINGS, workers=1, seeds=2, budget=16, claim_budget=4), RECIPES)
    with pytest.raises(ConfigError, match=r"begun with sentences = \d+ \(now 16\)"):
        prepare(prepared, replace(SETTINGS, sentences=16), RECIPES)


def test_a_run_is_trained_and_measured(trained: tuple[Path, dict[str, Any]]) -> None:
    folder, results = trained
    result = results[RELA.name]
    assert result["training"]["step"] == 2
    assert result["training"]["sentences"] == 8
    assert result["counts"]["sentences"] == 6
    assert set(result["metrics"]) >= {"gIoU", "cIoU", "Pr@0.7", "N_acc", "T_acc"}
    assert result["parameters"] > 3e6
    assert 0 < result["macs_of_a_further_sentence"] < result["macs"]
    assert sum(kind["sentences"] for kind in result["kinds"].values()) == 6
    assert result["thresholds"] == [0.5, 0.5]
    assert [point["sentences"] for point in result["curve"]] == [8]
    assert json.loads((run_folder(folder, RELA) / RESULT).read_text()) == result
    rows = side_by_side.read_rows(folder, RELA)
    assert len(rows) == 6
    learnt, given = (
        read_tensors(path)
        for path in (
            run_folder(folder, RELA) / "run" / "final" / "model.safetensors",
            folder / "encoder" / ENCODER_FILE,
        )
    )
    assert all(learnt[f"vision.{name}"].equal(value) for name, value in given.items() if value.is_floating_point())


def test_one_failure_costs_nobody_else(trained: tuple[Path, dict[str, Any]]) -> None:
    folder, results = trained
    assert "nobody-mini-scenes.toml" in results["broken-8-0"]["error"]
    assert "metrics" in results[RELA.name]
    missing = Run(RELA.entry, 8, seed=1)
    gathered = collect([RELA, missing], RECIPES, folder, replace(SETTINGS, curve=1))
    assert gathered[RELA.name] == results[RELA.name]
    assert gathered[missing.name] == {"error": "is not finished"}


def test_what_is_finished_is_not_trained_again(
    trained: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, results = trained
    monkeypatch.setattr(side_by_side, "_run", None)
    assert run_all([RELA], RECIPES, folder, SETTINGS)[RELA.name] == results[RELA.name]
    other = replace(RELA, entry=replace(RELA.entry, overrides={"width": 64}))
    assert "of another model than rela is now" in run_all([other], RECIPES, folder, SETTINGS)[RELA.name]["error"]
    with pytest.raises(CheckpointError, match="delete"):
        side_by_side.finished(other, build_recipe(other, RECIPES, folder, SETTINGS), folder)


def test_what_another_process_is_at_is_left_to_it(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(RELA.entry, 8, seed=7)

    def taken(path: Path, busy: str) -> Any:
        raise RefsegError(busy.format(1))

    monkeypatch.setattr(side_by_side, "locked", taken)
    said: list[str] = []
    assert run_all([run], RECIPES, prepared, SETTINGS, said.append) == {}
    assert said[-1].endswith("process 1 is at it")
    assert not (run_folder(prepared, run) / RESULT).exists()


def test_what_was_interrupted_goes_on(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from refseg.training import loop

    run = Run(RELA.entry, 8, seed=3)
    whole, calls = loop.train, []

    def stopped_once(recipe: Any, resume: bool = False) -> Any:
        calls.append(resume)
        if resume:
            return whole(recipe, resume=True)
        return whole(recipe, on_step=lambda step, loss: os.kill(os.getpid(), signal.SIGTERM))

    monkeypatch.setattr(loop, "train", stopped_once)
    with pytest.raises(Stopped, match="stopped after step 1"):
        run_all([run], RECIPES, prepared, SETTINGS)
    result = run_all([run], RECIPES, prepared, SETTINGS)[run.name]
    assert "error" not in result, result
    assert result["training"]["step"] == 2
    assert calls == [False, True]


def test_thresholds_come_from_scenes_of_their_own(tmp_path: Path) -> None:
    settings = replace(SETTINGS, thresholds="calibrated", encoder="own", budget=4)
    prepare(tmp_path, settings, RECIPES)
    run = Run(RELA.entry, 4)
    result = run_all([run], RECIPES, tmp_path, settings)[run.name]
    assert result["encoder"] == "own"
    info = json.loads((run_folder(tmp_path, run) / "run" / "final" / "config.json").read_text())["info"]
    assert result["thresholds"] == [info["threshold"], info["no_target_threshold"]]
    assert info["calibration"]["data"] == "drawn scenes, val"
    scored = {sample.text for sample in scored_scenes(tmp_path, settings)}
    chosen_on = {sample.text for sample in held_out(tmp_path, settings)}
    assert scored != chosen_on


# What the runs say


def rows_of(values: list[float], targets: int = 1) -> list[Row]:
    """An expression a picture with these IoUs."""
    return [
        Row(str(n), round(1000 * v), 1000, 1000, 1000, (50, 50), False, False, 0.1, picture=str(n), targets=targets)
        for n, v in enumerate(values)
    ]


CLAIM = Claim("c", "rela", "A claim", "a table", "1 with, 2 without", (("with", {}), ("without", {"width": 64})))


@pytest.mark.parametrize(
    ("better", "result"),
    [
        ([(0.6, 0.5), (0.62, 0.5)], "seen"),
        ([(0.5, 0.6), (0.5, 0.61)], "the opposite"),
        ([(0.6, 0.5), (0.5, 0.56)], "undecided"),
        ([(0.5, 0.498), (0.5, 0.501)], "not seen"),
    ],
)
def test_a_claim_is_seen_when_every_seed_and_the_pictures_say_so(
    better: list[tuple[float, float]], result: str
) -> None:
    pairs = {
        seed: tuple(rows_of([value + 0.01 * (n % 3) for n in range(40)]) for value in pair)
        for seed, pair in enumerate(better)
    }
    outcome = weigh(CLAIM, pairs)  # type: ignore[arg-type]
    assert outcome.result == result
    assert outcome.difference == pytest.approx(sum(one - two for one, two in better) / 2, abs=1e-6)
    assert outcome.by_seed == pytest.approx([one - two for one, two in better], abs=1e-6)
    assert "with against without" in outcome.sentence(CLAIM)


def test_pictures_that_differ_widen_the_interval() -> None:
    alike = weigh(CLAIM, {0: (rows_of([0.6] * 30), rows_of([0.5] * 30))})
    apart = weigh(CLAIM, {0: (rows_of([0.9, 0.3] * 15), rows_of([0.5] * 30))})
    assert alike.high - alike.low < 0.01 < apart.high - apart.low


def test_costs_are_of_expressions_with_one_target() -> None:
    cost = replace(CLAIM, metric="mIoU_one")
    one = rows_of([0.8] * 5) + [replace(row, id="x" + row.id) for row in rows_of([0.0] * 5, targets=2)]
    two = rows_of([0.7] * 5) + [replace(row, id="x" + row.id) for row in rows_of([1.0] * 5, targets=2)]
    assert weigh(cost, {0: (one, two)}).difference == pytest.approx(0.1)


def test_equal_time_is_when_the_quickest_is_done() -> None:
    def curve(*points: tuple[float, float]) -> dict[str, Any]:
        return {"curve": [{"seconds": seconds, "sentences": seconds, "gIoU": value} for seconds, value in points]}

    seconds, found = equal_time(
        {"quick": curve((5.0, 0.2), (10.0, 0.3)), "slow": curve((8.0, 0.1), (16.0, 0.5)), "none": {}}
    )
    assert seconds == 10
    assert found == {"quick": pytest.approx(0.3), "slow": pytest.approx(0.2)}


def test_answers_that_read_nothing(tmp_path: Path) -> None:
    scenes = scored_scenes(tmp_path, replace(SETTINGS, test_pictures=3, sentences=12))
    found = unread(scenes, ("gIoU", "mIoU_target", "N_acc", "T_acc"))
    none = 100 * sum(sample.no_target for sample in scenes) / len(scenes)
    assert found["nothing"] == {"gIoU": pytest.approx(none, abs=0.01), "mIoU_target": 0, "N_acc": 100, "T_acc": 0}
    ious = []
    for sample in scenes:
        things = np.any([thing.mask(sample.size) for thing in sample.surroundings], axis=0)
        if not sample.no_target:
            assert not (sample.mask() & ~things).any()  # what is meant is among the things
            ious.append(sample.mask().sum() / things.sum())
    assert found["everything"]["mIoU_target"] == pytest.approx(100 * np.mean(ious), abs=0.01)
    assert (found["everything"]["N_acc"], found["everything"]["T_acc"]) == (0, 100)


# The page


def test_the_page_says_what_was_measured(trained: tuple[Path, dict[str, Any]]) -> None:
    folder, results = trained
    claim = replace(CLAIM, rows=(("as it is", {}), ("absent", {"width": 64})))
    times = time_runs([RELA, Run(Entry("broken", "x"), 8)], folder, rounds=1, expressions=2)
    assert set(times) == {"rela"}
    rows = {RELA.name: side_by_side.read_rows(folder, RELA)}
    about = json.loads((folder / "encoder" / ABOUT).read_text())
    blind = unread(scored_scenes(folder, SETTINGS), side_by_side.METRICS[:6])
    document = to_dict(SETTINGS, [RELA.entry], [claim], results, rows, times, about, unread=blind)
    page = to_markdown(document, "refseg studies side-by-side --budget 8", "curves.svg")
    metrics = results[RELA.name]["metrics"]
    assert document["systems"]["rela"]["gIoU"] == pytest.approx(100 * metrics["gIoU"], abs=0.01)
    assert document["systems"]["rela"]["gIoU_low"] <= document["systems"]["rela"]["gIoU"]
    assert f"| rela | {100 * metrics['gIoU']:.1f} (" in page
    assert f"| *everything* | {blind['everything']['gIoU']:.1f} |" in page
    assert f"| as it is | 1 | {100 * metrics['gIoU']:.1f} |" in page
    assert "| absent | 0 |" in page
    assert "No pair of runs is finished." in page
    assert f"{results[RELA.name]['parameters'] / 1e6:.2f} M" in page
    assert f"{times['rela']['picture']:.1f}" in page
    assert "refseg studies side-by-side --budget 8" in page
    assert "- broken-8-0: " in page
    assert document["waiting"] == []
    # Two encoders are told apart, one is not worth a word.
    assert "made again" not in page
    other = {**results[RELA.name], "name": "lts", "encoder_file": "another"}
    two = to_dict(SETTINGS, [RELA.entry, LTS.entry], [], {**results, LTS.name: other}, {}, {}, about)
    assert "between these groups: rela; lts." in to_markdown(two, "refseg")
    unknown = to_dict(SETTINGS, [RELA.entry], [claim], {}, {}, {})
    assert unknown["claims"] == []
    assert "Nothing is trained yet for: A claim." in to_markdown(
        {**unknown, "runs": {"x": {"error": "is not finished"}, "y": {"error": "is not finished"}}}, "refseg"
    )
    assert "a table: 1 with, 2 without." in page
    assert "(curves.svg)" in page
    assert ">rela</text>" in curves_svg(document)
    for line in page.splitlines():
        if line.startswith("|"):
            assert line.count("|") >= 3


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["studies", "side-by-side", "--output", str(tmp_path / "out"), "--recipes", str(RECIPES), "--budget", "4"]
    words += ["--pictures-per-batch", "2", "--sentences-per-picture", "2", "--size", "64", "--test-pictures", "1"]
    words += ["--pool", "2", "--encoder", "own", "--curve", "0"]
    assert main([*words, "--page-only"]) == 2
    assert "no study has begun" in capsys.readouterr().err
    assert main([*words, "--only", "reftr", "--no-timing"]) == 0
    document = json.loads((tmp_path / "out" / "scenes.json").read_text())
    assert document["systems"]["reftr"]["Acc@0.5"] is not None
    # What ships stands beside what was trained, scored on the same scenes.
    assert list(document["systems"]) == ["reftr", "instances"]
    ships = document["systems"]["instances"]
    assert ships["gIoU_low"] <= ships["gIoU"] <= ships["gIoU_high"]
    kinds = document["shipped"]["instances"]["kinds"]
    assert {kind: row["sentences"] for kind, row in kinds.items()} == {
        kind: row["sentences"] for kind, row in document["runs"]["reftr-4-0"]["kinds"].items()
    }
    page = (tmp_path / "out" / "scenes.md").read_text()
    assert f"| instances | {ships['gIoU']:.1f} (" in page
    assert "boxes Acc@.5" in page
    assert "--budget 4" in page
    assert (tmp_path / "out" / "scenes.svg").read_text().startswith("<svg")
    # Without training: what is finished, and the names of what is not.
    assert main([*words, "--only", "reftr,rela", "--no-timing", "--page-only"]) == 1
    page = (tmp_path / "out" / "scenes.md").read_text()
    assert "- rela-4-0: is not finished" in page
    assert "--page-only" not in page
    assert "| reftr | " in page
    assert main([*words, "--only", "refr"]) == 2
    assert "did you mean 'reftr'" in capsys.readouterr().err
    assert main(["studies", "side-by-side", "--list"]) == 0
    assert "minimap" in capsys.readouterr().out
    assert main([*words, "--recipes", str(tmp_path / "nowhere")]) == 2


def test_finished_runs_go_on_elsewhere(trained: tuple[Path, dict[str, Any]], tmp_path: Path, capsys: Any) -> None:
    """A study on another machine: its folder is empty but for what the first one left."""
    folder, results = trained
    kept, elsewhere = tmp_path / "kept", tmp_path / "elsewhere"
    finished = carry(folder, kept)
    assert RELA.name in finished
    assert carry(folder, kept) == []
    run = f"runs/{RELA.name}"
    names = {path.relative_to(kept).as_posix() for path in kept.rglob("*") if path.is_file()}
    assert {name for name in names if not name.startswith("runs/") or name.startswith(run)} == {
        "settings.json", "vocabulary.txt", "encoder/encoder.json", "encoder/encoder.safetensors.gz",
        f"{run}/result.json", f"{run}/rows.jsonl.gz",
    }  # fmt: skip
    said: list[str] = []
    prepare(elsewhere, SETTINGS, RECIPES, said.append, kept)
    assert said == [f"{name}: finished, from {kept}" for name in finished]
    settings = replace(SETTINGS, curve=1)
    assert collect([RELA], RECIPES, elsewhere, settings)[RELA.name] == results[RELA.name]
    assert side_by_side.read_rows(elsewhere, RELA) == side_by_side.read_rows(folder, RELA) != []
    with pytest.raises(ConfigError, match=r"kept/settings.json: was begun with size = 64 \(now 96\)"):
        prepare(tmp_path / "other", replace(SETTINGS, size=96), RECIPES, kept=kept)
    # The same encoder, number for number: what is trained here is compared with what was trained there.
    packed = (kept / "encoder" / "encoder.safetensors.gz").stat().st_size
    assert packed < 0.55 * (folder / "encoder" / ENCODER_FILE).stat().st_size
    there, here = (read_tensors(each / "encoder" / ENCODER_FILE) for each in (folder, elsewhere))
    assert there.keys() == here.keys()
    assert all(here[name].dtype == value.dtype and here[name].equal(value) for name, value in there.items())
    # Rows that were not kept cost the claims, not the table.
    (elsewhere / run / "rows.jsonl.gz").unlink()
    assert side_by_side.read_rows(elsewhere, RELA) == []


def test_the_command_takes_and_leaves_what_is_finished(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["studies", "side-by-side", "--only", "reftr", "--recipes", str(RECIPES), "--budget", "4", "--no-timing"]
    words += ["--pictures-per-batch", "2", "--sentences-per-picture", "2", "--size", "64", "--test-pictures", "1"]
    words += ["--pool", "2", "--encoder", "own", "--curve", "0", "--kept", str(tmp_path / "kept")]
    assert main([*words, "--output", str(tmp_path / "one")]) == 0
    assert main([*words, "--output", str(tmp_path / "two"), "--page-only"]) == 0
    assert "reftr-4-0: finished, from" in capsys.readouterr().err
    one, two = (json.loads((tmp_path / name / "scenes.json").read_text()) for name in ("one", "two"))
    assert one == two
    assert "--kept" not in (tmp_path / "two" / "scenes.md").read_text()


def test_the_processes_of_a_study_get_its_command_without_their_number() -> None:
    from refseg.cli.side_by_side import _without

    words = ["studies", "side-by-side", "--processes", "2", "-o", "x", "--processes=3", "--seeds", "1"]
    assert _without(words, "--processes") == ["studies", "side-by-side", "-o", "x", "--seeds", "1"]
