"""Phrases of a sentence as tokens of their own, and the place of each among the sentence's tokens.

    place_phrases(["a man in a red hat beside a dog"], [["a man", "a red hat", "a dog"]], tokenizer)
    place_phrases(["a man beside a man"], [[(13, 18)]], tokenizer)      # the second man, by his characters
    locate_phrases("a man beside a man", ["a man", "a man"])            # [(0, 5), (13, 18)]

RefTR reads them (Li, Sigal, NeurIPS 2021, section 3.2); Flickr30k Entities has up to 16 a caption.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch

from refseg.encoders.text.tokenizer import WordPieceTokenizer, WordTokenizer, split_words
from refseg.errors import RefsegError
from refseg.types import Phrases

__all__ = ["Place", "locate_phrases", "place_phrases"]

Place: TypeAlias = str | tuple[int, int]
"""A phrase as it stands in its sentence, or its characters there (start, stop), stop exclusive."""


def locate_phrases(text: str, phrases: Sequence[Place]) -> list[tuple[int, int]]:
    """The characters (start, stop) of each phrase.

    A phrase given as text stands where it occurs first, but for upper and lower case and the length of white space;
    named again, where it occurs again. Raises `RefsegError` for no phrase at all, one that is not in `text` as whole
    words, or characters that are no part of it or hold no word.
    """
    if isinstance(phrases, str) or not len(phrases):
        raise RefsegError(f"phrases are a list, each as text or as characters (start, stop), not {phrases!r}")
    seen: Counter[str] = Counter()
    spans = []
    for phrase in phrases:
        if isinstance(phrase, str):
            found = _in_pieces(text, phrase)
            if not found:
                raise RefsegError(f"the phrase {phrase!r} is not in its expression {text!r}")
            key = " ".join(phrase.lower().split())
            spans.append(found[min(seen[key], len(found) - 1)])
            seen[key] += 1
            continue
        if len(phrase) != 2 or not all(isinstance(place, int) and not isinstance(place, bool) for place in phrase):
            raise RefsegError(f"a phrase is text, or its characters as two whole numbers, not {phrase!r}")
        start, stop = phrase
        _check_characters(text, start, stop)
        if not split_words(text[start:stop]):
            raise RefsegError(f"a phrase at characters {start} to {stop} of {text!r}: no word is there")
        spans.append((start, stop))
    return spans


def _check_characters(text: str, start: int, stop: int) -> None:
    if not 0 <= start < stop <= len(text):
        raise RefsegError(f"a phrase at characters {start} to {stop} of {text!r}, which has {len(text)}")


def place_phrases(
    texts: Sequence[str],
    phrases: Sequence[Sequence[Place]],
    tokenizer: WordTokenizer | WordPieceTokenizer,
    *,
    max_phrases: int | None = None,
    max_words: int = 22,
) -> Phrases:
    """The phrases of each sentence, in their order.

    Args:
        texts: B sentences.
        phrases: those of each sentence, each by its characters (start, stop), stop exclusive, as data sets annotate
            it, or as text, word for word as it stands there but for upper and lower case. A text that is named again
            stands where it occurs again; one that also occurs inside another phrase is found at its first occurrence,
            which is why annotated characters are to be preferred.
        tokenizer: the sentences'; its length bounds where phrases may stand.
        max_phrases: P, so many phrases fit; None takes the largest number there is.
        max_words: K, tokens kept of a phrase.

    Raises: `RefsegError` that names phrase and sentence when the phrase is not in it, its characters lie outside or
        hold no word, it stands behind the words that the tokenizer keeps, or there are more than `max_phrases`.
    """
    if len(texts) != len(phrases):
        raise RefsegError(f"{len(texts)} expressions have {len(phrases)} lists of phrases; one each is wanted")
    largest = max((len(each) for each in phrases), default=0)
    count = max(1, largest) if max_phrases is None else max_phrases
    start = torch.zeros(len(texts), count, dtype=torch.long)
    stop, mask = torch.ones_like(start), torch.zeros_like(start, dtype=torch.bool)
    filled: list[str] = []
    for row, (text, own) in enumerate(zip(texts, phrases, strict=True)):
        if len(own) > count:
            raise RefsegError(f"{len(own)} phrases in {text!r}, but room for {count}; leave some out")
        for column, (first, last) in enumerate(_spans(text, own, tokenizer)):
            start[row, column], stop[row, column], mask[row, column] = first, last, True
        filled += [phrase if isinstance(phrase, str) else text[slice(*phrase)] for phrase in own]
        filled += [""] * (count - len(own))
    tokens = tokenizer(filled)
    ids = tokens.ids[:, :max_words].unflatten(0, (len(texts), count))
    return Phrases(ids, tokens.mask[:, :max_words].unflatten(0, (len(texts), count)), start, stop, mask)


def _spans(text: str, phrases: Sequence[Place], tokenizer: WordTokenizer | WordPieceTokenizer) -> list[tuple[int, int]]:
    """First token and the one after the last, of each phrase."""
    tokens_at = _words_at(text) if isinstance(tokenizer, WordTokenizer) else _pieces_at(text, tokenizer)
    seen: Counter[str] = Counter()
    spans = []
    for phrase in phrases:
        if isinstance(phrase, str):
            places = _in_words(text, phrase) if isinstance(tokenizer, WordTokenizer) else _in_pieces(text, phrase)
            found = places if isinstance(tokenizer, WordTokenizer) else [tokens_at(*place) for place in places]
            found = [span for span in found if span[0] < span[1]]
            if not found:
                raise RefsegError(f"the phrase {phrase!r} is not in its expression {text!r}")
            # Named as often as it occurs, or more often: then the last place holds for the rest.
            span = found[min(seen[phrase.lower()], len(found) - 1)]
            seen[phrase.lower()] += 1
        else:
            start, stop = phrase
            _check_characters(text, start, stop)
            span, phrase = tokens_at(start, stop), text[start:stop]
            if span[0] >= span[1]:
                raise RefsegError(f"a phrase at characters {start} to {stop} of {text!r}: no word is there")
        if span[1] > tokenizer.max_words:
            raise RefsegError(
                f"the phrase {phrase!r} stands behind the first {tokenizer.max_words} words of {text!r}, which is all "
                "that the model reads"
            )
        spans.append(span)
    return spans


def _words_at(text: str) -> Callable[[int, int], tuple[int, int]]:
    """A function from characters to the words that they touch, counted by what stands before them: splitting changes
    characters (ligatures, full width), so that a word's own place in the text is not known."""
    words = split_words(text)

    def at(start: int, stop: int) -> tuple[int, int]:
        before = split_words(text[:start])
        cut = bool(before) and before[-1] != words[len(before) - 1]
        return len(before) - cut, len(split_words(text[:stop]))

    return at


