"""Expressions with a word erased: how much a model leans on the plainest clue (thesis of C. Liu, table 4.5a).

The table's "Masked" set is the evaluation set with informative words erased; which words, and how many, the text does
not say. Here one word of each expression is erased, as in the masked contrastive learning that the table is about
(section 4.2.5): the one that the model itself reads most, summed over its queries, or one at random.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import nn

from refseg.data.sample import ReferringDataset, Sample
from refseg.encoders.text.tokenizer import WordPieceTokenizer, WordTokenizer, split_words
from refseg.errors import DataError, RefsegError
from refseg.evaluation.pictures import answers, by_picture, read_pictures, same_size
from refseg.types import ReferringModel, Tokens

__all__ = ["Erased", "erase_words", "words_at"]

Choice = Literal["attention", "random"]


@dataclass(frozen=True)
class Erased:
    """The expressions without a word each; `count` of them have lost one, the others have a single word."""

    samples: ReferringDataset
    count: int


def erase_words(
    model: nn.Module,
    tokenizer: Callable[[list[str]], Tokens],
    dataset: ReferringDataset,
    how: Choice,
    *,
    seed: int = 0,
    batch_size: int = 16,
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Erased:
    """A copy of `dataset` whose expressions have lost a word; those of one word keep it.

    "attention" asks the model about every picture, and erases the word with the largest sum over the rows of its map
    "words" (`Output.maps`), among the words that it reads. "random" draws a word by `seed` and the sample's id, the
    same for every model with a tokenizer of the same kind. Raises `DataError` where the model has no such map, and
    `RefsegError` for a tokenizer without words.
    """
    if not isinstance(tokenizer, (WordTokenizer, WordPieceTokenizer)):
        raise RefsegError("--erase-words: this model reads expressions as bytes; there is no word to erase")
    choices: dict[str, int] = {}
    if how == "attention":
        choices = _most_read(model, tokenizer, dataset, batch_size, workers, progress)
    samples: list[Sample] = []
    count = 0
    for sample in dataset:
        words = words_at(tokenizer, sample.text)
        if how == "random" and words:
            choices[sample.id] = random.Random(f"{seed} {sample.id}").randrange(len(words))
        if len(words) < 2 or sample.id not in choices:
            samples.append(sample)
            continue
        start, stop, _ = words[choices[sample.id]]
        text = " ".join((sample.text[:start] + " " + sample.text[stop:]).split())
        samples.append(replace(sample, text=text, phrases=()))
        count += 1
    names: dict[str, Any] = {"name": dataset.name, "split": dataset.split, "split_by": dataset.split_by}
    return Erased(ReferringDataset(samples, root=dataset.root, problems=dataset.problems, **names), count)


def words_at(tokenizer: WordTokenizer | WordPieceTokenizer, text: str) -> list[tuple[int, int, list[int]]]:
    """The words of an expression that are read: characters (start, stop), and the numbers of their tokens. Signs that
    are no word are left out."""
    found: dict[tuple[int, int], list[int]] = {}
    if isinstance(tokenizer, WordTokenizer):
        position = 0
        folded = text.lower()
        for number, word in enumerate(split_words(text)[: tokenizer.max_words]):
            start = folded.find(word, position)
            if start < 0:  # a ligature, or a letter of full width: it is not written as it is read
                continue
            position = start + len(word)
            found[start, position] = [number]
    else:
        encoding = tokenizer.pieces.encode(text)
        for number, word_number in enumerate(encoding.word_ids[: tokenizer.max_words]):
            place = None if word_number is None else encoding.word_to_chars(word_number)
            if place is not None:
                found.setdefault(place, []).append(number)
    words = [(start, stop, tokens) for (start, stop), tokens in found.items()]
    return [word for word in words if any(letter.isalnum() for letter in text[word[0] : word[1]])]


def _most_read(
    model: nn.Module,
    tokenizer: WordTokenizer | WordPieceTokenizer,
    dataset: Sequence[Sample],
    batch_size: int,
    workers: int,
    progress: Callable[[int, int], None] | None,
) -> dict[str, int]:
    """Sample -> which of its words (`words_at`) has the largest attention."""
    device, done = next(model.parameters()).device, 0
    chosen: dict[str, int] = {}
    training = model.training
    network = cast(ReferringModel[object], model.eval())
    try:
        with torch.inference_mode():
            pictures = read_pictures(dataset, by_picture(dataset), network.config.input, workers, [])
            for group in same_size(pictures, batch_size):
                for answered in answers(network, tokenizer, group, batch_size, device):
                    named = answered.output.maps.get("words")
                    if named is None:
                        raise DataError(
                            f"--erase-words attention: {type(model).__name__} has no map of attention over words; take "
                            "random"
                        )
                    for index, sample in enumerate(answered.samples):
                        words = words_at(tokenizer, sample.text)
                        if words:
                            weights = named.read(index).values.float().sum(dim=0).cpu().numpy()
                            sums = [weights[tokens].sum() for _, _, tokens in words]
                            chosen[sample.id] = int(np.argmax(sums))
                    done += len(answered.samples)
                    if progress is not None:
                        progress(done, len(dataset))
    finally:
        model.train(training)
    return chosen
