"""The configuration of a training run: a TOML file as frozen dataclasses.

An unknown field is an error that names the nearest one, a field's former name (`RENAMED`) one that names the present.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Le

from refseg.config import (
    Config,
    DropRate,
    NonEmptyStr,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    from_dict,
    override,
    to_dict,
)
from refseg.errors import ConfigError, did_you_mean
from refseg.generation.augment_config import AugmentConfig
from refseg.training.layers import drop_twins, named, read_layers
from refseg.training.schedule import OptimizerConfig, ScheduleConfig

if TYPE_CHECKING:
    from refseg.types import ModelConfig

RENAMED = {
    "training.average": "training.ema_decay",
    "model.taps": "model.neck",
    "optimizer.rate": "optimizer.lr",
    "optimizer.groups.rate": "optimizer.groups.lr_mult",
    "schedule.final": "schedule.min_lr_ratio",
    "pretrained.new": "pretrained.allow_missing",
    "data.vocabulary_least": "data.vocab_min_count",
    "data.vocabulary_more": "data.vocab_extra_file",
    "data.augment.mirror": "data.augment.hflip",
    "data.augment.window": "data.augment.random_crop",
    "data.augment.colour": "data.augment.color_jitter",
    "data.augment.reword": "data.augment.paraphrase",
    "data.augment.strange": "data.augment.negative_noun",
    "data.augment.gibberish": "data.augment.negative_nonsense",
}
"""Former names of fields, dotted, and what they are called now."""


Steps = Annotated[int, Ge(1), Le(10**9)]
StepsOrNever = Annotated[int, Ge(0), Le(10**9)]
BatchCount = Annotated[int, Ge(1), Le(65536)]
SceneSide = Annotated[int, Ge(16), Le(4096)]
WorkerCount = Annotated[int, Ge(0), Le(1024)]


@dataclass(frozen=True)
class ModelRecipe(Config):
    """Which model: a preset and the fields that differ from it."""

    preset: str | None = None
    "name of a preset as `refseg models` lists them; left out it is what `pretrained.model` is, or else rela-mini"
    overrides: dict[str, Any] = field(default_factory=dict)
    "fields of the preset's configuration that this run changes, nested as there"


@dataclass(frozen=True)
class PretrainedRecipe(Config):
    """Where weights come from before the first step; names are local folders or hub ids."""

    model: str | None = None
    "a whole model (packaged name, folder or hub id) with its vocabulary to go on from, of the same configuration"
    allow_missing: tuple[str, ...] = ()
    "patterns of parameters that `model` may lack, such as mask_head.*; they keep their initial values"
    vision: str | None = None
    "weights of the visual encoder (a folder, file or hub id), or none for one that is to learn from nothing"
    detector: str | None = None
    "weights (packaged name, folder or hub id) of a model that has a detector, such as instances, for one that proposes"
    proposals: str | None = None
    "a model (hub id or folder) among whose instances the system `instances` learns to choose, such as facebook/sam3"
    text: str | None = None
    "weights of the text encoder (a folder, file or hub id), or none for one that is to learn from nothing"
    glove: str | None = None
    "file of word vectors (GloVe or word2vec, text or binary, may be gzipped) for text encoders with a word table"


@dataclass(frozen=True)
class SourceRecipe(Config):
    """One of several sources of pictures; without `root` it is the drawn scenes that `[data]` describes."""

    root: NonEmptyStr | None = None
    "folder of a data set in the published format"
    dataset: str | None = None
    split_by: str | None = None
    split: str | None = None
    weight: PositiveFloat = 1.0
    "how often a picture comes from here, against the other sources' weights"


@dataclass(frozen=True)
class DataRecipe(Config):
    """What the model learns from: drawn scenes, or with `root` a data set in the published format."""

    root: NonEmptyStr | None = None
    "folder of a data set in the published format (RefCOCO, RefCOCO+, RefCOCOg, gRefCOCO); without it scenes are drawn"
    dataset: str | None = None
    "name of the data set inside root; needed when there are several"
    split_by: str | None = None
    "author of the split where there are several: unc, google, umd"
    split: str | None = None
    "what is learnt from; left out it is train or, in a data set without such a split, everything (and the run says so)"
    seed: NonNegativeInt = 0
    "drawn scenes: the seed of the world; evaluation draws from the split `val` of the same seed"
    size: SceneSide = 320
    "drawn scenes: side in pixels"
    sentences: BatchCount = 16
    "drawn scenes: expressions a scene is drawn with"
    plus: bool = False
    "drawn scenes: without absolute location, as in RefCOCO+"
    close_up: bool = False
    "drawn scenes: 2 to 6 things, twice as tall, for pictures of few pixels"
    pool: StepsOrNever = 0
    "drawn scenes: this many scenes, drawn once and kept on disk, instead of endlessly many"
    pool_folder: NonEmptyStr | None = None
    "where the pool is kept, also when the drawing code changes; without it in the user's cache, one for each version"
    feature_cache: NonEmptyStr | None = None
    "folder where a frozen encoder's maps (mattnet: features of regions) are kept in 16 bits, for all steps and runs"
    frames: BatchCount = 1
    "data sets of video: successive frames that are learnt from together as a clip; 1 learns from each on its own"
    unit: Literal["picture", "sentence"] = "picture"
    "what is shuffled: pictures, each with sentences_per_picture of its expressions; or every expression on its own"
    exclude: tuple[str, ...] = ()
    "files that list pictures which are not learnt from: reports of `refseg data leak --json`, or a number a line"
    sources: tuple[SourceRecipe, ...] = ()
    "several sources of pictures, mixed by weight, instead of `root` or drawn scenes alone"
    balance: bool = False
    "expressions of a picture are drawn so that all kinds of expression it has come equally often"
    tag_spoken: bool = False
    "data sets on disk: the objects that a picture's expressions are about stand for all its objects (for `model.tags`)"
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    "how pictures and expressions of training are changed"
    pictures_per_batch: BatchCount = 8
    "pictures in one optimiser step over all processes and accumulation steps (unit sentence: expressions)"
    sentences_per_picture: BatchCount = 4
    "unit picture: expressions drawn for each picture in a batch, without repetition"
    workers: WorkerCount = 0
    "processes that prepare batches beside each training process, at most one a processor; 0 prepares them in the loop"
    vocabulary: str | None = None
    "file with one word a line; without it the vocabulary is learnt from the training expressions"
    vocabulary_pictures: Steps = 500
    "drawn scenes: scenes whose expressions the vocabulary is learnt from"
    vocab_min_count: PositiveInt = 1
    "how often a word must occur to enter the learnt vocabulary"
    vocab_extra_file: str | None = None
    "file whose words, the first of each line, are added to the learnt vocabulary, such as one of word vectors"
    vocab_glove_words: NonNegativeInt = 100_000
    "with `pretrained.glove`, and without a vocab_extra_file: so many words of that file join the learnt vocabulary"
    spelling: bool = False
    "words that are not in the vocabulary are read as one that is a slip away"
    tokenizer: str | None = None
    "folder or hub id of a WordPiece tokenizer, for models with BERT"

    def check(self) -> None:
        if self.dataset is not None and self.root is None:
            raise ConfigError("dataset: names a data set inside data.root, which is not given")
        if self.sources and (self.root is not None or self.unit == "sentence"):
            raise ConfigError("sources: stands for data.root, and needs data.unit = picture")
        if self.frames > 1:
            if self.root is None:
                raise ConfigError("frames: clips are read from a data set of video in data.root")
            if self.augment or self.exclude or self.tag_spoken:
                raise ConfigError("frames: clips are not augmented; augment, exclude and tag_spoken are of pictures")


@dataclass(frozen=True)
class TrainingRecipe(Config):
    """The run itself."""

    steps: Steps = 1000
    "optimiser steps"
    epochs: NonNegativeFloat = 0.0
    "data sets on disk: passes over the data, in the place of steps; 0 takes steps"
    epoch_of: Literal["item", "object", "sentence"] = "item"
    "what a pass reads once: the items of data.unit, the things that expressions are about, or the expressions"
    seed: NonNegativeInt = 0
    "of the first weights, the order of the data, dropout and drop path"
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    "autocast of the forward pass; losses, weights and optimiser stay in float32"
    accumulation: BatchCount = 1
    "pieces that a batch is cut into, so that it fits the memory"
    clip_norm: NonNegativeFloat = 1.0
    "largest L2 norm of the gradient over all trained parameters; 0 does not clip"
    ema_decay: DropRate = 0.0
    "decay of the exponential moving average of the weights, which is then evaluated and saved; 0 keeps none"
    unused_parameters: bool = False
    "several processes: look for parameters that are in no loss (one with weight 0), which would otherwise be an error"


@dataclass(frozen=True)
class EvaluationRecipe(Config):
    """Scoring during training."""

    every: StepsOrNever = 0
    "optimiser steps between evaluations; 0 evaluates never"
    every_epochs: NonNegativeFloat = 0.0
    "the same in epochs"
    root: NonEmptyStr | None = None
    "folder of another data set than the training's"
    dataset: str | None = None
    split_by: str | None = None
    split: str = "val"
    pictures: NonNegativeInt = 100
    "the first so many pictures (protocols of video: videos) of the split; 0 means all (drawn scenes: 1 or more)"
    protocol: str = "native"
    metric: str = "gIoU"
    "the number that decides which checkpoint is the best"
    samples: Annotated[int, Ge(0), Le(1000)] = 4
    "pictures with answers that are drawn at each evaluation; 0 draws none"

    def check(self) -> None:
        from refseg.metrics import get_protocol, score_names

        try:
            protocol = get_protocol(self.protocol)
        except ConfigError as error:
            raise ConfigError(f"protocol: {error}") from error
        names = score_names(protocol)
        if self.metric not in names:
            raise ConfigError(f"metric: {self.metric!r} is none of {protocol.name}; {did_you_mean(self.metric, names)}")


@dataclass(frozen=True)
class OutputRecipe(Config):
    """Where the run is kept."""

    folder: NonEmptyStr = "runs/train"
    log_every: Steps = 20
    "optimiser steps between lines of log.jsonl"
    checkpoint_every: Steps = 500
    "optimiser steps between checkpoints; one is always written at the end and when the run is stopped"
    half: bool = False
    "weights of `best` and `final` in 16 bits"
    tensorboard: bool = True


@dataclass(frozen=True)
class Recipe(Config):
    """A whole run. Equal recipes give equal runs."""

    model: ModelRecipe = field(default_factory=ModelRecipe)
    pretrained: PretrainedRecipe = field(default_factory=PretrainedRecipe)
    data: DataRecipe = field(default_factory=DataRecipe)
    training: TrainingRecipe = field(default_factory=TrainingRecipe)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    evaluation: EvaluationRecipe = field(default_factory=EvaluationRecipe)
    output: OutputRecipe = field(default_factory=OutputRecipe)

    @property
    def model_name(self) -> str:
        """What the model's configuration is called: a preset, or the weights that the run goes on from."""
        return self.model.preset or self.pretrained.model or "rela-mini"

    def model_config(self) -> ModelConfig:
        """The configuration of the model: the preset's, or that of the weights to go on from where the recipe names no
        preset, with this recipe's fields in it."""
        from refseg.models import config_from_dict, config_to_dict, preset

        if self.model.preset is None and self.pretrained.model is not None:
            from refseg.inference.checkpoint import read_config
            from refseg.inference.locate import locate_config

            document = read_config(locate_config(self.pretrained.model))
            base = {"system": document["system"], **document["config"]}
        else:
            base = config_to_dict(preset(self.model_name))
        overrides = dict(self.model.overrides)
        for part in ("vision", "text"):
            if isinstance(overrides.get(part), dict) and "encoder" in overrides[part]:
                base[part], overrides[part] = _other_encoder(part, overrides[part])
        return config_from_dict(_merge(base, overrides))


