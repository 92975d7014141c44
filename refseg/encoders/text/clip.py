"""CLIP's text tower with the projection into its joint space, as a text encoder to be trained further.

pieces -> tower, each piece sees those before it -> LN -> words (B L C)
                                              last piece -> W -> sentence (B D), in the space of CLIP's pictures
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from refseg.config import PositiveInt, WordCount
from refseg.encoders.text import towers
from refseg.encoders.text.towers import TextTower, TextTowerConfig
from refseg.errors import CheckpointError, ConfigError
from refseg.types import TextFeatures, Tokens

__all__ = ["ClipText", "ClipTextConfig", "from_openai"]


@dataclass(frozen=True)
class ClipTextConfig(TextTowerConfig):
    """Sizes of the encoder; the defaults are the text tower of CLIP's RN50, with sentences of 17 pieces as in CRIS."""

    max_words: WordCount = 17
    """Pieces kept of a sentence, those that begin and end it among them."""
    freeze: bool = False
    """The tower keeps its weights; the projection learns all the same."""
    joint_width: PositiveInt = 1024
    """Channels of the sentence's vector: 512 in RN101."""

    def check(self) -> None:
        """Raises `ConfigError` as the tower does, and for another family."""
        super().check()
        if self.family != "clip":
            raise ConfigError(f"family={self.family!r}: only CLIP's tower has this projection")


class ClipText(TextTower):
    """The encoder; `width` is that of its words, `joint_width` that of its sentences."""

    config: ClipTextConfig

    def __init__(self, config: ClipTextConfig) -> None:
        super().__init__(config)
        self.joint_width = config.joint_width
        self.end = config.vocabulary_size - 1
        self.project = nn.Linear(config.width, config.joint_width, bias=False)
        nn.init.normal_(self.project.weight, std=config.width**-0.5)

    def forward(self, tokens: Tokens) -> TextFeatures:
        """Words (B L C) and sentences (B D). The last piece of a sentence that was cut is read as the one that ends
        sentences, the last of CLIP's vocabulary: its place is where CLIP looks for the sentence."""
        ids = tokens.ids.clone()
        ids[:, -1] = torch.where(tokens.mask.all(dim=1), self.end, ids[:, -1])
        text = super().forward(Tokens(ids, tokens.mask))
        return TextFeatures(text.words, self.project(text.sentence), text.mask)


_LAYER = {
    "ln_1.weight": "layer_norm1.weight",
    "ln_1.bias": "layer_norm1.bias",
    "ln_2.weight": "layer_norm2.weight",
    "ln_2.bias": "layer_norm2.bias",
    "attn.out_proj.weight": "self_attn.out_proj.weight",
    "attn.out_proj.bias": "self_attn.out_proj.bias",
    "mlp.c_fc.weight": "mlp.fc1.weight",
    "mlp.c_fc.bias": "mlp.fc1.bias",
    "mlp.c_proj.weight": "mlp.fc2.weight",
    "mlp.c_proj.bias": "mlp.fc2.bias",
}
_WHOLE = {
    "token_embedding.weight": "embeddings.token_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_final.weight": "final_layer_norm.weight",
    "ln_final.bias": "final_layer_norm.bias",
}
_SPARE = ("visual.", "logit_scale", "input_resolution", "context_length", "vocab_size", "attn_mask")


def from_openai(state: Mapping[str, Tensor], encoder: ClipText) -> dict[str, Tensor]:
    """Weights under the names of OpenAI's CLIP, which open_clip keeps (`transformer.resblocks.0.ln_1.weight`, ...), or
    under those of transformers, under ours.

    The picture's part, the logit's scale and buffers are left out; packed projections are taken apart. Raises
    `CheckpointError` with the names that are none of CLIP's.
    """
    if any(name.startswith("text_model.") for name in state):
        renamed = towers.from_transformers(dict(state), encoder)
        if "text_projection.weight" in state:
            renamed["project.weight"] = state["text_projection.weight"]
        return renamed
    renamed, unknown = {}, []
    for original, value in state.items():
        value = value.float()
        stem, _, rest = original.removeprefix("transformer.resblocks.").partition(".")
        layer = f"network.encoder.layers.{stem}"
        if original in _WHOLE:
            renamed[f"network.{_WHOLE[original]}"] = value
        elif original == "text_projection":
            renamed["project.weight"] = value.t()
        elif original.startswith("transformer.resblocks.") and rest in _LAYER:
            renamed[f"{layer}.{_LAYER[rest]}"] = value
        elif rest in ("attn.in_proj_weight", "attn.in_proj_bias"):
            for part, piece in zip("qkv", value.chunk(3), strict=True):
                renamed[f"{layer}.self_attn.{part}_proj.{rest.removeprefix('attn.in_proj_')}"] = piece
        elif not original.startswith(_SPARE):
            unknown.append(original)
    if unknown or not renamed:
        raise CheckpointError(
            "not a text tower of CLIP under OpenAI's names (transformer.resblocks.0.ln_1.weight, ...)"
            + (f"; unexplained: {', '.join(unknown[:20])}" if unknown else "")
        )
    prefix = next(name for name in encoder.network.state_dict() if name.endswith("token_embedding.weight"))
    tower = prefix.removesuffix("embeddings.token_embedding.weight")
    return {name.replace("network.", f"network.{tower}", 1): value for name, value in renamed.items()}
