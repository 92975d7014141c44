"""Towers of foundation models as picture encoders: CLIP, SigLIP, DINOv2, DINOv3, built from sizes by transformers.

    images (B 3 H W) -> scaled so that a patch covers 16 pixels -> tower -> patches as one map (B C H/16 W/16)
        -> transposed convolutions and pooling: {4: C/4, 8: C/2, 16: C, 32: C}

The four maps of one are those of a simple feature pyramid (Li et al., ViTDet, ECCV 2022, section 3). Towers are frozen
unless the configuration says otherwise: Radford et al., CLIP, ICML 2021; Zhai et al., SigLIP, ICCV 2023; Oquab et al.,
DINOv2, 2023; Simeoni et al., DINOv3, 2025. Pictures are normalised by `input.mean` and `input.std` of the model's
configuration: ImageNet's for DINO, 127.5 for SigLIP, (122.77, 116.75, 104.09) and (68.50, 66.63, 70.32) for CLIP.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from refseg.config import Config, NonNegativeInt, PositiveInt
from refseg.errors import CheckpointError, ConfigError
from refseg.types import VisualFeatures

__all__ = ["VisionTower", "VisionTowerConfig", "from_transformers", "tower_names"]

STRIDE = 16


@dataclass(frozen=True)
class VisionTowerConfig(Config):
    """Sizes of a tower; the defaults are DINOv3 ViT-B/16 (facebook/dinov3-vitb16-pretrain-lvd1689m)."""

    family: Literal["clip", "siglip", "dinov2", "dinov3"] = "dinov3"
    patch: PositiveInt = 16
    """Side of a patch in pixels of the tower's input; 14 for DINOv2 and CLIP ViT-L/14."""
    width: PositiveInt = 768
    """C: channels of a token."""
    layers: PositiveInt = 12
    heads: PositiveInt = 12
    feedforward: PositiveInt = 3072
    """Hidden units of the MLPs."""
    grid: PositiveInt = 14
    """Rows and columns of the table of positions: 37 for DINOv2, input size / patch for others; DINOv3 has none."""
    registers: NonNegativeInt = 4
    """Tokens of DINOv3 that belong to no patch."""
    activation: Literal["gelu", "quick_gelu", "gelu_pytorch_tanh"] = "gelu"
    """Of the MLPs: quick_gelu in OpenAI's CLIP, gelu_pytorch_tanh in SigLIP."""
    freeze: bool = True
    """The tower keeps its weights and its dropout is off; the pyramid learns. It costs no memory for gradients."""

    def check(self) -> None:
        """Raises `ConfigError` for heads that do not divide the width, and widths that no pyramid can halve twice."""
        if self.width % self.heads:
            raise ConfigError(f"heads={self.heads} does not divide width={self.width}")
        if self.width % 4:
            raise ConfigError(f"width={self.width}: a multiple of 4 is wanted")


class VisionTower(nn.Module):
    """The tower and its pyramid."""

    def __init__(self, config: VisionTowerConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.channels: dict[int, int] = {4: width // 4, 8: width // 2, 16: width, 32: width}
        self.network: Any = _network(config)
        self.pyramid = nn.ModuleDict(
            {
                "8": nn.ConvTranspose2d(width, width // 2, 2, stride=2),
                "4": nn.Sequential(
                    nn.ConvTranspose2d(width, width // 2, 2, stride=2),
                    nn.GroupNorm(1, width // 2),
                    nn.GELU(),
                    nn.ConvTranspose2d(width // 2, width // 4, 2, stride=2),
                ),
            }
        )
        if config.freeze:
            self.network.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> VisionTower:
        """Training mode for the pyramid; a frozen tower stays as it is."""
        super().train(mode)
        if self.config.freeze:
            self.network.eval()
        return self

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> VisualFeatures:
        """Maps at strides 4, 8, 16 and 32; sides that 32 does not divide are padded with zeros."""
        images = F.pad(images, (0, -images.shape[3] % 32, 0, -images.shape[2] % 32))
        rows, columns = images.shape[2] // STRIDE, images.shape[3] // STRIDE
        patch = self.config.patch
        if patch != STRIDE:
            size = (rows * patch, columns * patch)
            images = F.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=True)
        more = {"interpolate_pos_encoding": True} if self.config.family in ("clip", "siglip") else {}
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.config.freeze):
            tokens: Tensor = self.network(pixel_values=images, **more).last_hidden_state
        tokens = tokens[:, tokens.shape[1] - rows * columns :]
        coarse = tokens.transpose(1, 2).unflatten(2, (rows, columns))
        return {
            4: self.pyramid["4"](coarse),
            8: self.pyramid["8"](coarse),
            16: coarse,
            32: F.max_pool2d(coarse, 2),
        }


def _network(config: VisionTowerConfig) -> nn.Module:
    import transformers

    sizes: dict[str, Any] = {
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "image_size": config.grid * config.patch,
        "patch_size": config.patch,
        "hidden_act": config.activation,
    }
    if config.family == "clip":
        sizes["intermediate_size"] = config.feedforward
        return transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**sizes))
    if config.family == "siglip":
        sizes |= {"intermediate_size": config.feedforward, "vision_use_head": False}
        return transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**sizes))
    if config.family == "dinov2":
        sizes["mlp_ratio"] = config.feedforward // config.width
        return transformers.Dinov2Model(transformers.Dinov2Config(**sizes))
    sizes |= {"intermediate_size": config.feedforward, "num_register_tokens": config.registers}
    return transformers.DINOv3ViTModel(transformers.DINOv3ViTConfig(**sizes))


def from_transformers(state: dict[str, Tensor], encoder: VisionTower) -> dict[str, Tensor]:
    """A file of transformers (a tower alone, or CLIP and SigLIP with both) under the names of `VisionTower`.

    Text towers, projections, heads and buffers are left out. Raises `CheckpointError` with names that are none of the
    family's.
    """
    renamed, unknown = tower_names(state, set(encoder.network.state_dict()), "vision_model.", _SPARE)
    if unknown:
        raise CheckpointError(f"not a picture tower of {encoder.config.family}; unexplained: {', '.join(unknown[:20])}")
    return renamed


_RENAMED = (
    (".attention.attention.query.", ".attention.q_proj."),
    (".attention.attention.key.", ".attention.k_proj."),
    (".attention.attention.value.", ".attention.v_proj."),
    (".attention.output.dense.", ".attention.o_proj."),
)
"""Names of DINOv2 in files, and those of transformers 5 in memory."""
_SPARE = ("text_model.", "logit_", "visual_projection.", "text_projection.", "head.", "classifier.")


def tower_names(
    state: dict[str, Tensor], own: set[str], tower: str, spare: tuple[str, ...]
) -> tuple[dict[str, Tensor], list[str]]:
    """Tensors of a file by the names of `network`, and the names that are none of its.

    `tower` stands before a tower's names in files of both, `spare` begins the names of what has no place here. Files on
    the hub have version 4's names; where version 5 calls a part otherwise, both are known.
    """
    renamed, unknown = {}, []
    for original, value in state.items():
        name = original.removeprefix("dinov2.").removeprefix("dinov3_vit.")
        if name.startswith(spare) or name.endswith("position_ids"):
            continue
        name = name.removeprefix(tower)
        for old, new in _RENAMED:
            name = name.replace(old, new)
        candidates = (name, f"model.{name}", f"{tower}{name}", name.removeprefix("model."))
        found = next((each for each in candidates if each in own), None)
        if found is not None:
            renamed[f"network.{found}"] = value
        elif not name.startswith(spare):
            unknown.append(original)
    return renamed, unknown
