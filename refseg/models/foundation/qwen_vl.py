"""Qwen-VL: boxes in text (Qwen2-VL, 2024; Qwen2.5-VL, 2025; Qwen3-VL, 2025). Masks come from a segmenter (+SAM 2).

Qwen2.5-VL writes pixels of the picture as it sees it, Qwen2-VL and Qwen3-VL write thousandths of the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from refseg.models.foundation.base import Pixels
from refseg.models.foundation.writing import Writer, read_pixel_boxes

__all__ = ["QwenVL"]

SYSTEM = "You are a helpful assistant."


@dataclass(frozen=True)
class Seen:
    """One picture as the network sees it: `made` is the image encoder's output, `grid` (1, 3) its patches in time,
    down and across."""

    made: object
    grid: Int[Tensor, "1 3"]


class QwenVL(Writer[Seen]):
    """transformers' `Qwen2VL...`, `Qwen2_5_VL...` and `Qwen3VLForConditionalGeneration`."""

    def encode(self, pictures: Sequence[Pixels]) -> list[Seen]:
        """One by one, as the number of patches hangs on a picture's shape."""
        states = []
        for picture in pictures:
            inputs = self._pixels([picture])
            grid = inputs["image_grid_thw"]
            states.append(Seen(self.network.model.get_image_features(inputs["pixel_values"], grid), grid))
        return states

    def inputs(self, features: Seen, text: str) -> dict[str, Any]:
        """A conversation of one question, in the family's format."""
        merged = self.network.config.vision_config.spatial_merge_size**2
        image = "<|image_pad|>" * (int(features.grid.prod()) // merged)
        prompt = (
            f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n<|vision_start|>{image}<|vision_end|>{text}"
            "<|im_end|>\n<|im_start|>assistant\n"
        )
        ids = self._tokenizer(prompt, add_special_tokens=False, return_tensors="pt")["input_ids"].to(self.device)
        return {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "image_grid_thw": features.grid,
            "mm_token_type_ids": (ids == self._number_of("<|image_pad|>")).int(),
            "mm_encoder_outputs": {"image": features.made},
        }

    def things(self, written: str, features: Seen, picture: Pixels) -> Float[Tensor, "K 4"]:
        """Boxes; see `read_pixel_boxes`."""
        size = (1000.0, 1000.0)
        if self.config.family == "qwen2_5_vl":
            patch = self.network.config.vision_config.patch_size
            size = (float(features.grid[0, 1] * patch), float(features.grid[0, 2] * patch))
        return torch.tensor(read_pixel_boxes(written, size)).reshape(-1, 4)
