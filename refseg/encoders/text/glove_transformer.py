"""ReSTR's language encoder: word vectors and fixed sinusoidal positions through a transformer.

    words -> embedding (GloVe, or learnt from nothing) + positions -> layers -> [linear] -> LN -> one vector a word

Kim et al., CVPR 2022, section 3.1; the published code normalises after each step, where the paper does so before it,
and leads the words to the fusion's width with a linear layer of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge, MultipleOf
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from refseg.config import Config, DropRate, PositiveInt, WordCount
from refseg.encoders.text.transformer import mean_word
from refseg.errors import ConfigError
from refseg.nn.attention import TransformerLayer
from refseg.types import TextFeatures, Tokens

__all__ = ["GloveTransformer", "GloveTransformerConfig", "sinusoidal_positions", "words_last"]


@dataclass(frozen=True)
class GloveTransformerConfig(Config):
    """Sizes of the text encoder; the defaults are the paper's (section 4.1)."""

    vocabulary_size: Annotated[int, Ge(3)] = 12112
    """Rows of the embedding table; training sets it from the vocabulary that it learns."""
    max_words: WordCount = 20
    """N_l: words kept of a sentence."""
    width: Annotated[int, Ge(2), MultipleOf(2)] = 300
    """Channels of a word; 300 is GloVe's. The table is learnt from nothing unless vectors are put in."""
    layers: PositiveInt = 6
    heads: PositiveInt = 12
    feedforward: PositiveInt = 3072
    """Hidden units of the feed-forward networks; 1200 in the published code."""
    norm: Literal["pre", "post"] = "pre"
    """Whether layers normalise what enters their steps (paper, equations 1 and 2) or what leaves (published code)."""
    output_width: PositiveInt | None = None
    """Channels of a linear layer before the last normalisation, as in the published code; None has no such layer."""
    align: Literal["start", "end"] = "start"
    """Which of the `max_words` positions a shorter sentence takes: the first ones, or the last ones as in the published
    code, whose padding stands in front."""
    mask_padding: bool = True
    """False attends to padding words as if they were real, as the published code does."""
    dropout: DropRate = 0.0

    def check(self) -> None:
        """Raises `ConfigError` for heads that do not divide the width."""
        if self.width % self.heads:
            raise ConfigError(f"width={self.width}: a multiple of heads={self.heads} is wanted")


class GloveTransformer(nn.Module):
    """The encoder; `width` is that of the vectors it gives."""

    def __init__(self, config: GloveTransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.width = config.output_width or config.width
        self.words = nn.Embedding(config.vocabulary_size, config.width, padding_idx=0)
        # GloVe's coordinates spread about as much; much smaller ones would drown in the positions' sines.
        nn.init.normal_(self.words.weight, std=0.4)
        with torch.no_grad():
            self.words.weight[0] = 0.0
        self.layers = nn.ModuleList(
            TransformerLayer(config.width, config.heads, config.feedforward, config.norm, config.dropout)
            for _ in range(config.layers)
        )
        self.output = None if config.output_width is None else nn.Linear(config.width, config.output_width)
        self.norm = nn.LayerNorm(self.width)
        self.register_buffer("positions", sinusoidal_positions(config.max_words, config.width), persistent=False)

    def forward(self, tokens: Tokens) -> TextFeatures:
        """One vector a word (B L C), in the slots of `tokens`; the sentence is the mean of the real ones.

        L must not exceed `config.max_words`.
        """
        order = words_last(tokens.mask) if self.config.align == "end" else None
        ids, mask = tokens.ids, tokens.mask
        if order is not None:
            ids, mask = ids.gather(1, order), mask.gather(1, order)
        length = ids.shape[1]
        assert isinstance(self.positions, Tensor)
        table = self.positions[-length:] if order is not None else self.positions[:length]
        words = self.words(ids) + table.to(self.words.weight.dtype)
        visible = mask[:, None] if self.config.mask_padding else None
        for layer in self.layers:
            words = layer(words, visible)
        words = self.norm(words if self.output is None else self.output(words))
        if order is not None:
            words = words.gather(1, order.argsort(dim=1)[..., None].expand_as(words))
        return TextFeatures(words, mean_word(words, tokens.mask), tokens.mask)


def words_last(mask: Bool[Tensor, "B L"]) -> Int[Tensor, "B L"]:
    """The order of slots in which padding comes first and the words keep their order (`mask` True on words)."""
    return mask.long().argsort(dim=1, stable=True)


def sinusoidal_positions(length: int, width: int) -> Float[Tensor, "L C"]:
    """sin and cos of position / 10000^(2i / width) in channels 2i and 2i + 1 (Vaswani et al., NeurIPS 2017, 3.5)."""
    rates = torch.exp(torch.arange(0, width, 2, dtype=torch.float64) * (-math.log(10000.0) / width))
    angles = torch.arange(length, dtype=torch.float64)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1).float()
