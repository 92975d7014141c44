"""Phrases of a sentence as tokens of their own, and the place of each among the sentence's tokens.

    place_phrases(["a man in a red hat beside a dog"], [["a man", "a red hat", "a dog"]], tokenizer)

RefTR reads them (Li, Sigal, NeurIPS 2021, section 3.2); Flickr30k Entities has up to 16 a caption.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import torch

from refseg.encoders.text.tokenizer import WordPieceTokenizer, WordTokenizer, split_words
from refseg.errors import RefsegError
from refseg.types import Phrases

__all__ = ["place_phrases"]


def place_phrases(
    texts: Sequence[str],
    phrases: Sequence[Sequence[str]],
    tokenizer: WordTokenizer | WordPieceTokenizer,
    *,
    max_phrases: int | None = None,
    max_words: int = 22,
) -> Phrases:
    """The phrases of each sentence, in their order; a phrase that is named again stands where it occurs again.

    Args:
        texts: B sentences.
        phrases: those of each sentence, word for word as they stand there, but for upper and lower case.
        tokenizer: the sentences'; its length bounds where phrases may stand.
        max_phrases: P, so many phrases fit; None takes the largest number there is.
        max_words: K, tokens kept of a phrase.

    Raises: `RefsegError` that names phrase and sentence when the phrase is not in it, stands behind the words that the
        tokenizer keeps, or there are more than `max_phrases`.
    """
    if len(texts) != len(phrases):
        raise RefsegError(f"{len(texts)} sentences have {len(phrases)} lists of phrases; one each is wanted")
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
        filled += [*own, *[""] * (count - len(own))]
    tokens = tokenizer(filled)
    ids = tokens.ids[:, :max_words].unflatten(0, (len(texts), count))
    return Phrases(ids, tokens.mask[:, :max_words].unflatten(0, (len(texts), count)), start, stop, mask)


def _spans(text: str, phrases: Sequence[str], tokenizer: WordTokenizer | WordPieceTokenizer) -> list[tuple[int, int]]:
    """First token and the one after the last, of each phrase."""
    seen: Counter[str] = Counter()
    spans = []
    for phrase in phrases:
        places = (
            _in_words(text, phrase) if isinstance(tokenizer, WordTokenizer) else _in_pieces(text, phrase, tokenizer)
        )
        if not places:
            raise RefsegError(f"the phrase {phrase!r} is not in its sentence {text!r}")
        # Named as often as it occurs, or more often: then the last place holds for the rest.
        span = places[min(seen[phrase.lower()], len(places) - 1)]
        seen[phrase.lower()] += 1
        if span[1] > tokenizer.max_words:
            raise RefsegError(
                f"the phrase {phrase!r} stands behind the first {tokenizer.max_words} words of {text!r}, which is all "
                "that the model reads"
            )
        spans.append(span)
    return spans


def _in_words(text: str, phrase: str) -> list[tuple[int, int]]:
    words, wanted = split_words(text), split_words(phrase)
    if not wanted:
        return []
    places = range(len(words) - len(wanted) + 1)
    return [(place, place + len(wanted)) for place in places if words[place : place + len(wanted)] == wanted]


def _in_pieces(text: str, phrase: str, tokenizer: WordPieceTokenizer) -> list[tuple[int, int]]:
    """By characters: pieces are cut differently at the start of a text in some tokenizers."""
    pattern = r"\s+".join(re.escape(word) for word in phrase.split())
    if not pattern:
        return []
    left = r"(?<!\w)" if phrase.strip()[0].isalnum() else ""
    right = r"(?!\w)" if phrase.strip()[-1].isalnum() else ""
    encoding = tokenizer.pieces.encode(text)
    spans = []
    for match in re.finditer(f"{left}{pattern}{right}", text, re.IGNORECASE):
        inside = [
            index
            for index, ((first, last), special) in enumerate(
                zip(encoding.offsets, encoding.special_tokens_mask, strict=True)
            )
            if not special and first < match.end() and last > match.start()
        ]
        if inside:
            spans.append((inside[0], inside[-1] + 1))
    return spans
