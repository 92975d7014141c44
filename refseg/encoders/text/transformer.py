"""A small transformer over whole words, learnt from nothing: for models that train on two CPU cores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from refseg.errors import ConfigError
from refseg.nn.transformer import TransformerLayer
from refseg.types import TextFeatures, Tokens

__all__ = ["WordTransformer", "WordTransformerConfig", "mean_word"]


@dataclass(frozen=True)
class WordTransformerConfig:
    """Sizes of the text encoder."""

    vocabulary_size: int = 512
    """Rows of the embedding table; training sets it from the vocabulary that it learns."""
    max_words: int = 24
    """Words kept of a sentence."""
    width: int = 128
    """Channels of a word."""
    vectors: int = 0
    """Channels of given word vectors (such as GloVe's), which stay as they are; a linear map of a word's vector is
    added to its learnt embedding, so that words of which training has no sentence mean something too. 0 has none.
    `refseg.models.load_word_vectors` puts them in."""
    classes: int = 0
    """Classes of a detector in the picture encoder, tags and names of colours after them: each word has a learnt share
    in each of them, put beside its other channels, times how much the word counts in its sentence.
    `refseg.models.photo.class_names.give_names` fills the shares from the classes' names, so that "truck" means
    trucks before training has any. 0 has none."""
    layers: int = 2
    heads: int = 4
    feedforward: int = 512
    """Hidden units of the feed-forward networks."""
    norm: Literal["pre", "post"] = "pre"
    """Whether the layers normalise what enters their steps, or what leaves."""
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.classes < 0:
            raise ConfigError(f"text.classes={self.classes}: 0 or more are wanted")
        if self.vocabulary_size < 3 or min(self.max_words, self.layers, self.feedforward) < 1:
            raise ConfigError("text: vocabulary_size is 3 or more, max_words, layers and feedforward 1 or more")
        if self.vectors < 0:
            raise ConfigError(f"text.vectors={self.vectors}: 0 or more channels are wanted")
        if self.heads < 1 or self.width % self.heads:
            raise ConfigError(f"text.heads={self.heads} does not divide text.width={self.width}")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"text.dropout={self.dropout}: a probability below 1 is wanted")


class WordTransformer(nn.Module):
    """Word embeddings plus learnt positions through a transformer in which padding is never looked at."""

    given: Tensor | None

    def __init__(self, config: WordTransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.width = config.width + config.classes
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
        if config.classes:
            self.shares = nn.Embedding(config.vocabulary_size, config.classes)
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
        """One vector a word (B L C); the sentence is their mean, and of the classes' shares their sum. L must not
        exceed `config.max_words`."""
        words = self.embed(tokens)
        for layer in self.layers:
            words = layer(words, tokens.mask[:, None])
        words = self.norm(words)
        sentence = mean_word(words, tokens.mask)
        if self.shares is not None:
            shares = self.shares(tokens.ids) * self.counts(words).sigmoid() * tokens.mask[..., None]
            words, sentence = torch.cat([words, shares], dim=-1), torch.cat([sentence, shares.sum(dim=1)], dim=-1)
        return TextFeatures(words, sentence, tokens.mask)


def mean_word(words: Float[Tensor, "B L C"], mask: torch.Tensor) -> Float[Tensor, "B C"]:
    """The mean over the real words of each sentence (`mask` "B L" bool)."""
    weights = mask.to(words.dtype)[..., None]
    return (words * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