def parse_recipe(values: dict[str, Any]) -> Recipe:
    """A recipe from nested values as a TOML file holds them.

    Raises `ConfigError` that names the field: an unknown one, one of `RENAMED`, or one with an impossible value.
    """
    for former, name in RENAMED.items():
        if _has(values, former.split(".")):
            raise ConfigError(f"{former} is now {name}")
    values = dict(values)
    model = values.pop("model", {})
    if not isinstance(model, dict):
        raise ConfigError(f"model: a table is wanted, not {model!r}")
    own = {item.name for item in dataclasses.fields(ModelRecipe)}
    # In the file the model's fields stand beside `preset`; a recipe that was saved has them nested.
    overrides = {**model.get("overrides", {}), **{key: value for key, value in model.items() if key not in own}}
    chosen = {key: value for key, value in model.items() if key in own - {"overrides"}}
    recipe = from_dict(Recipe, {**values, "model": {**chosen, "overrides": overrides}})
    recipe.model_config()
    return recipe


def read_recipe(
    path: str | Path,
    assignments: list[str] | tuple[str, ...] = (),
    preset: str | None = None,
    data: str | None = None,
) -> Recipe:
    """The recipe in a TOML file, and in those that it extends, with assignments such as `data.root=DIR` put in.

    `preset` is another model (a preset's name, or a row's of a paper's tables), `data` another data set (a name of
    `refseg.evaluation.leaderboard.experiments.DATA`); see `refseg.training.layers`.
    """
    try:
        values = named(read_layers(path), preset, data)
        given = override({}, assignments)
        return _with_words(parse_recipe(override(drop_twins(values, given), assignments)), data)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}" if str(path) not in str(error) else str(error)) from error


