"""A system of your own under every verb of refseg: one mask filter a sentence, and a no-target logit.

    python examples/own_system.py train examples/own_system.toml
    python examples/own_system.py segment scene.png "the red cup" --model runs/own-system/final

picture -> ResNet -> feature pyramid F_m;  sentence -> word transformer -> mean word -> filter;  M = <filter, F_m>
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from refseg.cli.main import main
from refseg.encoders.build import build_text, build_vision
from refseg.encoders.text.transformer import WordTransformerConfig
from refseg.encoders.vision.resnet import ResNetConfig
from refseg.geometry import InputConfig
from refseg.models import MODELS, System
from refseg.nn.attention import MLP
from refseg.nn.conv import masks_of
from refseg.nn.losses import dice_loss, resize_masks, weighted_cross_entropy
from refseg.nn.pyramid import FeaturePyramid
from refseg.types import Batch, Needs, Output, Targets, TextFeatures, Tokens


@dataclass(frozen=True)
class FilterConfig:
    """Every field can be changed in a recipe and on the command line (model.width=64)."""

    input: InputConfig = field(default_factory=lambda: InputConfig(size=192))
    vision: ResNetConfig = field(
        default_factory=lambda: ResNetConfig(
            block="basic", widths=(32, 64, 128, 192), depths=(1, 1, 1, 1), stem="conv3", stem_width=24, norm="batch"
        )
    )
    text: WordTransformerConfig = field(default_factory=lambda: WordTransformerConfig(max_words=20))
    width: int = 96


class Filter(nn.Module):
    needs = Needs()  # the losses want masks and no-target labels alone
    late_fusion = True  # a picture is encoded without the sentence, so once for all its sentences

    def __init__(self, config: FilterConfig) -> None:
        super().__init__()
        self.config = config
        self.vision, self.text = build_vision(config.vision), build_text(config.text)
        self.pixels = FeaturePyramid(self.vision.channels, config.width, groups=16, fine_width=48, positions=True)
        self.filter = MLP(self.text.width, config.width, layers=2)
        self.no_target = MLP(2 * config.width, 1, layers=2)

    def forward(self, batch: Batch) -> Output:
        state = self.encode_image(batch.images, batch.pixel_mask)
        return self.decode(state, self.encode_text(batch.tokens), batch.image_index)

    def encode_image(self, images: Tensor, pixel_mask: Tensor) -> Tensor:
        return self.pixels(self.vision(images)).mask_features

    def encode_text(self, tokens: Tokens) -> TextFeatures:
        return self.text(tokens)

    def decode(self, state: Tensor, text: TextFeatures, image_index: Tensor | None = None) -> Output:
        kernel = self.filter(text.sentence)
        masks = masks_of(0.1 * kernel[:, None], state, image_index)[:, 0]
        seen = state.amax(dim=(2, 3))  # what stands anywhere in the picture
        seen = seen if image_index is None else seen[image_index]
        return Output(masks, self.no_target(torch.cat([seen, kernel], dim=1))[:, 0])

    def losses(self, output: Output, targets: Targets) -> dict[str, Tensor]:
        masks = resize_masks(targets.masks, (output.mask_logits.shape[1], output.mask_logits.shape[2]))
        assert output.no_target_logits is not None
        return {
            "mask": 2.0 * weighted_cross_entropy(output.mask_logits, masks),
            "dice": 2.0 * dice_loss(output.mask_logits, masks),
            "no_target": 0.5 * weighted_cross_entropy(output.no_target_logits, targets.no_target.float()),
        }


MODELS["filter"] = System("filter", FilterConfig, {"MINI": FilterConfig()}, {}, Filter, "one filter a sentence")

if __name__ == "__main__":
    sys.exit(main())
