"""A small transformer over whole words, learnt from nothing: for models that train on two CPU cores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge
from jaxtyping import Float
from torch import Tensor, nn

from refseg.config import Config, DropRate, NonNegativeInt, PositiveInt, WordCount
from refseg.errors import ConfigError
from refseg.nn.attention import TransformerLayer
from refseg.types import TextFeatures, Tokens

__all__ = ["WordTransformer", "WordTransformerConfig", "mean_word"]


@dataclass(frozen=True)
class WordTransformerConfig(Config):
    """Sizes of the text encoder."""

    vocabulary_size: Annotated[int, Ge(3)] = 512
    """Rows of the embedding table; training sets it from the vocabulary that it learns."""
    max_words: WordCount = 24
    """Words kept of a sentence."""
    width: PositiveInt = 128
    """Channels of a word."""
    vectors: NonNegativeInt = 0
    """Channels of given word vectors (such as GloVe's), which stay as they are; a linear map of a word's vector is
    added to its learnt embedding, so that words of which training has no sentence mean something too. 0 has none.
    `refseg.encoders.pretrained.load_word_vectors` puts them in."""
    concepts: NonNegativeInt = 0
    """Named concepts (classes, tags, colours) in each of which every word has a learnt share, times how much the word
    counts in its sentence; 0 has none. See `TextFeatures.concepts`."""
    layers: PositiveInt = 2
    heads: PositiveInt = 4
    feedforward: PositiveInt = 512
    """Hidden units of the feed-forward networks."""
    norm: Literal["pre", "post"] = "pre"
    """Whether the layers normalise what enters their steps, or what leaves."""
    dropout: DropRate = 0.0

    def check(self) -> None:
        """Raises `ConfigError` for heads that do not divide the width."""
        if self.width % self.heads:
            raise ConfigError(f"heads={self.heads} does not divide width={self.width}")


class WordTransformer(nn.Module):
    """Word embeddings plus learnt positions through a transformer in which padding is never attended to."""

    given: Tensor | None

    def __init__(self, config: WordTransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.width = config.width
        self.words = nn.Embedding(config.vocabulary_size, config.width)
        self.positions = nn.Embedding(config.max_words, config.width)
        for table in (self.words, self.positions):
            nn.init.normal_(table.weight, std=0.02)
        self.project = nn.Linear(config.vectors, config.width, bias=False) if config.vectors else None
        self.register_buffer("given", torch.zeros(config.vocabulary_size, config.vectors) if config.vectors else None)
        self.layers = nn.ModuleList(
            TransformerLayer(config.width, config.heads, config.feedforward, config.norm, config.dropout)
            for _ in range(config.layers)
        )
        self.dropout = nn.Dropout(config.dropout)
        self.norm = nn.LayerNorm(config.width)
        self.shares: nn.Embedding | None = None
        if config.concepts:
            self.shares = nn.Embedding(config.vocabulary_size, config.concepts)
            self.counts = nn.Linear(config.width, 1)
            for parameter in (self.shares.weight, self.counts.weight):
                nn.init.zeros_(parameter)
            nn.init.constant_(self.counts.bias, 2.0)

    def embed(self, tokens: Tokens) -> Float[Tensor, "B L C"]:
        """Words and their positions, before any word has seen another one."""
        length = tokens.ids.shape[1]
        words = self.words(tokens.ids)
        if self.project is not None and self.given is not None:
            words = words + self.project(self.given[tokens.ids])
        return self.dropout(words + self.positions.weight[:length])

    def forward(self, tokens: Tokens) -> TextFeatures:
        """One vector a word (B L C); the sentence is their mean, and its shares in concepts the sum of theirs. L must
        not exceed `config.max_words`."""
        words = self.embed(tokens)
        for layer in self.layers:
            words = layer(words, tokens.mask[:, None])
        words = self.norm(words)
        sentence = mean_word(words, tokens.mask)
        if self.shares is None:
            return TextFeatures(words, sentence, tokens.mask)
        shares = self.shares(tokens.ids) * self.counts(words).sigmoid() * tokens.mask[..., None]
        return TextFeatures(words, sentence, tokens.mask, shares.sum(dim=1), shares)


def mean_word(words: Float[Tensor, "B L C"], mask: torch.Tensor) -> Float[Tensor, "B C"]:
    """The mean over the real words of each sentence (`mask` "B L" bool)."""
    weights = mask.to(words.dtype)[..., None]
    return (words * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