def _with_words(recipe: Recipe, data: str | None) -> Recipe:
    """The recipe with as many words per expression as the data set's expressions want."""
    if data is None:
        return recipe
    from refseg.evaluation.leaderboard.experiments import data_set
    from refseg.types import TextConfig, TextModelConfig

    config, least = recipe.model_config(), data_set(data).least_words
    if not isinstance(config, TextModelConfig) or not isinstance(config.text, TextConfig):
        return recipe
    if config.text.max_words >= least or "max_words" in recipe.model.overrides.get("text", {}):
        return recipe
    overrides = _merge(recipe.model.overrides, {"text": {"max_words": least}})
    return dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, overrides=overrides))


def recipe_to_dict(recipe: Recipe) -> dict[str, Any]:
    """The recipe as nested plain values that `parse_recipe` reads back."""
    return to_dict(recipe)


def differences(left: Recipe, right: Recipe) -> dict[str, tuple[Any, Any]]:
    """The dotted fields in which two recipes differ, with both values."""
    one, other = _flatten(recipe_to_dict(left)), _flatten(recipe_to_dict(right))
    pairs = {name: (one.get(name), other.get(name)) for name in sorted(one.keys() | other.keys())}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _has(values: Any, path: list[str]) -> bool:
    """Whether nested values have a field; a list has it if one of its entries does."""
    if not path:
        return True
    if isinstance(values, list):
        return any(_has(entry, path) for entry in values)
    return isinstance(values, dict) and path[0] in values and _has(values[path[0]], path[1:])


def _flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in values.items():
        result |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return result


def _other_encoder(part: str, values: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Of fields with `encoder = NAME`: the defaults of that kind of encoder, and the other fields.

    Raises `ConfigError` for a name that is none.
    """
    from refseg.encoders.build import TEXT, VISION

    kinds: dict[str, type] = {
        kind.__name__.removesuffix("Config").removesuffix("Text").lower(): kind
        for kind in (VISION if part == "vision" else TEXT)
    }
    name = values["encoder"]
    if name not in kinds:
        raise ConfigError(f"model.{part}.encoder: {name!r} is none; {did_you_mean(str(name), list(kinds))}")
    return to_dict(kinds[name]()), {key: value for key, value in values.items() if key != "encoder"}


def _merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = _merge(result[key], value) if both else value
    return result
