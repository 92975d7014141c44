"""The language attention network (section 3.1): one phrase and one weight for each module.

words -> embedding (-> ReLU(linear)) = e_t -> LSTM in both directions = h_t
    a_{m,t} = softmax_t(f_m . h_t)        words of module m                    eq. (2)
    q^m     = sum_t a_{m,t} e_t           its phrase                           eq. (3)
    w       = softmax(W [h_0, h_T] + b)   weights of the modules               eq. (4)
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from refseg.models.mattnet.config import LanguageConfig
from refseg.types import TextFeatures, Tokens

__all__ = ["LanguageAttention", "PhraseFeatures"]


@dataclass(frozen=True)
class PhraseFeatures(TextFeatures):
    """Text features (words: h_t; sentence: the last state of both directions) with what each of M modules reads.

    phrases: q^m, (B, M, E). attention: a_{m,t}, (B, M, L), 0 on padding. module_weights: (B, M), rows summing to 1.
    """

    phrases: Tensor = field(default_factory=lambda: torch.empty(0, 0, 0))
    attention: Tensor = field(default_factory=lambda: torch.empty(0, 0, 0))
    module_weights: Tensor = field(default_factory=lambda: torch.empty(0, 0))

    def select(self, rows: Int[Tensor, " S"]) -> PhraseFeatures:
        """The features of the expressions with these numbers, which may repeat."""
        return PhraseFeatures(
            self.words[rows],
            self.sentence[rows],
            self.mask[rows],
            phrases=self.phrases[rows],
            attention=self.attention[rows],
            module_weights=self.module_weights[rows],
        )


class LanguageAttention(nn.Module):
    """The network; `width` is that of a phrase, `sentence_width` that of the whole expression.

    Without modules (the baseline) there are no phrases and weights.
    """

    def __init__(self, config: LanguageConfig, modules: int) -> None:
        super().__init__()
        self.config = config
        self.width = config.projection or config.embedding
        self.embedding = nn.Embedding(config.vocabulary_size, config.embedding)
        self.dropout = nn.Dropout(config.dropout)
        self.project = nn.Linear(config.embedding, config.projection) if config.projection else None
        self.lstm = nn.LSTM(self.width, config.hidden, batch_first=True, bidirectional=True)
        self.sentence_width = 2 * config.hidden
        context_width = self.sentence_width * (2 if config.module_context == "first_last" else 1)
        self.word_scores = nn.Linear(2 * config.hidden, modules) if modules else None
        self.module_scores = nn.Linear(context_width, modules) if modules else None

    def forward(self, tokens: Tokens) -> PhraseFeatures:
        """Phrases and weights of B expressions; words of padding change nothing."""
        words = self.dropout(self.embedding(tokens.ids))
        if self.project is not None:
            words = self.project(words).relu()
        outputs, final = self._run(words, tokens)
        context = final
        if self.config.module_context == "first_last":
            last = tokens.mask.sum(dim=1).clamp(min=1) - 1
            context = torch.cat([outputs[:, 0], outputs[torch.arange(len(last), device=last.device), last]], dim=1)
        phrases, attention = words.new_zeros(len(words), 0, self.width), words.new_zeros(len(words), 0, words.shape[1])
        weights = words.new_zeros(len(words), 0)
        if self.word_scores is not None and self.module_scores is not None:
            # An expression without words reads its padding.
            real = tokens.mask | ~tokens.mask.any(dim=1, keepdim=True)
            scores = self.word_scores(outputs).transpose(1, 2)
            attention = scores.masked_fill(~real[:, None], -torch.inf).softmax(dim=-1)
            phrases = attention @ words.to(attention.dtype)
            weights = self.module_scores(context).softmax(dim=-1)
        return PhraseFeatures(
            outputs * tokens.mask[..., None],
            final,
            tokens.mask,
            phrases=phrases,
            attention=attention,
            module_weights=weights,
        )

    def _run(
        self, words: Float[Tensor, "B L E"], tokens: Tokens
    ) -> tuple[Float[Tensor, "B L C"], Float[Tensor, "B C"]]:
        """The LSTM's outputs at every word, and the last state of both directions."""
        lengths = tokens.mask.sum(dim=1).clamp(min=1).cpu()
        # oneDNN has no LSTM in 16 bits on CPUs without AVX-512.
        with torch.autocast(words.device.type, enabled=False):
            packed = nn.utils.rnn.pack_padded_sequence(words.float(), lengths, batch_first=True, enforce_sorted=False)
            outputs, (states, _) = self.lstm(packed)
            padded, _ = nn.utils.rnn.pad_packed_sequence(outputs, batch_first=True, total_length=words.shape[1])
        return padded, torch.cat([states[0], states[1]], dim=1)
