"""ReSTR's configurations: the paper's, the published code's, small ones, and the rows of the paper's tables."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal

from refseg.config import Config, DropRate, NonNegativeFloat, PositiveInt, PowerOfTwo
from refseg.encoders.text.bert import BertTextConfig
from refseg.encoders.text.glove_transformer import GloveTransformerConfig
from refseg.encoders.vision.nanodet import ShuffleNetConfig
from refseg.encoders.vision.resnet import SMALL_RESNET, ResNetConfig
from refseg.encoders.vision.vit import ViTConfig
from refseg.errors import ConfigError
from refseg.geometry import InputConfig
from refseg.nn.losses import SharedLosses
from refseg.types import Needs

__all__ = ["ABLATIONS", "PRESETS", "DecoderConfig", "FusionConfig", "ReSTRConfig", "ReSTRLosses"]


@dataclass(frozen=True)
class FusionConfig(Config):
    """The multimodal fusion encoder (section 3.2)."""

    encoder: Literal["vme", "ime", "cme"] = "cme"
    """vme: pixels, words and seed in one encoder. ime: pixels and words in one, words as they came and seed in another.
    cme: the second one reads the words that saw the pixels (figure 3)."""
    layers: PositiveInt = 4
    """Layers in all; with ime and cme half of them for each encoder."""
    share: bool = False
    """Whether an encoder applies one and the same block again and again."""
    width: PositiveInt = 768
    """D: channels of the fused tokens."""
    heads: PositiveInt = 12
    feedforward: PositiveInt = 3072
    """Hidden units of the perceptrons."""
    drop_path: DropRate = 0.1
    """Probability of skipping an encoder's last block while training; rises linearly from 0 at its first."""
    normalise: Literal["l2", "layer"] = "l2"
    """What "normalize" means for pixels and words before the fusion: division by the length, as in the published code,
    or layer normalisation without scale and shift."""
    output_norm: Literal["each", "shared", "classifier"] = "each"
    """Normalisation after an encoder: one of its own (paper, section 3.1), one that pixels and classifier share but not
    the words that go on into the second encoder (published code of vme and ime), or the classifier's alone (published
    code of cme)."""

    def check(self) -> None:
        if self.encoder != "vme" and self.layers % 2:
            raise ConfigError(f"layers={self.layers}: {self.encoder} wants an even number, half an encoder each")
        if self.width % self.heads:
            raise ConfigError(f"heads={self.heads} does not divide width={self.width}")


@dataclass(frozen=True)
class DecoderConfig(Config):
    """From fused patches and classifier to pixels (section 3.3)."""

    kind: Literal["coarse_to_fine", "none"] = "coarse_to_fine"
    """none: the patch map, enlarged, is the answer."""
    scale_sigmoid: bool = True
    """Whether the patch logit is divided by sqrt(D) and a sigmoid of it masks the patches (equations 9 and 10); the
    published code multiplies them by the bare product."""
    projections: bool = False
    """Whether patches and classifier pass a matrix each before their product, as in the published code."""
    guide: Literal["vision", "projected"] = "vision"
    """The visual features beside the masked ones: the vision encoder's (paper), or as the fusion took them in
    (published code)."""
    order: Literal["linear_first", "upsample_first"] = "linear_first"
    """Whether a block maps its channels before it enlarges the map, or after, as the paper says and table 5 counts. The
    numbers are the same, since one works on channels and the other on places with weights that sum to 1; mapping first
    takes a quarter of the products."""
    output_stride: PowerOfTwo = 1
    """Pixels along a cell of the answer: log2(patch / output_stride) blocks double the patch map. 1 in the paper."""


@dataclass(frozen=True)
class ReSTRLosses(SharedLosses):
    """Weights of the losses and how the patches' labels are made; the defaults are the paper's."""

    pixel: NonNegativeFloat = 1.0
    patch: NonNegativeFloat = 0.1
    """lambda of equation 12; without decoder there is one loss alone, and this is 0."""
    patch_label: Literal["mean", "any"] = "mean"
    """A patch is positive when more than `patch_threshold` of it is foreground (equation 11), or when any pixel is: the
    published code compares the sum of a patch's pixels with the threshold, where the paper has their mean."""
    patch_threshold: DropRate = 0.8
    """tau: the share of a patch that makes it positive."""


# (value - 127.5) / 127.5, the image in the middle of a grey square
_INPUT = InputConfig(size=480, resize="letterbox", mean=(127.5,) * 3, std=(127.5,) * 3, divisor=16)


