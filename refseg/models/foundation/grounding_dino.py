"""Grounding DINO: boxes of phrases (Liu et al., Grounding DINO: Marrying DINO with Grounded Pre-Training, ECCV 2024).

The picture's backbone runs once for all expressions; what fuses picture and text runs for each. A box's score is its
largest probability of any token of the expression, as in transformers' post-processing. Nothing is suppressed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from refseg.models.foundation.base import Encoded, ExpressionTexts, Found, FoundationModel, Pixels, Processor
from refseg.models.foundation.config import FoundationConfig
from refseg.nn.boxes import corners

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["GroundingDino"]


class Remembered(nn.Module):
    """The backbone of a network, which answers with stored feature maps while `stored` is set."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.stored: list[tuple[Tensor, Tensor]] | None = None

    def forward(self, pixel_values: Tensor, pixel_mask: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Feature maps with their masks of real pixels."""
        if self.stored is not None:
            return self.stored
        maps: list[tuple[Tensor, Tensor]] = self.backbone(pixel_values, pixel_mask)
        return maps


class GroundingDino(FoundationModel):
    """transformers' `GroundingDinoForObjectDetection` (also of `mm-grounding-dino`)."""

    boxes_alone = True

    def __init__(
        self,
        config: FoundationConfig,
        network: nn.Module,
        processor: Processor,
        tokenizer: PreTrainedTokenizerBase,
        segmenter: nn.Module | None = None,
    ) -> None:
        super().__init__(config, network, processor, tokenizer, segmenter)
        part = self.network.model.backbone
        part.conv_encoder = Remembered(part.conv_encoder)

    def encode(self, pictures: Sequence[Pixels]) -> list[dict[str, Any]]:
        """Each picture's input and the backbone's feature maps; one by one, so that none is padded for another."""
        states = []
        for picture in pictures:
            inputs = self._pixels([picture])
            states.append({**inputs, "maps": self._backbone(inputs["pixel_values"], inputs["pixel_mask"])})
        return states

    def find(self, state: Encoded, text: ExpressionTexts, index: Sequence[int]) -> list[Found]:
        """All queries of each expression; the expressions of one picture go together."""
        found: dict[int, Found] = {}
        for number in dict.fromkeys(index):
            asked = [place for place, at in enumerate(index) if at == number]
            boxes, scores = self._ask(state.features[number], [text.texts[place] for place in asked])
            found.update({place: Found(boxes[row], scores[row]) for row, place in enumerate(asked)})
        return [found[place] for place in range(len(index))]

    @property
    def _backbone(self) -> Remembered:
        backbone: Remembered = self.network.model.backbone.conv_encoder
        return backbone

    def _ask(self, picture: dict[str, Any], texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Boxes (B, Q, 4) and scores (B, Q)."""
        # The network expects lower case, and a full stop at the end of a phrase.
        prompts = [self.config.prompt.format(text.lower().strip(" .")) + "." for text in texts]
        length = self.network.config.max_text_len
        tokens = self._tokenizer(
            prompts,
            padding=True,
            truncation=True,
            max_length=length,
            return_token_type_ids=True,
            return_tensors="pt",
        ).to(self.device)
        many = len(texts)
        self._backbone.stored = [
            (maps.expand(many, -1, -1, -1), mask.expand(many, -1, -1)) for maps, mask in picture["maps"]
        ]
        try:
            output = self.network(
                pixel_values=picture["pixel_values"].expand(many, -1, -1, -1),
                pixel_mask=picture["pixel_mask"].expand(many, -1, -1),
                input_ids=tokens["input_ids"],
                token_type_ids=tokens["token_type_ids"],
                attention_mask=tokens["attention_mask"],
            )
        finally:
            self._backbone.stored = None
        return corners(output.pred_boxes.float()), output.logits.float().sigmoid().amax(-1)
