"""Recipes: unknown keys and impossible values are named, overrides reach the model, and the shipped ones parse."""

from dataclasses import replace
from pathlib import Path

import pytest

from refseg.cli.main import main
from refseg.config import Config, to_toml
from refseg.encoders.text.tokenizer import WordTokenizer
from refseg.encoders.vision.nanodet import ShuffleNetConfig
from refseg.errors import CheckpointError, ConfigError
from refseg.inference.checkpoint import save_model
from refseg.models import preset, preset_names
from refseg.training.recipe import RENAMED, Recipe, differences, parse_recipe, read_recipe, recipe_to_dict
from refseg.training.schedule import GroupRule
from tests.support.tiny_system import Tiny, TinyConfig, TinyText, recipe_values

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
        ("training.steps=0", r"training\.steps=0: 1 or more and 1000000000 or less is wanted"),
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
        ("data.workers=10000", r"data\.workers=10000: 0 or more and 1024 or less is wanted"),
        ("training.steps=99999999999999999999", r"training\.steps=9+: 1 or more and 1000000000 or less"),
        ("optimizer.lr=nan", r"optimizer\.lr: a finite number is wanted, not nan"),
        ("optimizer.lr=inf", r"optimizer\.lr: a finite number is wanted, not inf"),
        (f"optimizer.lr={10**400}", r"optimizer\.lr: a number of up to 1e\+300"),
        ("training.clip_norm=nan", r"training\.clip_norm: a finite number"),
        ("model.dropout=nan", r"dropout: a finite number is wanted, not nan"),
        ("optimizer.epsilon=-1", r"optimizer\.epsilon=-1\.0: more than 0 is wanted"),
        ("optimizer.groups=[{names=['*'],weight_decay=-1}]", r"weight_decay=-1\.0: 0 or more is wanted"),
        ("schedule.milestones=[-5]", r"milestones\[0\]=-5: 0 or more is wanted"),
        ("output.folder=''", r"output\.folder='': not empty is wanted"),
        ("data.root=''", r"data\.root='': not empty is wanted"),
        ("data.size=7", r"data\.size=7: 16 or more and 4096 or less is wanted"),
        ("data.size=1000000", r"data\.size=1000000: 16 or more"),
        ("model.input.size=1000000", r"size=1000000: 8 or more and 10000 or less"),
        ("data.pictures_per_batch=100000000", r"data\.pictures_per_batch"),
        ("data.vocab_min_count=-3", r"data\.vocab_min_count=-3: 1 or more is wanted"),
        ("training.seed=-1", r"training\.seed=-1: 0 or more is wanted"),
        ("evaluation.samples=-1", r"evaluation\.samples"),
        ("evaluation.protocol=rella", r"evaluation\.protocol: 'rella' is not a protocol; did you mean 'rela'"),
        ("lr=3", "lr"),
        ("model=3", "a table is wanted"),
    ],
)
def test_mistakes_are_named_with_their_file(tmp_path, assignment, message):
    path = written(tmp_path, recipe_values(tmp_path))
    with pytest.raises(ConfigError, match=message) as caught:
        read_recipe(path, [assignment])
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (["evaluation.metric=giou"], r"evaluation\.metric: 'giou' is none of native; did you mean 'gIoU'"),
        (["evaluation.metric=gIoU", "evaluation.protocol=grec"], r"evaluation\.metric: 'gIoU' is none of grec"),
    ],
)
def test_a_metric_that_is_not_measured_is_known_before_the_first_step(tmp_path, fields, message):
    path = written(tmp_path, recipe_values(tmp_path))
    for more in ([], ["evaluation.every=5"]):
        with pytest.raises(ConfigError, match=message):
            read_recipe(path, [*fields, *more])
    read_recipe(path, ["evaluation.every=5", "evaluation.metric=F1", "evaluation.protocol=grec"])
    read_recipe(path, ["evaluation.every=5", "evaluation.metric=Acc@0.5"])


def test_words_of_a_text_encoder_are_bounded():
    for name in preset_names():
        config = preset(name)
        if isinstance(getattr(config, "text", None), Config) and hasattr(config.text, "max_words"):
            with pytest.raises(ConfigError, match="max_words"):
                replace(config, text=replace(config.text, max_words=100_000))


def test_a_file_of_tables_without_end_is_refused(tmp_path):
    path = tmp_path / "deep.toml"
    path.write_text("a = " + "[" * 100_000)
    with pytest.raises(ConfigError, match="deep"):
        read_recipe(path)


def test_fine_tuning_takes_the_configuration_of_its_weights(tmp_path):
    model = Tiny(TinyConfig(width=5, dropout=0.25, text=TinyText(vocabulary_size=9)))
    save_model(tmp_path / "weights", model, WordTokenizer.learn(["the red square", "blue"]))
    values = recipe_values(tmp_path / "run", steps=2)
    values["model"] = {"normalise": False}
    values["pretrained"] = {"model": str(tmp_path / "weights"), "allow_missing": []}
    recipe = parse_recipe(values)
    assert recipe.model_config() == TinyConfig(5, 0.25, False, text=TinyText(9))
    assert parse_recipe(recipe_to_dict(recipe)) == recipe
    del values["model"]
    assert parse_recipe(values).model_config() == model.config
    values["model"] = {"preset": "tiny-small"}
    assert parse_recipe(values).model_config() == TinyConfig()
    values["pretrained"]["model"] = str(tmp_path / "gone")
    del values["model"]
    with pytest.raises(CheckpointError, match="gone: no such model folder"):
        parse_recipe(values)


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


def test_another_kind_of_encoder_takes_the_place_of_the_presets() -> None:
    values = {"model": {"preset": "lts-mini", "vision": {"encoder": "shufflenet", "head": None}}}
    config = parse_recipe(values).model_config()
    assert config.vision == ShuffleNetConfig(head=None)
    with pytest.raises(ConfigError, match="did you mean 'shufflenet'"):
        parse_recipe({"model": {"preset": "lts-mini", "vision": {"encoder": "shuffelnet"}}})
    with pytest.raises(ConfigError):  # LAVT's words enter a Swin's stages
        parse_recipe({"model": {"preset": "lavt-mini", "vision": {"encoder": "shufflenet"}}})
