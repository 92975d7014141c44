"""ReLA's configurations: the paper's, the published code's, the small one, and the rows of the ablation tables."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from annotated_types import Ge, MultipleOf

from refseg.config import Config, NonNegativeFloat, PositiveFloat, PositiveInt
from refseg.encoders.text.bert import BertTextConfig
from refseg.encoders.text.towers import TextTowerConfig
from refseg.encoders.text.transformer import WordTransformerConfig
from refseg.encoders.vision.mobilenet import MobileNetConfig
from refseg.encoders.vision.nanodet import ShuffleNetConfig
from refseg.encoders.vision.resnet import SMALL_RESNET, ResNetConfig
from refseg.encoders.vision.swin import SWIN_T, SwinConfig
from refseg.encoders.vision.towers import VisionTowerConfig
from refseg.errors import ConfigError
from refseg.geometry import InputConfig
from refseg.models.rela.masked_regions import MaskedRegionDecoderConfig
from refseg.models.rela.regions import HardSplitConfig, RegionDecoderConfig, RIAConfig
from refseg.models.rela.relations import ParallelRLAConfig, StackedRLAConfig
from refseg.nn.losses import SharedLosses
from refseg.types import Needs

__all__ = ["ABLATIONS", "PRESETS", "DeformableConfig", "FeaturePyramidConfig", "ReLAConfig", "ReLALosses"]


@dataclass(frozen=True)
class DeformableConfig(Config):
    """Mask2Former's pixel decoder: deformable attention over three scales."""

    layers: PositiveInt = 6
    heads: PositiveInt = 8
    points: PositiveInt = 4
    """Sampling points a head and scale."""
    feedforward: PositiveInt = 1024
    """Hidden units of the feed-forward networks."""
    groups: PositiveInt = 32
    """Groups of the normalisations."""


@dataclass(frozen=True)
class FeaturePyramidConfig(Config):
    """A plain feature pyramid, for small models."""

    fine_width: PositiveInt = 64
    """Channels of the step at stride 4, where most of the time goes."""
    positions: bool = False
    """Tell every level where its pixels lie. Convolutions hardly know, and without it a mask, one linear map of F_m,
    cannot keep one of two equal things and leave the other."""
    groups: PositiveInt = 32
    """Groups of the normalisations."""


@dataclass(frozen=True)
class ReLALosses(SharedLosses):
    """Weights and targets of the losses; the defaults are the paper's, which names cross entropy and nothing else."""

    mask: NonNegativeFloat = 1.0
    minimap: NonNegativeFloat = 1.0
    background: PositiveFloat = 1.0
    """Class weight of background pixels, of cells without target and of expressions with a target."""
    foreground: PositiveFloat = 1.0
    """Class weight of foreground pixels, of target cells and of no-target expressions."""
    minimap_target: Literal["centre", "area", "any"] = "area"
    """How the mask becomes the minimap, see `refseg.nn.losses.minimap_targets`; the published code has "centre"."""
    mask_size: Literal["input", "output"] = "input"
    """Where mask losses are taken: at the input's size, with the logits enlarged, as in the published code; or at the
    output's, with the target's share of each cell, which costs a sixteenth."""
    earlier: NonNegativeFloat = 1.0
    """Factor on the losses of earlier layers' answers, where the decoder supervises them."""


@dataclass(frozen=True)
class ReLAConfig(Config):
    """A whole ReLA; the defaults are the paper's (sections 4.1 and 4.2)."""

    input: InputConfig = field(default_factory=InputConfig)
    vision: SwinConfig | ResNetConfig | ShuffleNetConfig | MobileNetConfig | VisionTowerConfig = field(
        default_factory=SwinConfig
    )
    language_in_vision: bool = False
    """Words enter the Swin transformer after each stage (LAVT's fusion), as in the released weights; the paper's
    encoder sees the picture alone, so that one encoding serves many expressions."""
    text: WordTransformerConfig | BertTextConfig | TextTowerConfig = field(default_factory=BertTextConfig)
    pixel_decoder: FeaturePyramidConfig | DeformableConfig = field(default_factory=DeformableConfig)
    width: Annotated[int, Ge(4), MultipleOf(4)] = 256
    """C: channels of mask features and regions."""
    regions: PositiveInt = 10
    """P: regions along each side of the picture (table 4)."""
    relation: RegionDecoderConfig | MaskedRegionDecoderConfig = field(default_factory=RegionDecoderConfig)
    tags: tuple[str, ...] = ()
    """Words of which a linear map of F_m says, pixel by pixel, whether they hold there ("red", "person"); neither paper
    nor code has them, and answers do not use them. See `refseg.nn.heads`."""
    losses: ReLALosses = field(default_factory=ReLALosses)

    def check(self) -> None:
        if self.language_in_vision and not isinstance(self.vision, SwinConfig):
            raise ConfigError("language_in_vision: words enter Swin transformers alone; choose one, or false")

    @property
    def needs(self) -> Needs:
        """What the losses want beside masks and no-target labels."""
        return Needs(tags=self.tags)


PAPER = ReLAConfig()