@dataclass(frozen=True)
class ReSTRConfig(Config):
    """A whole ReSTR; the defaults are the paper's (section 4.1)."""

    input: InputConfig = field(default_factory=lambda: _INPUT)
    vision: ViTConfig | ResNetConfig | ShuffleNetConfig = field(default_factory=ViTConfig)
    patch: int = 16
    """P: pixels along a patch; with a ResNet the stride of the map that is taken, later stages are left out."""
    positions: Literal["none", "sine"] = "none"
    """sine: sines of row and column are added to the patches as the fusion takes them in, for encoders that do not know
    where a cell lies. The paper's ViT has positions of its own."""
    text: GloveTransformerConfig | BertTextConfig = field(default_factory=GloveTransformerConfig)
    mask_padding: bool = True
    """Padding, of expressions and of pictures, is not looked at; the published code looks at both."""
    fusion: FusionConfig = field(default_factory=FusionConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    no_target_head: bool = False
    """A no-target logit from the mean of the fused patches. The paper has none: a mask of few pixels counts as none."""
    tags: tuple[str, ...] = ()
    """Words of which a linear map of z_v says, patch by patch, whether they hold there ("red", "person"). Neither paper
    nor code has this: it lets an encoder that was not trained on anything before learn to see from drawn scenes, where
    everything is known. Answers do not use it."""
    losses: ReSTRLosses = field(default_factory=ReSTRLosses)

    def check(self) -> None:
        if isinstance(self.vision, ViTConfig):
            if self.patch != self.vision.patch:
                raise ConfigError(f"patch={self.patch} must be vision.patch={self.vision.patch}")
        elif self.patch not in (4, 8, 16, 32):
            raise ConfigError(f"patch={self.patch}: the encoder's maps have strides 4, 8, 16 and 32")
        ratio = self.patch / self.decoder.output_stride
        if self.decoder.kind == "coarse_to_fine" and (ratio < 2 or not math.log2(ratio).is_integer()):
            raise ConfigError(
                f"decoder.output_stride={self.decoder.output_stride}: patch={self.patch} divided by it must be "
                "2, 4, 8 or 16"
            )

    @property
    def needs(self) -> Needs:
        """What the losses want beside masks and no-target labels."""
        return Needs(tags=self.tags)


PAPER = ReSTRConfig()

OFFICIAL = ReSTRConfig(
    input=replace(_INPUT, rasterise="touched"),
    vision=ViTConfig(grid=24, epsilon=1e-5),
    text=GloveTransformerConfig(feedforward=1200, norm="post", output_width=768, align="end", mask_padding=False),
    mask_padding=False,
    fusion=FusionConfig(output_norm="classifier"),
    decoder=DecoderConfig(scale_sigmoid=False, projections=True, guide="projected"),
    losses=ReSTRLosses(patch_label="any"),
)
"""The published code; its ViT starts from weights of 384 pixels, a grid of 24. It pads images with black in training
and with grey in tests; this is the grey, `input.padding` = [0, 0, 0] is the black."""

_MINI_TEXT = GloveTransformerConfig(vocabulary_size=512, width=128, layers=2, heads=4, feedforward=512)

MINI = ReSTRConfig(
    input=replace(_INPUT, size=192, resize="warp"),
    vision=ViTConfig(width=192, layers=6, heads=6, feedforward=768, grid=12, class_token=False),
    text=_MINI_TEXT,
    fusion=FusionConfig(width=192, heads=6, feedforward=768, normalise="layer"),
    decoder=DecoderConfig(output_stride=4),
    losses=ReSTRLosses(pixel=2.0, patch=1.0, patch_label="any", dice=2.0, no_target=0.5),
)
"""The paper's wiring at a size that trains on two CPU cores: a small ViT, answers at stride 4, a dice loss, and the
code's patch labels: at this size many objects are smaller than a patch, which the paper's rule never calls positive."""

MINI_RESNET = replace(
    MINI,
    vision=SMALL_RESNET,
    positions="sine",
)
"""MINI with a small ResNet, which learns to see from few images much sooner than a ViT does, but knows no places."""

PRESETS: dict[str, ReSTRConfig] = {
    "MINI": MINI,
    "MINI_RESNET": MINI_RESNET,
    "PAPER": PAPER,
    "OFFICIAL": OFFICIAL,
}


def _paper(
    layers: int = 4, decoder: bool = True, share: bool = False, encoder: Literal["vme", "ime", "cme"] = "cme"
) -> ReSTRConfig:
    """PAPER with another fusion encoder, with or without decoder."""
    config = replace(PAPER, fusion=FusionConfig(encoder=encoder, layers=layers, share=share))
    if decoder:
        return config
    return replace(config, decoder=DecoderConfig(kind="none"), losses=ReSTRLosses(patch=0.0))


def _counted(share: bool = False) -> ReSTRConfig:
    """PAPER as table 5 counts it: the paper's order of enlarging, and the code's 1200 hidden units of language."""
    config = _paper(share=share)
    text = GloveTransformerConfig(feedforward=1200)
    return replace(config, text=text, decoder=DecoderConfig(order="upsample_first"))


ABLATIONS: dict[str, ReSTRConfig] = {
    "table 3b: VME": _paper(encoder="vme", decoder=False),
    "table 3b: IME": _paper(encoder="ime", decoder=False),
    "table 3b: CME": _paper(decoder=False),
    "table 3b: CME, shared": _paper(decoder=False, share=True),
    "table 4: 2 layers, no decoder": _paper(2, decoder=False),
    "table 4: 2 layers": _paper(2),
    "table 4: 4 layers, no decoder": _paper(4, decoder=False),
    "table 4: 4 layers": PAPER,
    "table 4: 4 shared layers": _paper(4, share=True),
    "table 4: 6 layers, no decoder": _paper(6, decoder=False),
    "table 4: 6 shared layers, no decoder": _paper(6, decoder=False, share=True),
    "table 5: CME": _counted(),
    "table 5: CME, shared": _counted(share=True),
}
