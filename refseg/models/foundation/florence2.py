"""Florence-2: outlines of what an expression means, in location tokens (Xiao et al., CVPR 2024).

The task is <REFERRING_EXPRESSION_SEGMENTATION>: "Locate ... in the image with mask".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from refseg.models.foundation.base import Pixels
from refseg.models.foundation.writing import Outlined, Writer, read_polygons

__all__ = ["Florence2"]


class Florence2(Writer[Tensor]):
    """transformers' `Florence2ForConditionalGeneration`; masks are its own outlines."""

    boxes_alone = False

    def encode(self, pictures: Sequence[Pixels]) -> list[Tensor]:
        """The image tokens (T, C) of each picture."""
        return list(self.network.get_image_features(self._pixels(pictures)["pixel_values"]).pooler_output)

    def inputs(self, features: Tensor, text: str) -> dict[str, Any]:
        """The encoder's output: image tokens, then the prompt between the two marks."""
        tokenizer = self._tokenizer
        prompt = f"{tokenizer.bos_token}{text}{tokenizer.eos_token}"
        words = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")["input_ids"].to(self.device)
        embedded = self.network.get_input_embeddings()(words)
        embedded = torch.cat([features[None].to(embedded.dtype), embedded], dim=1)
        mask = torch.ones(embedded.shape[:2], dtype=torch.long, device=self.device)
        encoder = self.network.model.language_model.encoder
        return {"encoder_outputs": encoder(inputs_embeds=embedded, attention_mask=mask), "attention_mask": mask}

    def things(self, written: str, features: Tensor, picture: Pixels) -> list[Outlined]:
        """Outlines; see `read_polygons`."""
        return read_polygons(written)
