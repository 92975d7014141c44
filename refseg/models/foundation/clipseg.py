"""CLIPSeg: one map of what a text describes (Lüddecke, Ecker, Image Segmentation Using Text and Image Prompts, 2022).

It knows no instances and has no score of its own for "none": the answer is none where fewer than 50 pixels pass the
mask threshold, the rule of GRES (Liu et al., CVPR 2023, section 5.3) for networks without a no-target head.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn import functional as F

from refseg.encoders.vision.proposers import Detections
from refseg.errors import RefsegError
from refseg.models.foundation.base import Encoded, ExpressionTexts, FoundationModel, Pixels
from refseg.models.foundation.placing import enlarge, pad
from refseg.nn.maps import pixel_map
from refseg.types import Output, TextFeatures

__all__ = ["ClipSeg"]


class ClipSeg(FoundationModel):
    """transformers' `CLIPSegForImageSegmentation`."""

    def encode(self, pictures: Sequence[Pixels]) -> list[Tensor]:
        """What the decoder takes of N pictures: the outputs of some layers of CLIP."""
        made = self.network.clip.get_image_features(
            pixel_values=self._pixels(pictures)["pixel_values"],
            interpolate_pos_encoding=True,
            output_hidden_states=True,
        )
        return [made.hidden_states[layer + 1] for layer in self.network.extract_layers]

    def read(self, texts: Sequence[str]) -> ExpressionTexts:
        """One vector an expression."""
        prompts = [self.config.prompt.format(text) for text in texts]
        length = self.network.config.text_config.max_position_embeddings
        tokens = self._tokenizer(prompts, padding=True, truncation=True, max_length=length, return_tensors="pt")
        tokens = tokens.to(self.device)
        made = self.network.get_conditional_embeddings(len(texts), tokens["input_ids"], tokens["attention_mask"])
        return self._texts(texts, made[:, None], made, torch.ones_like(made[:, :1], dtype=torch.bool), length)

    def decode(self, state: Encoded, text: TextFeatures, image_index: Int[Tensor, " B"] | None = None) -> Output:
        """One map an expression."""
        if not isinstance(text, ExpressionTexts):
            raise RefsegError("clipseg decodes what its own encode_text made")
        index = list(range(len(text.texts))) if image_index is None else image_index.tolist()
        with self._memory():
            maps = self.network.decoder([layer[index] for layer in state.features], text.sentence).logits.float()
        maps = maps.reshape(len(index), *maps.shape[-2:])
        if all(picture.shape[:2] == state.size for picture in state.pictures):
            logits = F.interpolate(maps[:, None], size=state.size, mode="bilinear", align_corners=False)[:, 0]
        else:
            sizes = [state.pictures[number].shape[:2] for number in index]
            placed = [pad(enlarge(each[None], size), state.size) for each, size in zip(maps, sizes, strict=True)]
            logits = torch.cat(placed)
        shown = pixel_map("what each pixel is likely to be", logits, apply=torch.sigmoid, scale="probability")
        return Output(logits, remarks=[self._remarks(cut) for cut in text.cut], maps={"map": shown})

    def propose(self, encoded: object, names: Sequence[str]) -> list[Detections]:
        """Raises `RefsegError`: there are no instances."""
        raise RefsegError(
            "clipseg gives one mask and no instances; take sam3, or a detector with +SAM 2, for proposals"
        )
