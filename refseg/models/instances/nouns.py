"""The files of nouns and word pieces beside this one, and the vectors of those nouns that others are compared with."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from refseg.encoders.text.minilm import MiniLM, WordPieces, quantize

__all__ = ["NounAnchors", "read_anchors", "stored_pieces", "table"]


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
