"""First shares of words in the photograph model's concepts, so that "truck" means trucks before training has any."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from refseg.encoders.text.transformer import WordTransformer
from refseg.errors import CheckpointError
from refseg.generation.language.lexicon import CLASS_SHARES, COLOR_SHARES, EVERYDAY, HYPERNYMS, plural
from refseg.models.photo.concepts import CLASSES
from refseg.palette import COLORS

__all__ = ["fill_shares"]

_SYNONYM, _HYPERNYM = 0.8, 0.5
"""Shares in a category of what people call it, and of a wider noun."""


def _plurals(word: str) -> tuple[str, ...]:
    return (plural(word), f"{word}s")


def fill_shares(encoder: WordTransformer, words: Sequence[str], tags: Sequence[str]) -> int:
    """Fill an encoder's shares in `CLASSES`, `tags` and `COLORS`, in that order, from the concepts' names, their
    plurals, synonyms and hypernyms. `words` are the rows of its tables. Returns how many words got a share.

    Raises `CheckpointError` for an encoder with another number of concepts.
    """
    named = (*CLASSES, *(f"{tag} tag" for tag in tags), *(f"{name} colour" for name in COLORS))
    if encoder.shares is None or encoder.config.concepts != len(named):
        raise CheckpointError(f"text.concepts={encoder.config.concepts}: {len(named)} are wanted for these tags")
    shares = _class_shares()
    for tag in tags:
        *_, head = tag.split()
        for form in (head, plural(head)):
            shares.setdefault(form, {})[f"{tag} tag"] = 1.0 if head == tag else 0.6
        for synonym in EVERYDAY.get(tag, ()):
            if " " not in synonym:
                shares.setdefault(synonym, {}).setdefault(f"{tag} tag", _SYNONYM)
    for word, given in ({name: {name: 1.0} for name in COLORS} | COLOR_SHARES).items():
        shares[word] = {f"{name} colour": share for name, share in given.items()} | shares.get(word, {})
    numbers = {name: number for number, name in enumerate(named)}
    with torch.no_grad():
        for row, word in enumerate(words):
            for name, weight in shares.get(word, {}).items():
                encoder.shares.weight[row, numbers[name]] = weight
    return sum(word in shares for word in words)


def _class_shares() -> dict[str, dict[str, float]]:
    """Each word's share in the detector's classes."""
    shares: dict[str, dict[str, float]] = {}
    for name in CLASSES:
        parts = name.split()
        for part in parts:
            for form in (part, *_plurals(part)):
                shares.setdefault(form, {}).setdefault(name, 1.0 if len(parts) == 1 else 0.6)
    for name, synonyms in EVERYDAY.items():
        for word in synonyms:
            for form in (word, *_plurals(word)) if " " not in word else ():
                shares.setdefault(form, {}).setdefault(name, 1.0 if name == "person" else _SYNONYM)
    for word, names in HYPERNYMS.items():
        for form in (word, *_plurals(word)):
            for name in names:
                shares.setdefault(form, {}).setdefault(name, _HYPERNYM)
    for word, given in CLASS_SHARES.items():
        for form in (word, *_plurals(word)):
            shares[form] = dict(given)
    return shares
