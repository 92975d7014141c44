"""What stands before the first step: devices, the run's folder, the tokenizer, the model's initial weights."""

from __future__ import annotations

import os
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast, runtime_checkable

import torch
from torch import nn

from refseg.encoders.pretrained import load_backbones, load_word_vectors
from refseg.encoders.text.bert import BertTextConfig
from refseg.encoders.text.glove import first_words
from refseg.encoders.text.glove_transformer import GloveTransformer
from refseg.encoders.text.recurrent import RecurrentText
from refseg.encoders.text.tokenizer import ByteTokenizer, Tokenizer, WordTokenizer, load_tokenizer
from refseg.encoders.text.towers import TextTowerConfig
from refseg.encoders.vision.darknet import DarkNet
from refseg.errors import CheckpointError, ConfigError
from refseg.generation.language.lexicon import TOKENS
from refseg.inference.checkpoint import read_config
from refseg.inference.locate import locate_model
from refseg.models.mattnet.model import MAttNet
from refseg.models.photo.model import Photo
from refseg.processors import at_most
from refseg.state_dicts import load_weights, read_tensors
from refseg.training.concept_shares import fill_shares
from refseg.training.initial_weights import NOTHING, check_initial_weights
from refseg.training.recipe import Recipe, differences, read_recipe, recipe_to_dict
from refseg.training.sampling import Pictures
from refseg.types import ModelConfig, TextConfig, TextModelConfig

if TYPE_CHECKING:
    from accelerate import Accelerator

RECIPE = "recipe.toml"
Configuration = TypeVar("Configuration", bound=ModelConfig)


@runtime_checkable
class Processes(Protocol):
    """The processes of a run, as accelerate's `Accelerator` tells of them."""

    @property
    def is_main_process(self) -> bool:
        """Whether this is the one that writes files."""
        ...

    def wait_for_everyone(self) -> None:
        """Return when all have come here."""
        ...


@runtime_checkable
class _LearntWords(TextConfig, Protocol):
    """The configuration of a text encoder whose table has a row a word of the vocabulary."""

    @property
    def vocabulary_size(self) -> int: ...


