"""The small systems side by side on photographs, over the kept maps of one frozen encoder that knows photographs.

    a data set of photographs -> the encoder of packaged weights -> its maps, kept in 16 bits
                                                                       |
    one vocabulary -> each system's recipe, on that encoder -> training -> every test set -> a row

A row of packaged weights stands beside them (`refseg.studies.packaged`).

Lengths, seeds and folders are as in `refseg.studies.side_by_side`, whose runs these are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refseg.data import open_dataset
from refseg.data.sample import ReferringDataset
from refseg.errors import ConfigError, did_you_mean
from refseg.files import write_text
from refseg.training.optimizer import GroupRule
from refseg.training.recipe import DataRecipe, Recipe

if TYPE_CHECKING:
    from torch import nn

    from refseg.encoders.text.tokenizer import Tokenizer
    from refseg.metrics import Protocol, Score

__all__ = [
    "DEFAULT_ENCODER",
    "Photographs",
    "ScoredSet",
    "kept",
    "on_photographs",
    "open_test_sets",
    "prepare",
    "score_all",
]

DEFAULT_ENCODER = "rela-photo"
FOLDER, WEIGHTS, WORDS = "photographs", "encoder.safetensors", "vocabulary.txt"
_KEYS = ("dataset", "split_by", "split")


@dataclass(frozen=True)
class ScoredSet:
    """A data set that photographs' systems are scored on."""

    name: str
    root: str
    dataset: str | None = None
    split_by: str | None = None
    split: str | None = None

    @classmethod
    def parse(cls, text: str) -> ScoredSet:
        """Of `NAME=DIR[,dataset=NAME][,split_by=AUTHOR][,split=NAME]`. Raises `ConfigError`."""
        name, found, rest = text.partition("=")
        root, *words = rest.split(",")
        if not (found and name and root):
            raise ConfigError(f"{text!r}: a test set is NAME=DIR[,dataset=NAME][,split_by=AUTHOR][,split=NAME]")
        fields = {key: value for key, _, value in (word.partition("=") for word in words)}
        for key in fields:
            if key not in _KEYS:
                raise ConfigError(f"{text!r}: {key!r} is no part of a test set; {did_you_mean(key, list(_KEYS))}")
        return cls(name, root, **fields)

    def open(self) -> ReferringDataset:
        """Its expressions. Raises `DataError` as `open_dataset` does."""
        return open_dataset(self.root, self.dataset, self.split, self.split_by)


@dataclass(frozen=True)
class Photographs:
    """What the runs on photographs share."""

    root: str
    """Folder of the data set that is learnt from, split `train`."""
    tests: tuple[ScoredSet, ...]
    budget: int = 30_000
    """Expressions that each system is trained on."""
    size: int = 192
    """Side of a picture as the systems see it."""
    encoder: str = DEFAULT_ENCODER
    """Weights whose picture encoder all systems have; it stays as it is."""

    def __post_init__(self) -> None:
        if not self.tests:
            raise ConfigError("photographs: a test set is wanted too; give --photograph-test NAME=DIR")
        for name in ("budget", "size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"photographs: {name}={getattr(self, name)}: 1 or more is wanted")

    def data(self) -> DataRecipe:
        """What is learnt from."""
        return DataRecipe(root=self.root, split="train")


def prepare(folder: Path, photographs: Photographs, say: Callable[[str], None] = lambda text: None) -> None:
    """Write the encoder's weights and the vocabulary of the training expressions where they are not there yet.

    Raises `ConfigError` when the weights have no picture encoder of their own, and `DataError` for a data set that
    cannot be read; every test set is opened, so that a mistake costs no training.
    """
    open_test_sets(photographs)
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / WORDS).exists():
        from refseg.encoders.text.tokenizer import split_words

        words: dict[str, None] = {}
        for sample in open_dataset(photographs.root, split="train"):
            words.update(dict.fromkeys(split_words(sample.text)))
        write_text(folder / WORDS, "\n".join(sorted(words)) + "\n")
    if not (folder / WEIGHTS).exists():
        from safetensors.torch import save_file

        from refseg.inference.checkpoint import load_model

        model: Any = load_model(photographs.encoder)[0]
        if getattr(model, "vision", None) is None or getattr(model.config, "vision", None) is None:
            raise ConfigError(f"{photographs.encoder}: has no picture encoder that other systems could take")
        part = folder / f"{WEIGHTS}.part"
        save_file({name: value.float().contiguous() for name, value in model.vision.state_dict().items()}, part)
        part.replace(folder / WEIGHTS)
        say(f"{folder / WEIGHTS}: the picture encoder of {photographs.encoder}")


def open_test_sets(photographs: Photographs) -> dict[str, ReferringDataset]:
    """Name -> expressions."""
    return {test.name: test.open() for test in photographs.tests}


def on_photographs(recipe: Recipe, folder: Path, photographs: Photographs) -> Recipe:
    """A small system's recipe for drawn scenes, on photographs and their encoder instead.

    Tags are left out, since theirs are words of drawn scenes. Raises `ConfigError` for a system that cannot take the
    encoder: one with words between the stages of its own, or one that sees regions alone.
    """
    from refseg.config import to_dict
    from refseg.encoders.build import VISION
    from refseg.inference.checkpoint import read_config
    from refseg.inference.locate import locate_config

    values = read_config(locate_config(photographs.encoder))["config"]["vision"]
    kind = next((kind for kind in VISION if set(to_dict(kind())) == set(values)), None)
    if kind is None:
        raise ConfigError(f"{photographs.encoder}: its picture encoder is of no known kind")
    name = kind.__name__.removesuffix("Config").lower()
    if vars(recipe.model_config()).get("vision") is None:
        raise ConfigError("sees regions alone, and has no place for a picture encoder")
    overrides = {**recipe.model.overrides, "vision": {"encoder": name, **values}}
    if "tags" in overrides:
        overrides["tags"] = ()
    data = replace(
        recipe.data,
        root=photographs.root,
        split="train",
        pool=0,
        pool_folder=None,
        vocabulary=str(folder / WORDS),
        feature_cache=str(folder / "maps" / hashlib.sha256(repr(photographs.size).encode()).hexdigest()[:12]),
    )
    rule = GroupRule(names=("vision.*",), train=False)
    changed = replace(
        recipe,
        model=replace(recipe.model, overrides=overrides),
        data=data,
        pretrained=replace(recipe.pretrained, vision=str(folder / WEIGHTS)),
        optimizer=replace(recipe.optimizer, groups=(rule, *recipe.optimizer.groups)),
    )
    try:
        changed.model_config()
    except ConfigError as error:
        raise ConfigError(f"does not take a {name} for its picture encoder ({error})") from error
    return changed


def score_all(
    model: nn.Module, tokenizer: Tokenizer, tests: Mapping[str, ReferringDataset], protocol: Protocol
) -> tuple[dict[str, Score], dict[str, list[dict[str, object]]]]:
    """Every test set's score, and its rows as they are written."""
    from refseg.evaluation.evaluate import evaluate_model

    scores: dict[str, Score] = {}
    rows: dict[str, list[dict[str, object]]] = {name: [] for name in tests}
    for name, dataset in tests.items():
        scores[name] = evaluate_model(model, tokenizer, dataset, protocol, batch_size=64, on_row=rows[name].append)
    return scores, rows


def kept(score: Score, metrics: Sequence[str]) -> dict[str, Any]:
    """What is kept of a score: these metrics as fractions, and how many expressions they are of."""
    document = score.to_dict()
    return {
        "metrics": {name: document["metrics"][name] for name in metrics if name in document["metrics"]},
        "counts": document["counts"],
    }