def _pieces_at(text: str, tokenizer: WordPieceTokenizer) -> Callable[[int, int], tuple[int, int]]:
    """A function from characters to the word pieces that they touch, special ones left out."""
    encoding = tokenizer.pieces.encode(text)
    offsets = list(zip(encoding.offsets, encoding.special_tokens_mask, strict=True))

    def at(start: int, stop: int) -> tuple[int, int]:
        inside = [n for n, ((low, high), special) in enumerate(offsets) if not special and low < stop and high > start]
        return (inside[0], inside[-1] + 1) if inside else (0, 0)

    return at


def _in_words(text: str, phrase: str) -> list[tuple[int, int]]:
    """First word and the one after the last of every occurrence."""
    words, wanted = split_words(text), split_words(phrase)
    if not wanted:
        return []
    places = range(len(words) - len(wanted) + 1)
    return [(place, place + len(wanted)) for place in places if words[place : place + len(wanted)] == wanted]


def _in_pieces(text: str, phrase: str) -> list[tuple[int, int]]:
    """First character and the one after the last of every occurrence: pieces are cut differently at the start of a text
    in some tokenizers, so that they cannot be compared."""
    pattern = r"\s+".join(re.escape(word) for word in phrase.split())
    if not pattern:
        return []
    left = r"(?<!\w)" if phrase.strip()[0].isalnum() else ""
    right = r"(?!\w)" if phrase.strip()[-1].isalnum() else ""
    return [match.span() for match in re.finditer(f"{left}{pattern}{right}", text, re.IGNORECASE)]
