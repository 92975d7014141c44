"""What `refseg.types.ReferringModel` asks of every model, for models of tests that have a part of it only."""

from __future__ import annotations

from typing import Any

import torch

from refseg.types import Needs, Output, Targets, TextFeatures, Tokens


class AnsweringModel(torch.nn.Module):
    """A model that needs nothing and does nothing; tests derive theirs from it and say what theirs do."""

    needs = Needs()
    late_fusion = False
    config: Any

    def losses(self, output: Output, targets: Targets) -> dict[str, torch.Tensor]:
        raise AssertionError("this model is not trained")

    def encode_image(self, images: torch.Tensor, pixel_mask: torch.Tensor) -> Any:
        raise AssertionError("this model encodes no image by itself")

    def encode_text(self, tokens: Tokens) -> TextFeatures:
        raise AssertionError("this model encodes no expression by itself")

    def decode(self, state: Any, text: TextFeatures, image_index: torch.Tensor | None = None) -> Output:
        raise AssertionError("this model decodes nothing by itself")
