"""Which classes a noun means, with weights: names, what people call them, slips of the pen, then likeness of meaning.

word -> name of a class ("couch"), or what people say for it ("sofa", "guy", "animal")   nouns.tsv
     -> known to name a class or none ("beagle", "ketchup")                              anchors.tsv
     -> one slip away from either ("girafe", "dgo")       as that word, if its letters are not another known word's
     -> like either in MiniLM's eyes ("feline", "stove")  by its nearest anchors, unless those name no class
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.resources import files

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from refseg.encoders.text.minilm import MiniLM, WordPieces, quantize
from refseg.models.instances.classes import CLASSES

__all__ = ["Lexicon", "Meaning", "NounAnchors", "read_anchors", "spelled", "stored_pieces", "table"]

SAID = 0.9
"""Weight of a class that a noun names by likeness or by `anchors.tsv`."""
SURELY_NONE = 0.5
"""Cosine with a noun of no class from which a word is taken for one like it, rather than for unknown."""
NEAR_MISS = 0.15
"""Lower bound of a weight that is kept."""


@dataclass(frozen=True)
class Meaning:
    """What one noun means: a weight (0 to 1) for each of `CLASSES`, and how that is known.

    `how` is "name", "said", "spelling" (of `read_as`), "similar" (to `read_as`), "none" (like what is no class, such as
    `read_as`) or "unknown" (nothing is like it). Weights are all zero for the last two.
    """

    word: str
    weights: tuple[tuple[int, float], ...]
    how: str
    read_as: str = ""

    @property
    def known(self) -> bool:
        """Whether it means any class."""
        return bool(self.weights)

    def vector(self) -> Float[Tensor, " A"]:
        """The weights as a tensor."""
        found = torch.zeros(len(CLASSES))
        for index, weight in self.weights:
            found[index] = weight
        return found


def _rows(name: str) -> list[tuple[str, str]]:
    text = files("refseg.models.instances").joinpath(name).read_text(encoding="utf-8")
    return [
        (noun, rest) for noun, _, rest in (line.partition("\t") for line in text.splitlines() if line[:1] not in "#")
    ]


@lru_cache(maxsize=1)
def table() -> Mapping[str, dict[str, float]]:
    """Weights of classes by noun or two-word name, singular and plural: the file `nouns.tsv` beside this one."""
    found: dict[str, dict[str, float]] = {}
    for noun, listed in _rows("nouns.tsv"):
        pairs = (part.rpartition(" ") for part in listed.split(", "))
        found[noun] = {name: float(weight) for name, _, weight in pairs}
    return found


@lru_cache(maxsize=1)
def read_anchors() -> dict[str, str]:
    """Nouns with the class that they name, or "none": the file `anchors.tsv` beside this one. Its rows are those of the
    stored vectors, so that a changed file needs new ones."""
    return dict(_rows("anchors.tsv"))


@lru_cache(maxsize=1)
def stored_pieces() -> WordPieces:
    """The word pieces of the stored, pruned MiniLM: the file `wordpieces.txt` beside this one."""
    text = files("refseg.models.instances").joinpath("wordpieces.txt").read_text(encoding="utf-8")
    return WordPieces(text.rstrip("\n").split("\n"))


def spelled(
    word: str, known: Iterable[str] | Mapping[str, object], frequent: Mapping[str, int] | None = None
) -> str | None:
    """The known word as which a misspelt one is read, None if there is none; at most a few thousand look-ups.

    One slip (a letter left out, put in or exchanged, two neighbours in each other's place) from four letters on, and in
    three letters only neighbours in each other's place ("dgo"); from seven letters on a letter more may be doubled or
    missing ("bannnana"). Where several words fit, the one with the same first letter and the same letters comes first,
    then the first in `frequent`.
    """
    if not (3 <= len(word) <= 24) or not (word.isascii() and word.isalpha()):
        return None
    known = known if isinstance(known, Mapping) else dict.fromkeys(known)
    found = {other for other in _slips(word) if other in known and len(other) >= min(len(word), 4) - (len(word) > 4)}
    if len(word) == 3:
        found = {other for other in found if sorted(other) == sorted(word)}
    if not found and len(word) >= 7:
        squeezed = _squeeze(word)
        found = set(_squeezed(tuple(known)).get(squeezed, ()))
    if not found:
        return None
    order = frequent or {other: -place for place, other in enumerate(known)}
    return min(
        found,
        key=lambda other: (
            other[0] != word[0],
            sorted(other) != sorted(word),
            _squeeze(other) != _squeeze(word),
            -order.get(other, -(10**6)),
        ),
    )


def _squeeze(word: str) -> str:
    return "".join(letter for place, letter in enumerate(word) if place == 0 or word[place - 1] != letter)


@lru_cache(maxsize=4)
def _squeezed(words: tuple[str, ...]) -> dict[str, list[str]]:
    table_: dict[str, list[str]] = {}
    for word in words:
        table_.setdefault(_squeeze(word), []).append(word)
    return table_


def _slips(word: str) -> Iterable[str]:
    letters = "abcdefghijklmnopqrstuvwxyz"
    for at in range(len(word) + 1):
        head, tail = word[:at], word[at:]
        if tail:
            yield head + tail[1:]
        if len(tail) > 1:
            yield head + tail[1] + tail[0] + tail[2:]
        for letter in letters:
            yield head + letter + tail
            if tail:
                yield head + letter + tail[1:]


class NounAnchors(nn.Module):
    """Sentence vectors of all anchors (`anchors.tsv`), in eight bits, beside the encoder's weights.

    `fill` computes them once; they are part of what is saved.
    """

    weight: Tensor
    scale: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.nouns, self.classes = tuple(read_anchors()), tuple(read_anchors().values())
        self.register_buffer("weight", torch.zeros(len(self.nouns), width, dtype=torch.int8))
        self.register_buffer("scale", torch.ones(len(self.nouns), dtype=torch.float16))

    def fill(self, encoder: MiniLM, pieces: WordPieces) -> None:
        """Compute the vectors with an encoder."""
        with torch.inference_mode():
            parts = [
                encoder(pieces(list(self.nouns[start : start + 64]))).sentence
                for start in range(0, len(self.nouns), 64)
            ]
        self.weight, self.scale = (value.clone() for value in quantize(torch.cat(parts)))

    def forward(self, vectors: Float[Tensor, "B C"]) -> Float[Tensor, "B N"]:
        """Cosines with every anchor."""
        return vectors @ (F.normalize(self.weight.float() * self.scale.float()[:, None], dim=-1)).T


class Lexicon:
    """Nouns to `Meaning`s, remembered; `encoder`, `pieces` and `anchors` are None without pretrained language."""

    remembered = 4096
    """Nouns of which the meaning is kept."""

    def __init__(
        self,
        encoder: MiniLM | None = None,
        pieces: WordPieces | None = None,
        anchors: NounAnchors | None = None,
        temperature: float = 0.06,
        least: float = 0.42,
        excluded: Sequence[str] = (),
    ) -> None:
        """
        Args:
            temperature: of the softmax over classes' best anchors.
            least: cosine below which a noun is like nothing.
            excluded: classes that are never meant (the detector at hand has them not).
        """
        self.encoder, self.pieces, self.anchors = encoder, pieces, anchors
        self.temperature, self.least = temperature, least
        self.excluded = frozenset(excluded)
        self._kept: OrderedDict[str, Meaning] = OrderedDict()

    def __call__(self, word: str) -> Meaning:
        """The meaning of a noun or of a compound of some words, lower case."""
        if word in self._kept:
            self._kept.move_to_end(word)
            return self._kept[word]
        meaning = self._look_up(word)
        if self.excluded:
            meaning = replace(
                meaning,
                weights=tuple((i, w) for i, w in meaning.weights if CLASSES[i] not in self.excluded),
            )
        self._kept[word] = meaning
        if len(self._kept) > self.remembered:
            self._kept.popitem(last=False)
        return meaning

    def named(self, word: str) -> Meaning | None:
        """The meaning if the word is in the table as it is."""
        shares = table().get(word)
        if shares is None:
            return None
        how = "name" if max(shares.values()) == 1.0 else "said"
        return Meaning(word, tuple((CLASSES.index(name), share) for name, share in shares.items()), how)

    def likeness(self, word: str, others: Sequence[str]) -> list[float]:
        """Cosines of a noun's sentence vector with those of others, -1 to 1; zeros without pretrained language."""
        if self.encoder is None or self.pieces is None or not others:
            return [0.0] * len(others)
        with torch.inference_mode():
            first, *rest = F.normalize(self.encoder(self.pieces([word, *others])).sentence, dim=-1)
            return [float(first @ other) for other in rest]

    def _look_up(self, word: str) -> Meaning:
        found = self.named(word)
        if found is not None:
            return found
        noun = read_anchors().get(word) or read_anchors().get(_singular(word))
        if noun is not None:
            weights = () if noun == "none" else ((CLASSES.index(noun), SAID),)
            return Meaning(word, weights, "none" if noun == "none" else "said", noun)
        if " " not in word and not self._is_word(word):
            other = spelled(word, table())
            if other is not None:
                meant = self.named(other)
                assert meant is not None
                return replace(meant, word=word, how="spelling", read_as=other)
        return self._similar(word)

    def _is_word(self, word: str) -> bool:
        """Whether an English word is spelt so (a piece of BERT's vocabulary by itself), so that it is no slip."""
        return self.pieces is not None and word in self.pieces.numbers

    def _similar(self, word: str) -> Meaning:
        if self.encoder is None or self.pieces is None or self.anchors is None:
            return Meaning(word, (), "unknown")
        with torch.inference_mode():
            cosines = self.anchors(self.encoder(self.pieces([word])).sentence)[0]
        best: dict[str, tuple[float, str]] = {}
        for value, noun, name in zip(cosines.tolist(), self.anchors.nouns, self.anchors.classes, strict=True):
            if value > best.get(name, (-1.0, ""))[0]:
                best[name] = (value, noun)
        first = max(best, key=lambda name: best[name][0])
        if best[first][0] < self.least:
            return Meaning(word, (), "unknown", best[first][1])
        names = list(best)
        shares = (torch.tensor([best[name][0] for name in names]) / self.temperature).softmax(0).tolist()
        weights = tuple(
            (CLASSES.index(name), share)
            for name, share in zip(names, shares, strict=True)
            if name != "none" and share >= NEAR_MISS
        )
        if first == "none" and best[first][0] < SURELY_NONE:
            return Meaning(word, (), "unknown", best[first][1])
        if first == "none" or not weights:
            return Meaning(word, (), "none", best[first][1])
        largest = max(share for _, share in weights)
        scaled = tuple((index, SAID * share / largest) for index, share in weights)
        return Meaning(word, scaled, "similar", best[first][1])


def _singular(word: str) -> str:
    """A guess at the singular."""
    for end, instead in (
        ("ies", "y"),
        ("ves", "f"),
        ("ches", "ch"),
        ("shes", "sh"),
        ("sses", "ss"),
        ("xes", "x"),
        ("s", ""),
    ):
        if word.endswith(end) and len(word) > len(end) + 2 and not word.endswith("ss"):
            return word[: -len(end)] + instead
    return word
