"""Word vectors through a recurrent network in both directions: the text encoder of LTS, ISFP, VLT and M3Att.

    words -> embedding (GloVe, or learnt from nothing) -> forward cell  --.-> sum or concatenation -> one vector a word
                                                       -> backward cell --'                        -> pooled: sentence

The published code of VLT and MCN has a bidirectional GRU whose directions are summed, with the cell of Keras 2, and
pools words by an attention that weighs every channel of every word on its own. LTS concatenates and takes the mean.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from refseg.config import Config, DropRate, PositiveInt, WordCount
from refseg.encoders.text.transformer import mean_word
from refseg.types import TextFeatures, Tokens

__all__ = ["KerasGRU", "RecurrentText", "RecurrentTextConfig", "reversed_words"]


@dataclass(frozen=True)
class RecurrentTextConfig(Config):
    """Sizes of the text encoder; the defaults are those of VLT's published code but for the padding."""

    vocabulary_size: Annotated[int, Ge(3)] = 10000
    """Rows of the embedding table; training sets it from the vocabulary that it learns."""
    max_words: WordCount = 15
    """Words kept of a sentence: 15 for RefCOCO and RefCOCO+, 20 for G-Ref."""
    embedding: PositiveInt = 300
    """Channels of a word's vector; 300 is GloVe's."""
    train_embedding: bool = True
    """False keeps the vectors as they are, as the papers do with GloVe's; without such a file they must be learnt."""
    cell: Literal["gru", "keras_gru", "lstm"] = "gru"
    """gru: the reset gate works on the hidden state's projection (PyTorch, cuDNN). keras_gru: on the state itself, with
    one bias, as Keras 2 computes it, which published weights need. lstm: long short-term memory (M3Att's text)."""
    hidden: PositiveInt = 1024
    """Channels of each direction."""
    directions: Literal["sum", "concat"] = "sum"
    """How the two directions become one vector a word."""
    pool: Literal["channel", "scalar", "mean", "last"] = "channel"
    """How words become the sentence. channel: a softmax over words for each channel (published code of VLT and MCN).
    scalar: one weight a word (ISFP's text). mean: of the words (LTS). last: the last state of both directions."""
    mask_padding: bool = True
    """False sends padding through the cells as zero vectors and pools over it, as the published code does."""
    dropout: DropRate = 0.1
    """Of the word vectors and, with pool channel or scalar, of the words that are weighed."""


class KerasGRU(nn.Module):
    """One direction of Keras 2's GRU (`reset_after=False`); gates are in Keras's order: update, reset, candidate.

    z, r = sigmoid(W x + U h + b); n = tanh(W x + U (r * h) + b); h' = z h + (1 - z) n
    """

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.inputs = nn.Linear(inputs, 3 * hidden)
        self.recurrent = nn.Parameter(torch.empty(3 * hidden, hidden))
        nn.init.xavier_uniform_(self.inputs.weight)
        nn.init.zeros_(self.inputs.bias)
        for gate in self.recurrent.data.chunk(3):
            nn.init.orthogonal_(gate)

    def forward(self, vectors: Float[Tensor, "B L E"]) -> Float[Tensor, "B L C"]:
        """The state after every word; the first one starts from zeros."""
        projected = self.inputs(vectors)
        gates, candidate = self.recurrent[: 2 * self.hidden], self.recurrent[2 * self.hidden :]
        state = projected.new_zeros(len(vectors), self.hidden)
        states = []
        for word in projected.unbind(dim=1):
            update, reset = (word[:, : 2 * self.hidden] + F.linear(state, gates)).sigmoid().chunk(2, dim=1)
            new = (word[:, 2 * self.hidden :] + F.linear(reset * state, candidate)).tanh()
            state = update * state + (1 - update) * new
            states.append(state)
        return torch.stack(states, dim=1)


