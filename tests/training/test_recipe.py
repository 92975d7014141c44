"""Recipes: unknown keys and impossible values are named, overrides reach the model, and the shipped ones parse."""

from pathlib import Path

import pytest

from refseg.cli.main import main
from refseg.config import to_toml
from refseg.errors import ConfigError
from refseg.models import preset, preset_names
from refseg.training.optimizer import GroupRule
from refseg.training.recipe import RENAMED, Recipe, differences, parse_recipe, read_recipe, recipe_to_dict
from tests.support.tiny_system import recipe_values

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.toml"))


def written(tmp_path, values):
    path = tmp_path / "recipe.toml"
    path.write_text(to_toml(values))
    return path


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_shipped_recipes_parse_and_survive_being_written(path):
    recipe = read_recipe(path)
    assert parse_recipe(recipe_to_dict(recipe)) == recipe
    assert recipe.output.folder == f"runs/{path.stem}"
    assert f"refseg train recipes/{path.name}" in path.read_text()


def test_there_are_recipes():
    assert {"rela-mini-scenes", "rela-official-grefcoco", "rela-paper-grefcoco"} <= {path.stem for path in RECIPES}


def test_fields_of_the_model_stand_beside_its_preset(tmp_path):
    path = written(tmp_path, recipe_values(tmp_path))
    recipe = read_recipe(path, ["model.dropout=0.25", "model.input.size=64", "data.root=photos", "training.steps=3"])
    assert recipe.model_config().width == 8
    assert recipe.model_config().dropout == 0.25
    assert recipe.model_config().input.size == 64
    assert recipe.data.root == "photos"
    assert recipe.training.steps == 3


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("model.widht=3", "widht"),
        ("model.preset=tiny-smal", "tiny-small"),
        ("training.step=3", r"training\.step: no such field of TrainingRecipe; did you mean 'steps'"),
        ("training.steps=0", r"training\.steps=0: 1 or more is wanted"),
        ("training.steps=many", r"training\.steps: a value of type int"),
        ("training.precision=fp8", r"training\.precision: 'fp8'"),
        ("training.clip_norm=-1.0", "clip_norm"),
        ("training.ema_decay=1.0", r"training\.ema_decay=1\.0: 0 or more and less than 1 is wanted"),
        ("data.workers=-1", r"data\.workers"),
        ("data.pictures_per_batch=0", r"data\.pictures_per_batch"),
        ("data.dataset=refcoco", r"data\.root"),
        ("optimizer.lr=-1.0", r"optimizer\.lr=-1\.0: more than 0 is wanted"),
        ("optimizer.groups=[{names=[]}]", "at least one pattern"),
        ("optimizer.groups=[{name=['x']}]", "no such field of GroupRule"),
        ("output.log_every=0", "log_every"),
        ("lr=3", "lr"),
        ("model=3", "a table is wanted"),
    ],
)
def test_mistakes_are_named_with_their_file(tmp_path, assignment, message):
    path = written(tmp_path, recipe_values(tmp_path))
    with pytest.raises(ConfigError, match=message) as caught:
        read_recipe(path, [assignment])
    assert str(path) in str(caught.value)


def test_differences_are_dotted(tmp_path):
    path = written(tmp_path, recipe_values(tmp_path))
    changed = differences(read_recipe(path), read_recipe(path, ["optimizer.lr=0.5", "model.width=3", "data.root=x"]))
    assert changed == {"optimizer.lr": (0.01, 0.5), "model.overrides.width": (8, 3), "data.root": (None, "x")}


@pytest.mark.parametrize("former", sorted(RENAMED))
def test_a_former_name_is_an_error_that_gives_the_present_one(tmp_path, former):
    table, _, field = former.rpartition(".")
    assignment = f"{table}=[{{names=['*'],{field}=1}}]" if table == "optimizer.groups" else f"{former}=1"
    path = written(tmp_path, recipe_values(tmp_path))
    with pytest.raises(ConfigError) as caught:
        read_recipe(path, [assignment])
    assert str(caught.value) == f"{path}: {former} is now {RENAMED[former]}"


@pytest.mark.parametrize("name", sorted(RENAMED.values()))
def test_the_present_names_are_fields(name):
    table, _, field = name.partition(".")
    if table == "model":
        assert any(hasattr(preset(known), field) for known in preset_names())
        return
    config = getattr(Recipe(), table)
    *tables, field = field.split(".")
    for table in tables:
        config = GroupRule(("*",)) if table == "groups" else getattr(config, table)
    assert hasattr(config, field)


def test_a_former_name_ends_the_command_with_its_error(tmp_path, capsys):
    path = written(tmp_path, {**recipe_values(tmp_path), "optimizer": {"rate": 0.1}})
    assert main(["train", str(path)]) == 2
    assert f"{path}: optimizer.rate is now optimizer.lr" in capsys.readouterr().err
