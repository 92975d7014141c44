"""Text towers of CLIP (Radford et al., ICML 2021) and SigLIP (Zhai et al., ICCV 2023) as text encoders, built by
transformers from their sizes. They read their own tokenizers' pieces: `data.tokenizer` is a folder or a hub id."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from refseg.config import Config, PositiveInt, WordCount
from refseg.encoders.vision.towers import tower_names
from refseg.errors import CheckpointError, ConfigError
from refseg.types import TextFeatures, Tokens

__all__ = ["TextTower", "TextTowerConfig", "from_transformers"]

SIGLIP_PADDING = 1
"""The piece with which SigLIP's sentences are filled up; it was trained to read it."""


@dataclass(frozen=True)
class TextTowerConfig(Config):
    """Sizes of a text tower; the defaults are those of OpenAI's CLIP ViT-B/16 and B/32."""

    family: Literal["clip", "siglip"] = "clip"
    vocabulary_size: PositiveInt = 49408
    """32000 for SigLIP."""
    max_words: WordCount = 32
    """Pieces kept of a sentence, those that begin and end it among them. SigLIP was trained with 64, filled up."""
    width: PositiveInt = 512
    layers: PositiveInt = 12
    heads: PositiveInt = 8
    feedforward: PositiveInt = 2048
    """Hidden units of the MLPs."""
    positions: PositiveInt = 77
    """Rows of the table of positions; 64 for SigLIP."""
    activation: Literal["gelu", "quick_gelu", "gelu_pytorch_tanh"] = "quick_gelu"
    """Of the MLPs; gelu_pytorch_tanh in SigLIP."""
    freeze: bool = True
    """The tower keeps its weights."""

    def check(self) -> None:
        """Raises `ConfigError` for heads that do not divide the width, and too few positions."""
        if self.width % self.heads:
            raise ConfigError(f"heads={self.heads} does not divide width={self.width}")
        if self.max_words > self.positions:
            raise ConfigError(f"max_words={self.max_words} is more than the {self.positions} positions")


class TextTower(nn.Module):
    """The tower; a sentence's vector is that of its last piece, which in CLIP has seen all others."""

    def __init__(self, config: TextTowerConfig) -> None:
        super().__init__()
        import transformers

        self.config = config
        self.width = config.width
        sizes: dict[str, Any] = {
            "vocab_size": config.vocabulary_size,
            "hidden_size": config.width,
            "num_hidden_layers": config.layers,
            "num_attention_heads": config.heads,
            "intermediate_size": config.feedforward,
            "max_position_embeddings": config.positions,
            "hidden_act": config.activation,
        }
        self.network: Any
        if config.family == "clip":
            self.network = transformers.CLIPTextModel(transformers.CLIPTextConfig(**sizes))
        else:
            self.network = transformers.SiglipTextModel(transformers.SiglipTextConfig(**sizes))
        if config.freeze:
            self.network.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> TextTower:
        """Training mode; a frozen tower stays as it is."""
        super().train(mode)
        if self.config.freeze:
            self.network.eval()
        return self

    def forward(self, tokens: Tokens) -> TextFeatures:
        """The last layer's vectors (B L C). CLIP's pieces see those before them, SigLIP's all, filling too."""
        ids = tokens.ids
        if self.config.family == "siglip":
            ids = ids.masked_fill(~tokens.mask, SIGLIP_PADDING)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.config.freeze):
            words: Tensor = self.network(input_ids=ids).last_hidden_state
        last = tokens.mask.sum(1).clamp(min=1) - 1
        return TextFeatures(words, words[torch.arange(len(words), device=words.device), last], tokens.mask)


def from_transformers(state: dict[str, Tensor], encoder: TextTower) -> dict[str, Tensor]:
    """A file of transformers (a text tower, or both towers) under the names of `TextTower`.

    Picture towers, projections and buffers are left out. Raises `CheckpointError` with names that are none of it.
    """
    spare = ("vision_model.", "logit_", "visual_projection.", "text_projection.")
    renamed, unknown = tower_names(state, set(encoder.network.state_dict()), "text_model.", spare)
    if unknown:
        raise CheckpointError(f"not a text tower of {encoder.config.family}; unexplained: {', '.join(unknown[:20])}")
    return renamed