def build_accelerator(recipe: Recipe) -> Accelerator:
    """Accelerate's handle on devices and processes. CPUs do bfloat16; float16 with its loss scaling needs a GPU."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import DistributedDataParallelKwargs

    precision = recipe.training.precision
    if precision == "float16" and not torch.cuda.is_available():
        raise ConfigError("training.precision: float16 needs a GPU; bfloat16 and float32 work everywhere")
    # Accelerate keeps the precision of a process's first run for good; a second run in it may have another.
    AcceleratorState._reset_state()
    kwargs = DistributedDataParallelKwargs(find_unused_parameters=recipe.training.unused_parameters)
    # Without being told, Accelerate takes processes that torchrun started on CPUs for so many runs of one process.
    several_cpus = int(os.environ.get("WORLD_SIZE", "1")) > 1 and not torch.accelerator.is_available()
    theirs = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}[precision]
    return Accelerator(mixed_precision=theirs, cpu=several_cpus, kwargs_handlers=[kwargs])


def check_folder(folder: Path, recipe: Recipe, resume: bool) -> None:
    """Raises when the folder holds a run and `resume` is not asked, or it holds none, or one of another model."""
    stored = folder / RECIPE
    if not resume:
        if stored.exists():
            raise ConfigError(
                f"{folder} holds a run already: add --resume to go on with it, or choose another output.folder"
            )
        return
    if not stored.exists():
        raise CheckpointError(f"{folder}: no run to resume; leave --resume out to begin one")
    changed = differences(read_recipe(stored), recipe)
    models = [name for name in changed if name.startswith("model.")]
    if models:
        raise CheckpointError(f"{stored}: the run is of another model than the recipe ({', '.join(models)})")


def scored_otherwise(saved: Path, recipe: Recipe) -> str:
    """The first field of the recipe, dotted, that makes its scores other numbers than those of the checkpoint `saved`;
    "" where there is none."""
    stored = read_config(saved)["info"].get("training", {}).get("recipe", {})
    wanted = recipe_to_dict(recipe)
    tables: dict[str, tuple[str, ...]] = {
        "evaluation": ("metric", "protocol", "root", "dataset", "split_by", "split", "pictures")
    }
    if recipe.evaluation.root is None:
        tables["data"] = ("root", "dataset", "split_by", "seed", "size", "sentences", "plus", "close_up")
    for table, names in tables.items():
        for name in names:
            absent = False if name == "close_up" else None  # older checkpoints do not say so
            if stored.get(table, {}).get(name, absent) != wanted.get(table, {}).get(name):
                return f"{table}.{name}"
    return ""


def worker_notice(recipe: Recipe) -> str:
    """What people should know of `data.workers`; mostly nothing."""
    wanted, used = recipe.data.workers, at_most(recipe.data.workers)
    return "" if used == wanted else f"data.workers = {wanted}: {used} are used, one a processor"


def build_tokenizer(
    recipe: Recipe, pictures: Pictures, saved: Path | None, config: ModelConfig, processes: Processes
) -> Tokenizer:
    """The tokenizer for a model of `config`; `saved` is the checkpoint that a run is resumed from.

    A vocabulary is learnt by one process, and read by the others from the run's folder, so that scenes are not drawn
    several times. Raises `ConfigError` when a model with BERT is given no word pieces.
    """
    if saved is not None:
        return load_tokenizer(saved)
    if recipe.pretrained.model is not None:
        return load_tokenizer(locate_model(recipe.pretrained.model))
    length = cast(TextModelConfig, config).text.max_words
    if recipe.data.tokenizer is not None:
        return load_tokenizer(recipe.data.tokenizer, max_words=length)
    if uses_pieces(config):
        raise ConfigError(
            "data.tokenizer: the model's text encoder reads word pieces; give a folder with its tokenizer.json or "
            "vocab.txt, or its hub id, such as google-bert/bert-base-uncased or openai/clip-vit-base-patch16"
        )
    if recipe.data.vocabulary is not None:
        return WordTokenizer(_read_words(Path(recipe.data.vocabulary)), length, recipe.data.spelling)
    folder = Path(recipe.output.folder) / "vocabulary"
    if processes.is_main_process:
        more = [] if recipe.data.vocab_extra_file is None else _first_words(Path(recipe.data.vocab_extra_file))
        if recipe.data.augment.paraphrase:
            more = [*TOKENS, *more]
        if recipe.pretrained.glove is not None and recipe.data.vocab_extra_file is None:
            # What no expression of training holds has a vector all the same, and can be asked for.
            more = [*more, *first_words(recipe.pretrained.glove, recipe.data.vocab_glove_words)]
        least, spelling = recipe.data.vocab_min_count, recipe.data.spelling
        WordTokenizer.learn(pictures.texts(), length, least, more, spelling).save(folder)
    processes.wait_for_everyone()
    return load_tokenizer(folder)


def uses_pieces(config: ModelConfig) -> bool:
    """Whether the model's text encoder was made for the word pieces of a published tokenizer."""
    return isinstance(config, TextModelConfig) and isinstance(config.text, (BertTextConfig, TextTowerConfig))


def fit_vocabulary(config: Configuration, tokenizer: Tokenizer) -> Configuration:
    """The model's configuration with the size of the vocabulary that was learnt, where it has such a field."""
    if isinstance(tokenizer, ByteTokenizer):
        return config  # bytes are what expressions travel as; the model has words of its own
    if not isinstance(config, TextModelConfig) or not isinstance(config.text, _LearntWords):
        return config
    if config.text.vocabulary_size == tokenizer.vocabulary_size:
        return config
    values: Any = config  # dataclasses, of which the protocols do not tell
    return replace(values, text=replace(values.text, vocabulary_size=tokenizer.vocabulary_size))


