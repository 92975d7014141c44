"""BERT (Devlin et al., NAACL 2019) and RoBERTa (Liu et al., 2019) as text encoders, built from sizes; weights are
loaded in a step of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor, nn

from refseg.config import Config, DropRate, PositiveInt, WordCount
from refseg.errors import CheckpointError, ConfigError
from refseg.types import TextFeatures, Tokens

__all__ = ["Bert", "BertTextConfig", "from_transformers"]


@dataclass(frozen=True)
class BertTextConfig(Config):
    """Sizes of a BERT; the defaults are bert-base-uncased with sentences of 20 word pieces, as ReLA uses it."""

    vocabulary_size: PositiveInt = 30522
    max_words: WordCount = 20
    """Word pieces kept of a sentence, [CLS] and [SEP] among them."""
    width: PositiveInt = 768
    layers: PositiveInt = 12
    heads: PositiveInt = 12
    feedforward: PositiveInt = 3072
    """Hidden units of the feed-forward networks."""
    positions: PositiveInt = 512
    """Rows of the table of positions."""
    dropout: DropRate = 0.1
    """Of hidden states and attention, while training."""
    pooler: bool = False
    """The sentence is tanh(W [CLS] + b), with the layer that BERT was trained with, instead of [CLS] itself."""
    family: Literal["bert", "roberta"] = "bert"
    """roberta: one kind of segment, and positions that begin behind two unused rows."""

    def check(self) -> None:
        """Raises `ConfigError` for heads that do not divide the width, and too few positions."""
        if self.width % self.heads:
            raise ConfigError(f"heads={self.heads} does not divide width={self.width}")
        usable = self.positions - (2 if self.family == "roberta" else 0)
        if self.max_words > usable:
            raise ConfigError(f"max_words={self.max_words} is more than the {usable} usable positions")


class Bert(nn.Module):
    """The encoder of BERT; a sentence's vector is that of its first piece, [CLS], or with `pooler` what BERT makes of
    it."""

    def __init__(self, config: BertTextConfig) -> None:
        super().__init__()
        from transformers import BertConfig, BertModel, RobertaConfig, RobertaModel

        self.config = config
        self.width = config.width
        sizes: dict[str, Any] = {
            "vocab_size": config.vocabulary_size,
            "hidden_size": config.width,
            "num_hidden_layers": config.layers,
            "num_attention_heads": config.heads,
            "intermediate_size": config.feedforward,
            "max_position_embeddings": config.positions,
            "hidden_dropout_prob": config.dropout,
            "attention_probs_dropout_prob": config.dropout,
        }
        self.bert: nn.Module
        if config.family == "roberta":
            settings = RobertaConfig(**sizes, type_vocab_size=1, layer_norm_eps=1e-5)
            self.bert = RobertaModel(settings, add_pooling_layer=config.pooler)
        else:
            self.bert = BertModel(BertConfig(**sizes), add_pooling_layer=config.pooler)

    def embed(self, tokens: Tokens) -> Float[Tensor, "B L C"]:
        """Pieces, positions and segments, normalised, before any piece has seen another one."""
        return self.bert.embeddings(input_ids=tokens.ids)  # type: ignore[operator]

    def forward(self, tokens: Tokens) -> TextFeatures:
        """The last layer's vectors (B L C). Padding is never attended to, but its own slots hold vectors too."""
        output = self.bert(input_ids=tokens.ids, attention_mask=tokens.mask.long())
        words: Tensor = output.last_hidden_state
        return TextFeatures(words, output.pooler_output if self.config.pooler else words[:, 0], tokens.mask)


def from_transformers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a BERT file (`BertModel`, `BertForMaskedLM`, ...) under the names of `Bert`.

    Prediction heads and index buffers are left out; the old names gamma and beta are understood, and RoBERTa's. Raises
    `CheckpointError` with the names that are none of a BERT's.
    """
    renamed, unknown = {}, []
    for original, value in state.items():
        name = original.removeprefix("bert.").removeprefix("roberta.")
        if name.startswith(("cls.", "lm_head.", "classifier.", "qa_outputs.")) or name.endswith(".position_ids"):
            continue
        if not name.startswith(("embeddings.", "encoder.layer.", "pooler.")):
            unknown.append(original)
            continue
        for old, new in ((".gamma", ".weight"), (".beta", ".bias")):
            name = name.removesuffix(old) + new if name.endswith(old) else name
        renamed[f"bert.{name}"] = value
    if unknown:
        raise CheckpointError(f"not a BERT; unexplained: {', '.join(unknown[:20])}")
    return renamed
