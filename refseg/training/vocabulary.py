"""The tokenizer of a run: of its checkpoint, of the model it starts from, named by the recipe, or learnt now."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from refseg.encoders.text.tokenizer import WordTokenizer, load_tokenizer
from refseg.errors import ConfigError
from refseg.generation.language.everyday_words import TOKENS
from refseg.training.recipe import Recipe


def build_tokenizer(recipe: Recipe, pictures: Any, saved: Path | None, config: Any, accelerator: Any) -> Any:
    """The tokenizer for a model of `config`; `saved` is the checkpoint that a run is resumed from.

    A vocabulary is learnt by one process, and read by the others from the run's folder, so that scenes are not drawn
    several times. Raises `ConfigError` when a model with BERT is given no word pieces.
    """
    if saved is not None:
        return load_tokenizer(saved)
    if recipe.pretrained.model is not None:
        from refseg.inference.checkpoint import locate_model

        return load_tokenizer(locate_model(recipe.pretrained.model))
    length = config.text.max_words
    if recipe.data.tokenizer is not None:
        return load_tokenizer(recipe.data.tokenizer, max_words=length)
    if uses_pieces(config):
        raise ConfigError(
            "data.tokenizer: the model's text encoder is BERT, which reads word pieces; give a folder with its "
            "tokenizer.json or vocab.txt, or its hub id, such as google-bert/bert-base-uncased"
        )
    if recipe.data.vocabulary is not None:
        return WordTokenizer(_read_words(Path(recipe.data.vocabulary)), length, recipe.data.spelling)
    folder = Path(recipe.output.folder) / "vocabulary"
    if accelerator.is_main_process:
        more = [] if recipe.data.vocabulary_more is None else _first_words(Path(recipe.data.vocabulary_more))
        if recipe.data.augment.reword:
            more = [*TOKENS, *more]
        least, spelling = recipe.data.vocabulary_least, recipe.data.spelling
        WordTokenizer.learn(pictures.texts(), length, least, more, spelling).save(folder)
    accelerator.wait_for_everyone()
    return load_tokenizer(folder)


def uses_pieces(config: Any) -> bool:
    """Whether the model's text encoder was made for BERT's word pieces."""
    from refseg.encoders.text.bert import BertTextConfig

    return isinstance(config.text, BertTextConfig)


def _first_words(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"data.vocabulary_more: {path} cannot be read ({error})") from error
    words = [line.split(" ", 1)[0].strip().lower() for line in lines]
    return [word for word in dict.fromkeys(words) if len(word) > 1 and word.isalpha()]


def _read_words(path: Path) -> list[str]:
    try:
        return list(dict.fromkeys(path.read_text(encoding="utf-8").split()))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"data.vocabulary: {path} cannot be read ({error})") from error