def _prepare_encoders(model: nn.Module, recipe: Recipe) -> str:
    """Encoders that are kept as they were pretrained, when the recipe names no such weights.

    A word table is then trained all the same, and the sentence that says so is given (else an empty one). Raises
    `ConfigError` for a picture encoder with frozen convolutions, which would stay random.
    """
    parts = dict(model.named_children())
    vision, text = parts.get("vision"), parts.get("text")
    names = recipe.pretrained
    if isinstance(vision, DarkNet) and vision.frozen() and names.vision is None and names.model is None:
        raise ConfigError(
            f"model.vision.freeze: {vision.config.freeze!r} would keep random weights; name a file in "
            'pretrained.vision, or set model.vision.freeze = "none"'
        )
    if isinstance(model, MAttNet) and names.model is None:
        if names.detector is None:
            raise ConfigError("pretrained.detector: the detector would stay random; name weights, such as instances")
        if model.vision is not None and names.vision is None:
            raise ConfigError("pretrained.vision: the features of regions would be random; name a ResNet's weights")
    if not isinstance(text, (RecurrentText, GloveTransformer)) or names.model is not None or names.glove is not None:
        return ""
    text.words.weight.requires_grad_(True)
    return "no pretrained.glove: the word vectors are learnt from nothing"


def load_pretrained(model: nn.Module, recipe: Recipe, tokenizer: Tokenizer, resumed: bool = False) -> str:
    """Start from the weights that the recipe names, unless the run is `resumed` and has its own.

    Gives what people should know of it, in a sentence; mostly an empty one.
    """
    if not resumed:
        check_initial_weights(model, recipe)
    names = recipe.pretrained
    vision, text = (None if name == NOTHING else name for name in (names.vision, names.text))
    names = replace(names, vision=vision, text=text)
    notice = _prepare_encoders(model, replace(recipe, pretrained=names))
    if resumed:
        return notice
    if names.model is not None:
        folder = locate_model(names.model)
        tensors = read_tensors(folder / "model.safetensors")
        for name, value in model.state_dict().items():
            if name not in tensors and any(fnmatchcase(name, pattern) for pattern in names.allow_missing):
                tensors[name] = value
        load_weights(model, tensors, str(folder))
    if names.detector is not None:
        _load_detector(model, names.detector)
    if names.vision is not None or names.text is not None:
        load_backbones(model, vision=names.vision, text=names.text)
    if names.vision is not None and isinstance(model, Photo) and isinstance(tokenizer, WordTokenizer):
        fill_shares(model.text, tokenizer.words, model.config.tags)
    if names.glove is not None:
        if not isinstance(tokenizer, WordTokenizer):
            raise ConfigError("pretrained.glove: the tokenizer has word pieces, which have no vectors there")
        words = tokenizer.words
        missing = load_word_vectors(model, names.glove, words)
        listed = ", ".join(word for word in missing if not word.startswith("<"))[:80]
        notice = f"{len(words) - len(missing)} of {len(words)} words have vectors in {names.glove}"
        notice += f"; zeros for {listed}" if listed else ""
    return notice


def with_proposals(model: nn.Module, recipe: Recipe) -> nn.Module:
    """The model over the instances of `pretrained.proposals`, where the recipe names them; otherwise itself."""
    if recipe.pretrained.proposals is None:
        return model
    from refseg.inference.predictor import load
    from refseg.inference.proposals import over_proposals

    return over_proposals(model, load(recipe.pretrained.proposals, device="cpu").model)


def _load_detector(model: nn.Module, name: str) -> None:
    """Another model's detector into a model that proposes regions with one of the same configuration."""
    proposer = dict(model.named_children()).get("proposer")
    if proposer is None:
        raise ConfigError("pretrained.detector: the model proposes no regions")
    folder = locate_model(name)
    stem = "proposer."
    tensors = read_tensors(folder / "model.safetensors")
    found = {key.removeprefix(stem): value for key, value in tensors.items() if key.startswith(stem)}
    if not found:
        raise CheckpointError(f"{folder}: has no detector; name weights of the system instances")
    load_weights(proposer, found, str(folder))


def _first_words(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"data.vocab_extra_file: {path} cannot be read ({error})") from error
    words = [line.split(" ", 1)[0].strip().lower() for line in lines]
    return [word for word in dict.fromkeys(words) if len(word) > 1 and word.isalpha()]


def _read_words(path: Path) -> list[str]:
    try:
        return list(dict.fromkeys(path.read_text(encoding="utf-8").split()))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"data.vocabulary: {path} cannot be read ({error})") from error
