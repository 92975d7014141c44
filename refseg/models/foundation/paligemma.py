"""PaliGemma and PaliGemma 2: boxes in location tokens (Beyer et al., 2024; Steiner et al., 2024).

Asked "detect ...". The published models also write 16 codewords of a mask ("segment ..."), whose decoder is a network
of its own that is neither in transformers nor in the models' repositories; here masks come from a segmenter (+SAM 2).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from refseg.models.foundation.base import Pixels
from refseg.models.foundation.writing import Writer, read_locations

__all__ = ["PaliGemma"]


class PaliGemma(Writer[Tensor]):
    """transformers' `PaliGemmaForConditionalGeneration`."""

    def encode(self, pictures: Sequence[Pixels]) -> list[Tensor]:
        """The image tokens (T, C) of each picture."""
        return list(self.network.get_image_features(self._pixels(pictures)["pixel_values"]).pooler_output)

    def inputs(self, features: Tensor, text: str) -> dict[str, Any]:
        """Image tokens, then the prompt and a line break, all of which see each other."""
        from transformers.modeling_outputs import BaseModelOutputWithPooling

        tokenizer = self._tokenizer
        prompt = tokenizer(f"{tokenizer.bos_token}{text}\n", add_special_tokens=False)["input_ids"]
        image = self.network.config.image_token_id
        ids = torch.tensor([[image] * len(features) + prompt], device=self.device)
        return {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "token_type_ids": torch.zeros_like(ids),
            "mm_encoder_outputs": {"image": BaseModelOutputWithPooling(pooler_output=features[None])},
        }

    def things(self, written: str, features: Tensor, picture: Pixels) -> Float[Tensor, "K 4"]:
        """Boxes; see `read_locations`."""
        return torch.tensor(read_locations(written)).reshape(-1, 4)