class RecurrentText(nn.Module):
    """The encoder; `width` is that of the vectors it gives. `words` is the table that GloVe's vectors are put into."""

    def __init__(self, config: RecurrentTextConfig) -> None:
        super().__init__()
        self.config = config
        self.width = config.hidden * (2 if config.directions == "concat" else 1)
        self.words = nn.Embedding(config.vocabulary_size, config.embedding, padding_idx=0)
        # GloVe's coordinates spread about as much.
        nn.init.normal_(self.words.weight, std=0.4)
        with torch.no_grad():
            self.words.weight[0] = 0.0
        self.words.weight.requires_grad_(config.train_embedding)
        self.forward_cell = _cell(config)
        self.backward_cell = _cell(config)
        scores = {"channel": self.width, "scalar": 1}.get(config.pool)
        self.attention = None if scores is None else nn.Linear(self.width, scores)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, tokens: Tokens) -> TextFeatures:
        """One vector a word (B L C), and one a sentence; L must not exceed `config.max_words`.

        With `mask_padding` words of padding change nothing and their vectors are zeros.
        """
        return self.encode(self.words(tokens.ids) * tokens.mask[..., None].to(self.words.weight.dtype), tokens.mask)

    def encode(self, vectors: Float[Tensor, "B L E"], mask: Bool[Tensor, "B L"]) -> TextFeatures:
        """The same from word vectors; words (`mask` True) may stand before padding or behind it."""
        vectors = self.dropout(vectors)
        if not self.config.mask_padding:
            ahead, back = self._run(self.forward_cell, vectors), self._run(self.backward_cell, vectors.flip(1)).flip(1)
            words = ahead + back if self.config.directions == "sum" else torch.cat([ahead, back], dim=-1)
            return TextFeatures(words, self._sentence(words, ahead[:, -1], back[:, 0], torch.ones_like(mask)), mask)
        # Words first, so that no cell has seen padding when it reaches a word; each direction has its own order.
        first = (~mask).long().argsort(dim=1, stable=True)
        turned = reversed_words(mask)
        ahead = _gather(self._run(self.forward_cell, _gather(vectors, first)), first.argsort(dim=1))
        back = _gather(self._run(self.backward_cell, _gather(vectors, turned)), turned.argsort(dim=1))
        real = mask[..., None].to(ahead.dtype)
        ahead, back = ahead * real, back * real
        words = ahead + back if self.config.directions == "sum" else torch.cat([ahead, back], dim=-1)
        count = mask.sum(dim=1).clamp(min=1) - 1
        rows = torch.arange(len(mask), device=mask.device)
        final_ahead = ahead[rows, first[rows, count]]
        final_back = back[rows, first[:, 0]]
        return TextFeatures(words, self._sentence(words, final_ahead, final_back, mask), mask)

    def _run(self, cell: nn.Module, vectors: Float[Tensor, "B L E"]) -> Float[Tensor, "B L C"]:
        # oneDNN has no LSTM in 16 bits on CPUs without AVX-512.
        whole = isinstance(cell, nn.LSTM) and vectors.device.type == "cpu"
        with torch.autocast("cpu", enabled=False) if whole else nullcontext():
            states = cell(vectors.float() if whole else vectors)
        return states if isinstance(states, Tensor) else states[0]

    def _sentence(
        self,
        words: Float[Tensor, "B L C"],
        ahead: Float[Tensor, "B D"],
        back: Float[Tensor, "B D"],
        mask: Bool[Tensor, "B L"],
    ) -> Float[Tensor, "B C"]:
        pool = self.config.pool
        if pool == "last":
            return ahead + back if self.config.directions == "sum" else torch.cat([ahead, back], dim=-1)
        if self.attention is None:
            return mean_word(words, mask)
        scores = self.attention(words).tanh()
        # A sentence without words has no score to choose among; equal weights then sum zero vectors.
        some = mask | ~mask.any(dim=1, keepdim=True)
        scores = scores.masked_fill(~some[..., None], -torch.inf)
        weights = self.dropout(scores.softmax(dim=1))
        return (weights * words).sum(dim=1)


def reversed_words(mask: Bool[Tensor, "B L"]) -> Int[Tensor, "B L"]:
    """The order of slots in which the real words come first, the last one at the front (`mask` True on words)."""
    length = mask.shape[1]
    places = torch.arange(length, device=mask.device)
    return torch.where(mask, length - 1 - places, length + places).argsort(dim=1)


def _cell(config: RecurrentTextConfig) -> nn.Module:
    if config.cell == "keras_gru":
        return KerasGRU(config.embedding, config.hidden)
    kind = nn.GRU if config.cell == "gru" else nn.LSTM
    return kind(config.embedding, config.hidden, batch_first=True)


def _gather(vectors: Float[Tensor, "B L C"], order: Int[Tensor, "B L"]) -> Float[Tensor, "B L C"]:
    return vectors.gather(1, order[..., None].expand_as(vectors))
