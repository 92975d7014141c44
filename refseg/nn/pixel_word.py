r"""Every pixel reads the words: the pixel-word attention of LAVT (Yang et al., CVPR 2022, section 3.2).

ReLA's published code runs it after all four stages of its Swin transformer.

    pixels x --> Wvis --GELU------------------.
       \                                        * --> Wo --GELU--> fused r --> out
        `-> IN(Wq x) -- softmax over words --> IN(Ww ...)                \
    words T --> Wk, Wv --^                                      x + tanh(gate(r)) * r --> next stage
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from refseg.types import TextFeatures, VisualFeatures

__all__ = ["AfterStage", "LanguageGate", "LanguageStages", "PixelWordAttention"]

AfterStage = Callable[[int, Tensor, tuple[int, int]], tuple[Tensor, Tensor]]
"""(stage, tokens (B, T, C), size (h, w)) -> the map that leaves the encoder, and the tokens of the next stage."""

FAR_AWAY = 1e4
"""Taken from the score of a padding word, as in the published code."""


class PixelWordAttention(nn.Module):
    """PWAM: pixels (C channels) times what they gather from the words (D channels); one head."""

    def __init__(self, channels: int, text_width: int) -> None:
        super().__init__()
        self.vision = nn.Linear(channels, channels)
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(text_width, channels)
        self.value = nn.Linear(text_width, channels)
        self.gathered = nn.Linear(channels, channels)
        self.output = nn.Linear(channels, channels)

    def forward(
        self,
        pixels: Float[Tensor, "N T C"],
        words: Float[Tensor, "B L D"],
        mask: Bool[Tensor, "B L"],
        image_index: Int[Tensor, " B"] | None = None,
    ) -> Float[Tensor, "B T C"]:
        """The fused pixels r (LAVT, equations 1 to 5); `image_index[b]` is the image that expression b reads, None
        means one to one."""
        real = mask.float()[..., None]
        queries = _chosen(_instance_norm(self.query(pixels)), image_index)
        keys = self.key(words) * real
        # A pixel's weights sum to 1, so the linear layer may come first: on a few words instead of all pixels.
        values = self.gathered(self.value(words) * real)
        # What pixels gather differs little, and the normalisation enlarges the difference: never in low precision.
        with torch.autocast(pixels.device.type, enabled=False):
            scores = queries @ keys.float().transpose(1, 2) / math.sqrt(queries.shape[-1])
            scores = scores + (FAR_AWAY * real - FAR_AWAY).transpose(1, 2)
            gathered = _instance_norm(scores.softmax(dim=-1) @ values.float())
        return F.gelu(self.output(_chosen(F.gelu(self.vision(pixels)), image_index) * gathered))


class LanguageGate(nn.Module):
    """How much of the fused pixels goes on into the next stage; nothing at the start (LAVT, section 3.3)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = nn.Linear(channels, channels, bias=False)
        self.outer = nn.Linear(channels, channels, bias=False)
        nn.init.zeros_(self.inner.weight)
        nn.init.zeros_(self.outer.weight)

    def forward(self, fused: Float[Tensor, "B T C"]) -> Float[Tensor, "B T C"]:
        """tanh(W2 relu(W1 r)) * r."""
        return torch.tanh(self.outer(F.relu(self.inner(fused)))) * fused


class LanguageStages(nn.Module):
    """The pixel-word attention of each stage, and the gates between stages; the last stage has none."""

    def __init__(self, channels: dict[int, int], text_width: int) -> None:
        super().__init__()
        widths = list(channels.values())
        self.fusions = nn.ModuleList(PixelWordAttention(width, text_width) for width in widths)
        self.gates = nn.ModuleList(LanguageGate(width) for width in widths[:-1])

    def encode(
        self,
        vision: nn.Module,
        images: Float[Tensor, "N 3 H W"],
        text: TextFeatures,
        image_index: Int[Tensor, " B"] | None,
    ) -> VisualFeatures:
        """The maps of a Swin transformer whose stages read B expressions; `image_index[b]` is the image of expression
        b. What comes before the first words is computed once an image."""
        config: Any = vision.config
        if image_index is not None and vision.training and config.drop_path:
            # Each expression's row is left out, or not, on its own.
            images, image_index = images[image_index], None
        return vision(images, self.after_stage(text, image_index))

    def after_stage(self, text: TextFeatures, image_index: Int[Tensor, " B"] | None = None) -> AfterStage:
        """What `Swin.forward` calls after each stage: the fused map goes out, the gated sum goes on. With
        `image_index` the first stage has a row an image, and the others one an expression."""

        def fuse(stage: int, pixels: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
            rows = image_index if stage == 0 else None
            fused = self.fusions[stage](pixels, text.words, text.mask, rows)
            pixels = _chosen(pixels, rows)
            return fused, pixels + self.gates[stage](fused) if stage < len(self.gates) else pixels

        return fuse


def _chosen(pixels: Float[Tensor, "N T C"], image_index: Int[Tensor, " B"] | None) -> Float[Tensor, "B T C"]:
    return pixels if image_index is None else pixels.index_select(0, image_index)


def _instance_norm(pixels: Float[Tensor, "B T C"]) -> Float[Tensor, "B T C"]:
    """Mean 0 and variance 1 over the pixels of each picture and channel (eps 1e-5), without learnt factors; float32."""
    pixels = pixels.float()
    centred = pixels - pixels.mean(dim=1, keepdim=True)
    return centred * (centred.square().mean(dim=1, keepdim=True) + 1e-5).rsqrt()
