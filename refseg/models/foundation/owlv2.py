"""OWLv2: boxes of an open vocabulary (Minderer, Gritsenko, Houlsby, Scaling Open-Vocabulary Object Detection, 2023).

Picture and text are encoded apart: a further expression costs a product. The picture is padded at the right and the
bottom to a square, of which boxes are shares. Nothing is suppressed, as in transformers' post-processing.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from refseg.models.foundation.base import Encoded, ExpressionTexts, Found, FoundationModel, Pixels
from refseg.nn.boxes import corners

__all__ = ["Owlv2"]


class Owlv2(FoundationModel):
    """transformers' `Owlv2ForObjectDetection`."""

    boxes_alone = True

    def encode(self, pictures: Sequence[Pixels]) -> tuple[Float[Tensor, "N P C"], Float[Tensor, "N P 4"]]:
        """Features of N pictures' patches, and the box of each, x0 y0 x1 y1, 0 to 1 of the picture."""
        maps, _ = self.network.image_embedder(self._pixels(pictures)["pixel_values"])
        patches = maps.flatten(1, 2)
        boxes = corners(self.network.box_predictor(patches, maps).float())
        sizes = boxes.new_tensor([[picture.shape[1], picture.shape[0]] * 2 for picture in pictures])
        return patches, boxes * sizes.amax(1)[:, None, None] / sizes[:, None]

    def read(self, texts: Sequence[str]) -> ExpressionTexts:
        """One vector an expression."""
        prompts = [self.config.prompt.format(text) for text in texts]
        length = self.network.config.text_config.max_position_embeddings
        tokens = self._tokenizer(
            prompts, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        ).to(self.device)
        made = self.network.owlv2.get_text_features(tokens["input_ids"], tokens["attention_mask"]).pooler_output
        made = made / made.norm(dim=-1, keepdim=True)
        return self._texts(texts, made[:, None], made, torch.ones_like(made[:, :1], dtype=torch.bool), length)

    def find(self, state: Encoded, text: ExpressionTexts, index: Sequence[int]) -> list[Found]:
        """All patches for each expression."""
        patches, boxes = state.features
        found = []
        for number, query in zip(index, text.sentence, strict=True):
            logits, _ = self.network.class_predictor(patches[number][None], query[None, None])
            found.append(Found(boxes[number], logits[0, :, 0].float().sigmoid()))
        return found
