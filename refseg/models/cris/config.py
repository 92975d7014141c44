"""CRIS's configurations: the published code's with both of CLIP's ResNets, GRES's encoders, and a small one."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from annotated_types import Ge

from refseg.config import Config, DropRate, NonNegativeFloat, PositiveInt
from refseg.encoders.text.bert import BertTextConfig
from refseg.encoders.text.clip import ClipTextConfig
from refseg.encoders.text.transformer import WordTransformerConfig
from refseg.encoders.vision.clip_resnet import CLIP_R50, CLIP_R101, ClipResNetConfig
from refseg.encoders.vision.nanodet import ShuffleNetConfig
from refseg.encoders.vision.resnet import SMALL_RESNET, ResNetConfig
from refseg.encoders.vision.swin import SWIN_B, SwinConfig
from refseg.errors import ConfigError
from refseg.geometry import InputConfig
from refseg.nn.losses import SharedLosses
from refseg.types import Needs

__all__ = ["ABLATIONS", "PRESETS", "CRISConfig", "CRISLosses", "VLDecoderConfig"]

_INPUT = InputConfig(
    size=416,
    resize="letterbox",
    interpolation="bicubic",
    mean=(122.7709383, 116.7460125, 104.09373615),
    std=(68.5005327, 66.6321579, 70.32316305),
)
"""CLIP's mean and deviation, times 255; padding has the mean's colour."""


@dataclass(frozen=True)
class CRISLosses(SharedLosses):
    """Weights of the losses; the defaults are the paper's, which has text-to-pixel contrast alone."""

    contrast: NonNegativeFloat = 1.0
    """Of the text-to-pixel contrast."""


@dataclass(frozen=True)
class VLDecoderConfig(Config):
    """Sizes of the vision-language decoder."""

    layers: Annotated[int, Ge(0)] = 3
    """n; 0 leaves the decoder out."""
    heads: PositiveInt = 8
    feedforward: PositiveInt = 2048
    """Hidden units of the feed-forward networks."""
    dropout: DropRate = 0.1
    """Of attention, hidden units and what each step adds."""


@dataclass(frozen=True)
class CRISConfig(Config):
    """A whole CRIS; the defaults are the published code with CLIP's RN50."""

    input: InputConfig = _INPUT
    vision: ClipResNetConfig | ResNetConfig | SwinConfig | ShuffleNetConfig = field(default_factory=ClipResNetConfig)
    """Any encoder with maps at strides 8, 16 and 32. GRES puts its Swin-B here."""
    text: ClipTextConfig | BertTextConfig | WordTransformerConfig = field(default_factory=ClipTextConfig)
    """Where a word has another width than `width`, a linear map that the paper has no need of leads from one to the
    other."""
    neck: tuple[PositiveInt, PositiveInt] = (256, 1024)
    """Channels of the neck's maps at strides 8 and 32; that of stride 16 has `width`."""
    width: PositiveInt = 512
    """C: channels of the fused map, of the decoder, and of CLIP's words."""
    decoder: VLDecoderConfig = field(default_factory=VLDecoderConfig)
    kernel: Annotated[int, Ge(1)] = 3
    """Side of the kernel that an expression becomes; odd. 3 in the code."""
    norm: Literal["batch", "group"] = "batch"
    """Normalisation in neck and projector; batch in the paper. Groups serve training with few expressions at once."""
    groups: PositiveInt = 16
    """Groups, with norm = group."""
    no_target_head: bool = False
    """A no-target logit of the decoder's pixels. CRIS has none; GRES clears its small masks."""
    tags: tuple[str, ...] = ()
    """Words of which a linear map of the encoder's map at stride 8 says, place by place, whether they hold there.
    Neither paper nor code has this, and answers do not use it."""
    losses: CRISLosses = field(default_factory=CRISLosses)

    def check(self) -> None:
        if self.width % 4:
            raise ConfigError(f"width={self.width}: positions of rows and columns need a multiple of 4")
        if self.width % self.decoder.heads:
            raise ConfigError(f"decoder.heads={self.decoder.heads} does not divide width={self.width}")
        if self.kernel % 2 == 0:
            raise ConfigError(f"kernel={self.kernel}: an odd side is wanted")
        sizes = (*self.neck, self.width, self.width // 2)
        if self.norm == "group" and any(size % self.groups for size in sizes):
            raise ConfigError(
                f"groups={self.groups} does not divide all of neck={self.neck}, width={self.width} and half of it"
            )

    @property
    def needs(self) -> Needs:
        """What the losses want beside masks and no-target labels."""
        return Needs(tags=self.tags)


OFFICIAL = CRISConfig(vision=CLIP_R50)
OFFICIAL_R101 = replace(OFFICIAL, vision=CLIP_R101, text=ClipTextConfig(joint_width=512))
GRES = replace(OFFICIAL, input=InputConfig(), vision=SWIN_B, text=BertTextConfig())
"""On the encoders of GRES's table 5, which says no more of it: Swin-B and BERT at 480 pixels, a linear map from BERT's
words to the decoder's width."""

MINI = CRISConfig(
    input=replace(_INPUT, size=192, resize="warp"),
    vision=SMALL_RESNET,
    text=WordTransformerConfig(),
    neck=(64, 128),
    width=128,
    decoder=VLDecoderConfig(layers=2, heads=4, feedforward=256, dropout=0.0),
    norm="group",
    losses=CRISLosses(contrast=2.0, dice=2.0, no_target=0.5),
)
"""The paper's wiring at a size that trains on two CPU cores: a small ResNet and whole words, learnt from nothing, and a
dice loss beside the contrast."""

PRESETS: dict[str, CRISConfig] = {
    "MINI": MINI,
    "OFFICIAL": OFFICIAL,
    "OFFICIAL_R101": OFFICIAL_R101,
    "GRES": GRES,
}

ABLATIONS: dict[str, CRISConfig] = {"GRES, table 5: CRIS": GRES}
"""CRIS as GRES trained it on gRefCOCO. CRIS's own ablations were not at hand: none of their rows is here."""
