"""SAM 3: all instances of a concept (Carion et al., SAM 3: Segment Anything with Concepts, 2025).

An instance's score is the product of its query's probability and that of the concept's presence; both are in the
no-target rule. The network reads noun phrases: places and relations mean little to it (`instances` over its proposals
reads those).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from refseg.models.foundation.base import Encoded, ExpressionTexts, Found, FoundationModel, Pixels

__all__ = ["Sam3"]

LENGTH = 32
"""Tokens of a text, as transformers' processor pads it."""


class Sam3(FoundationModel):
    """transformers' `Sam3Model`; pictures are placed by `placing.Warp`, as its processor needs torchvision."""

    def encode(self, pictures: Sequence[Pixels]) -> object:
        """Feature pyramid and positions of N pictures."""
        return self.network.get_vision_features(self._pixels(pictures)["pixel_values"])

    def read(self, texts: Sequence[str]) -> ExpressionTexts:
        """One vector a token."""
        prompts = [self.config.prompt.format(text) for text in texts]
        tokens = self._tokenizer(
            prompts, padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt"
        ).to(self.device)
        words = self.network.get_text_features(**tokens).pooler_output
        return self._texts(texts, words, words[:, 0], tokens["attention_mask"].bool(), LENGTH)

    def find(self, state: Encoded, text: ExpressionTexts, index: Sequence[int]) -> list[Found]:
        """All queries of each expression; scores are sigmoid(logit) x sigmoid(presence)."""
        from transformers.modeling_outputs import BaseModelOutputWithPooling

        rows = torch.tensor(list(index), device=self.device)
        vision = replace(
            state.features,
            fpn_hidden_states=tuple(level[rows] for level in state.features.fpn_hidden_states),
            fpn_position_encoding=tuple(
                level[rows] if len(level) > 1 else level.expand(len(rows), -1, -1, -1)
                for level in state.features.fpn_position_encoding
            ),
        )
        output = self.network(
            vision_embeds=vision,
            text_embeds=BaseModelOutputWithPooling(pooler_output=text.words),
            attention_mask=text.mask.long(),
        )
        scores = output.pred_logits.float().sigmoid()
        if output.presence_logits is not None:
            scores = scores * output.presence_logits.float().sigmoid()
        return [
            Found(boxes, score, masks, "probabilities")
            for boxes, score, masks in zip(output.pred_boxes.float(), scores, output.pred_masks, strict=True)
        ]
