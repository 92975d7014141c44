"""SAM, SAM 2 and 2.1: masks of boxes (Kirillov et al., Segment Anything, ICCV 2023; Ravi et al., SAM 2: Segment
Anything in Images and Videos, 2024).

A box gives one mask (`multimask_output=False`), as in the published pipelines of grounded detectors. A repository's
`sam2_video` configuration is of the same image network with a memory, which is left out.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from refseg.models.foundation.base import Pixels, Processor, device_of

__all__ = ["Sam2Masks", "SamMasks"]


class Sam2Masks(nn.Module):
    """transformers' `Sam2Model` prompted with boxes."""

    def __init__(self, network: nn.Module, processor: Processor) -> None:
        """`processor` makes `pixel_values` of pictures, stretched to a square."""
        super().__init__()
        self.network: Any = network
        self._processor = processor
        config: Any = network.config
        self.side = int(config.prompt_encoder_config.image_size)

    def embed(self, picture: Pixels) -> list[Tensor]:
        """The image's embeddings at three scales."""
        values = self._processor(images=[picture])["pixel_values"]
        return self.network.get_image_embeddings(values.to(device_of(self.network)))

    def masks_of(self, embedding: list[Tensor], boxes: Float[Tensor, "K 4"]) -> Float[Tensor, "K h w"]:
        """Mask logits that cover the picture, of boxes x0 y0 x1 y1, 0 to 1."""
        prompts = boxes.float().clamp(0, 1)[None].to(device_of(self.network)) * self.side
        output = self.network(image_embeddings=embedding, input_boxes=prompts, multimask_output=False)
        return output.pred_masks[0, :, 0].float()


class SamMasks(nn.Module):
    """transformers' `SamModel` prompted with boxes; its processor pads the picture at the right and the bottom."""

    def __init__(self, network: nn.Module, processor: Processor) -> None:
        """`processor` makes `pixel_values` and `reshaped_input_sizes` of pictures."""
        super().__init__()
        self.network: Any = network
        self._processor = processor

    def embed(self, picture: Pixels) -> tuple[Tensor, tuple[int, int]]:
        """The image's embedding, and the height and width of the picture in the input."""
        made = self._processor(images=[picture], return_tensors="pt")
        values = made["pixel_values"].to(device_of(self.network))
        height, width = made["reshaped_input_sizes"][0].tolist()
        return self.network.get_image_embeddings(values), (height, width)

    def masks_of(
        self, embedding: tuple[Tensor, tuple[int, int]], boxes: Float[Tensor, "K 4"]
    ) -> Float[Tensor, "K h w"]:
        """Mask logits that cover the picture, of boxes x0 y0 x1 y1, 0 to 1."""
        image, (height, width) = embedding
        scale = boxes.new_tensor([width, height, width, height], dtype=torch.float32)
        prompts = (boxes.float().clamp(0, 1) * scale)[None].to(image.device)
        output = self.network(image_embeddings=image, input_boxes=prompts, multimask_output=False)
        side = self.network.config.vision_config.image_size
        logits = F.interpolate(output.pred_masks[0].float(), size=(side, side), mode="bilinear", align_corners=False)
        return logits[:, 0, :height, :width]