# MASK_WEIGHT 5 times (mask + 0.1 minimap + 0.1 no-target), class weights 0.9 and 1.1: the published criterion.
_OFFICIAL_LOSSES = ReLALosses(
    mask=5.0, minimap=0.5, no_target=0.5, background=0.9, foreground=1.1, minimap_target="centre"
)
OFFICIAL = ReLAConfig(language_in_vision=True, relation=MaskedRegionDecoderConfig(), losses=_OFFICIAL_LOSSES)
CAMERA_READY = replace(OFFICIAL, relation=MaskedRegionDecoderConfig(language="last"))
OFFICIAL_SWIN_T = replace(OFFICIAL, vision=SwinConfig(**{**SWIN_T.__dict__, "drop_path": 0.3}))
LAVT_RELA = replace(PAPER, language_in_vision=True)
"""LAVT+ReLA of table 5: LAVT's image encoder, which reads words after every stage, with the paper's relation block in
the place of its plain decoder (LAVT itself is `refseg.models.lavt.model`)."""
OFFICIAL_R50 = replace(OFFICIAL, vision=ResNetConfig(), language_in_vision=False)

# Frozen towers in the place of Swin and BERT (not in the paper): encoders of the published sizes named in the recipe.
DINOV3 = replace(PAPER, vision=VisionTowerConfig())
CLIP = replace(
    PAPER,
    input=InputConfig(mean=(122.77, 116.75, 104.09), std=(68.50, 66.63, 70.32)),
    vision=VisionTowerConfig(family="clip", registers=0, activation="quick_gelu"),
    text=TextTowerConfig(),
)
SIGLIP = replace(
    PAPER,
    input=InputConfig(size=512, mean=(127.5, 127.5, 127.5), std=(127.5, 127.5, 127.5)),
    vision=VisionTowerConfig(family="siglip", registers=0, grid=32, activation="gelu_pytorch_tanh"),
    text=TextTowerConfig(
        family="siglip", vocabulary_size=32000, max_words=64, width=768, heads=12, feedforward=3072, positions=64,
        activation="gelu_pytorch_tanh",
    ),
)  # fmt: skip

MINI = ReLAConfig(
    input=InputConfig(size=192),
    vision=SMALL_RESNET,
    text=WordTransformerConfig(max_words=20),
    pixel_decoder=FeaturePyramidConfig(fine_width=64, groups=16, positions=True),
    width=128,
    regions=8,
    relation=RegionDecoderConfig(
        source="pixel_decoder",
        stride=8,
        ria=RIAConfig(heads=4, scale=True, positions=True, query="cell", residual=True),
        rla=StackedRLAConfig(layers=4, heads=4, feedforward=384),
        filter_from="rla",
        mask_scale=0.1,
    ),
    losses=ReLALosses(mask=2.0, minimap=1.0, no_target=0.5, dice=2.0, mask_size="output", earlier=0.5),
)
"""The published wiring at a size that trains on two CPU cores: a small ResNet, a word transformer learnt from nothing,
several RLA layers, and losses at stride 4."""

assert isinstance(MINI.relation, RegionDecoderConfig)
MINI_HARD_SPLIT = replace(MINI, relation=replace(MINI.relation, ria=HardSplitConfig("decoder")))
"""MINI with the cells of a rigid grid for regions (table 2, #2)."""

PRESETS: dict[str, ReLAConfig] = {
    "MINI": MINI,
    "MINI_HARD_SPLIT": MINI_HARD_SPLIT,
    "PAPER": PAPER,
    "OFFICIAL": OFFICIAL,
    "OFFICIAL_SWIN_T": OFFICIAL_SWIN_T,
    "OFFICIAL_R50": OFFICIAL_R50,
    "LAVT_RELA": LAVT_RELA,
    "CAMERA_READY": CAMERA_READY,
    "DINOV3": DINOV3,
    "CLIP": CLIP,
    "SIGLIP": SIGLIP,
}


def _paper(**changes: object) -> ReLAConfig:
    """PAPER with another relation block."""
    return replace(PAPER, relation=replace(RegionDecoderConfig(), **changes))  # type: ignore[arg-type]


ABLATIONS: dict[str, ReLAConfig] = {
    "table 2 #1: hard split, input": _paper(ria=HardSplitConfig("input")),
    "table 2 #2: hard split, decoder": _paper(ria=HardSplitConfig("decoder")),
    "table 2 #3: without minimap": replace(PAPER, losses=ReLALosses(minimap=0.0)),
    "table 2 #4: ReLA": PAPER,
    "table 3 #1: baseline": _paper(rla=ParallelRLAConfig(False, False, product=True)),
    "table 3 #2: + language attention": _paper(rla=ParallelRLAConfig(False, True, product=True)),
    "table 3 #3: + region attention": _paper(rla=ParallelRLAConfig(True, False, product=True)),
    "table 3 #4: ReLA": PAPER,
    "table 4: 4x4 regions": replace(PAPER, regions=4),
    "table 4: 8x8 regions": replace(PAPER, regions=8),
    "table 4: 10x10 regions": PAPER,
    "table 4: 12x12 regions": replace(PAPER, regions=12),
    "table 5: LAVT+ReLA": LAVT_RELA,
}
