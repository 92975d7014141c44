"""Recipes: unknown keys and impossible values are named, overrides reach the model, and the shipped ones parse."""

from pathlib import Path

import pytest

from refseg.config import to_toml
from refseg.errors import ConfigError
from refseg.training.recipe import differences, parse_recipe, read_recipe, recipe_to_dict
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
        ("training.steps=0", "steps and accumulation are 1 or more"),
        ("training.steps=many", r"training\.steps: a value of type int"),
        ("training.precision=fp8", r"training\.precision: 'fp8'"),
        ("training.clip_norm=-1.0", "clip_norm"),
        ("training.average=1.0", "average"),
        ("data.workers=-1", r"data\.workers"),
        ("data.pictures_per_batch=0", r"data\.pictures_per_batch"),
        ("data.dataset=refcoco", r"data\.root"),
        ("optimizer.rate=-1.0", "rate is positive"),
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
    changed = differences(read_recipe(path), read_recipe(path, ["optimizer.rate=0.5", "model.width=3", "data.root=x"]))
    assert changed == {"optimizer.rate": (0.01, 0.5), "model.overrides.width": (8, 3), "data.root": (None, "x")}
