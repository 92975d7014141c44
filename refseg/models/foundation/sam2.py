"""SAM 2 and 2.1: masks of boxes (Ravi et al., SAM 2: Segment Anything in Images and Videos, 2024).

A box gives one mask (`multimask_output=False`), as in the published pipelines of grounded detectors. A repository's
`sam2_video` configuration is of the same image network with a memory, which is left out.
"""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from refseg.models.foundation.base import Pixels

__all__ = ["Sam2Masks"]


class Sam2Masks(nn.Module):
    """transformers' `Sam2Model` prompted with boxes."""

    def __init__(self, network: nn.Module, processor: Any) -> None:
        """`processor` makes `pixel_values` of pictures, stretched to a square."""
        super().__init__()
        self.network: Any = network
        self._processor = processor
        config: Any = network.config
        self.side = int(config.prompt_encoder_config.image_size)

    def embed(self, picture: Pixels) -> list[Tensor]:
        """The image's embeddings at three scales."""
        values = self._processor(images=[picture])["pixel_values"]
        return self.network.get_image_embeddings(values.to(next(self.network.parameters()).device))

    def masks_of(self, embedding: list[Tensor], boxes: Float[Tensor, "K 4"]) -> Float[Tensor, "K h w"]:
        """Mask logits that cover the picture, of boxes x0 y0 x1 y1, 0 to 1."""
        prompts = boxes.float().clamp(0, 1)[None] * self.side
        output = self.network(image_embeddings=embedding, input_boxes=prompts, multimask_output=False)
        return output.pred_masks[0, :, 0].float()
