"""ReLA's configurations: the paper's, the published code's, the small one, and the rows of the ablation tables."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from refseg.data.transforms import InputConfig
from refseg.encoders.text.bert import BertTextConfig
from refseg.encoders.text.transformer import WordTransformerConfig
from refseg.encoders.vision.mobilenet import MobileNetConfig
from refseg.encoders.vision.resnet import ResNetConfig
from refseg.encoders.vision.shufflenet import ShuffleNetConfig
from refseg.encoders.vision.swin import SWIN_T, SwinConfig
from refseg.errors import ConfigError
from refseg.models.photo.color_maps import COLOURS
from refseg.models.photo.tags import PHOTO_TAGS
from refseg.models.rela.masked_regions import MaskedRegionDecoderConfig
from refseg.models.rela.regions import HardSplitConfig, RegionDecoderConfig, RIAConfig
from refseg.models.rela.relations import ParallelRLAConfig, StackedRLAConfig

__all__ = ["ABLATIONS", "PRESETS", "DeformableConfig", "FeaturePyramidConfig", "ReLAConfig", "ReLALosses"]


@dataclass(frozen=True)
class DeformableConfig:
    """Mask2Former's pixel decoder: deformable attention over three scales."""

    layers: int = 6
    heads: int = 8
    points: int = 4
    """Sampling points a head and scale."""
    feedforward: int = 1024
    """Hidden units of the feed-forward networks."""
    groups: int = 32
    """Groups of the normalisations."""


@dataclass(frozen=True)
class FeaturePyramidConfig:
    """A plain feature pyramid, for small models."""

    fine_width: int = 64
    """Channels of the step at stride 4, where most of the time goes."""
    positions: bool = False
    """Tell every level where its pixels lie. Convolutions hardly know, and without it a mask, one linear map of F_m,
    cannot keep one of two equal things and leave the other."""
    groups: int = 32
    """Groups of the normalisations."""


@dataclass(frozen=True)
class ReLALosses:
    """Weights and targets of the losses; the defaults are the paper's, which names cross entropy and nothing else."""

    mask: float = 1.0
    minimap: float = 1.0
    no_target: float = 1.0
    dice: float = 0.0
    """Of the dice loss on the mask; neither the paper nor its code has one."""
    background: float = 1.0
    """Class weight of background pixels, of cells without target and of sentences with a target."""
    foreground: float = 1.0
    """Class weight of foreground pixels, of target cells and of no-target sentences."""
    minimap_target: Literal["centre", "area", "any"] = "area"
    """How the mask becomes the minimap, see `refseg.nn.losses.minimap_targets`; the published code has "centre"."""
    mask_size: Literal["input", "output"] = "input"
    """Where mask losses are taken: at the input's size, with the logits enlarged, as in the published code; or at the
    output's, with the target's share of each cell, which costs a sixteenth."""
    tags: float = 0.3
    """Of the tags (see `ReLAConfig.tags`), where there are any."""
    earlier: float = 1.0
    """Factor on the losses of earlier layers' answers, where the decoder supervises them."""

    def __post_init__(self) -> None:
        for name in ("mask", "minimap", "no_target", "dice", "tags", "earlier"):
            if getattr(self, name) < 0:
                raise ConfigError(f"losses.{name}={getattr(self, name)}: 0 or more is wanted")
        if min(self.background, self.foreground) <= 0:
            raise ConfigError("losses.background and losses.foreground must be positive")


@dataclass(frozen=True)
class ReLAConfig:
    """A whole ReLA; the defaults are the paper's (sections 4.1 and 4.2)."""

    input: InputConfig = field(default_factory=InputConfig)
    vision: SwinConfig | ResNetConfig | ShuffleNetConfig | MobileNetConfig = field(default_factory=SwinConfig)
    language_in_vision: bool = False
    """Words enter the Swin transformer after each stage (LAVT's fusion), as in the released weights; the paper's
    encoder sees the picture alone, so that one encoding serves many sentences."""
    text: WordTransformerConfig | BertTextConfig = field(default_factory=BertTextConfig)
    pixel_decoder: FeaturePyramidConfig | DeformableConfig = field(default_factory=DeformableConfig)
    width: int = 256
    """C: channels of mask features and regions."""
    regions: int = 10
    """P: regions along each side of the picture (table 4)."""
    relation: RegionDecoderConfig | MaskedRegionDecoderConfig = field(default_factory=RegionDecoderConfig)
    tags: tuple[str, ...] = ()
    """Words of which a linear map of F_m says, pixel by pixel, whether they hold there ("red", "person"). Neither paper
    nor code has this: with it, an encoder that was not trained on anything before learns to see from drawn scenes,
    where everything is known, many times faster than through sentences alone. Answers use it with
    `relation.tag_matches` alone."""
    losses: ReLALosses = field(default_factory=ReLALosses)

    def __post_init__(self) -> None:
        if self.width < 4 or self.width % 4:
            raise ConfigError(f"width={self.width}: a multiple of 4 is wanted")
        if self.regions < 1:
            raise ConfigError(f"regions={self.regions}: at least 1 is wanted")
        part = self.relation
        if isinstance(part, RegionDecoderConfig) and part.tag_matches and not self.tags:
            raise ConfigError("relation.tag_matches: there are no `tags` to match")
        if isinstance(part, RegionDecoderConfig) and part.classes:
            wanted = part.classes + part.tag_matches * len(self.tags) + part.colours * len(COLOURS)
            if getattr(self.text, "classes", 0) != wanted:
                raise ConfigError(
                    f"text.classes={getattr(self.text, 'classes', 0)}: {wanted} are wanted, relation.classes"
                    + f", {len(self.tags)} tags" * part.tag_matches
                    + f" and {len(COLOURS)} colours" * part.colours
                )
        if self.language_in_vision and not isinstance(self.vision, SwinConfig):
            raise ConfigError("language_in_vision: words enter Swin transformers alone; choose one, or false")


PAPER = ReLAConfig()

# MASK_WEIGHT 5 times (mask + 0.1 minimap + 0.1 no-target), class weights 0.9 and 1.1: the published criterion.
_OFFICIAL_LOSSES = ReLALosses(
    mask=5.0, minimap=0.5, no_target=0.5, background=0.9, foreground=1.1, minimap_target="centre"
)
OFFICIAL = ReLAConfig(language_in_vision=True, relation=MaskedRegionDecoderConfig(), losses=_OFFICIAL_LOSSES)
CAMERA_READY = replace(OFFICIAL, relation=MaskedRegionDecoderConfig(language="last"))
OFFICIAL_SWIN_T = replace(OFFICIAL, vision=SwinConfig(**{**SWIN_T.__dict__, "drop_path": 0.3}))
LAVT_RELA = replace(PAPER, language_in_vision=True)
"""LAVT+ReLA of table 5: LAVT's picture encoder, which reads words after every stage, with the paper's relation block in
the place of its plain decoder (LAVT itself is `refseg.models.lavt.model`)."""
OFFICIAL_R50 = replace(OFFICIAL, vision=ResNetConfig(), language_in_vision=False)

_SMALL_RELATION = RegionDecoderConfig(
    source="pixel_decoder",
    stride=8,
    ria=RIAConfig(heads=4, scale=True, positions=True, query="cell", residual=True),
    rla=StackedRLAConfig(layers=4, heads=4, feedforward=384),
    filter_from="rla",
    mask_scale=0.1,
)
MINI = ReLAConfig(
    input=InputConfig(size=192),
    vision=ResNetConfig(
        block="basic",
        widths=(48, 96, 192, 256),
        depths=(1, 2, 2, 1),
        stem="conv3",
        stem_width=32,
        norm="batch",
    ),
    text=WordTransformerConfig(max_words=20),
    pixel_decoder=FeaturePyramidConfig(fine_width=64, groups=16, positions=True),
    width=128,
    regions=8,
    relation=_SMALL_RELATION,
    losses=ReLALosses(mask=2.0, minimap=1.0, no_target=0.5, dice=2.0, mask_size="output", earlier=0.5),
)
"""The published wiring at a size that trains on two CPU cores: a small ResNet, a word transformer learnt from nothing,
several RLA layers, and losses at stride 4."""

PHOTO = replace(
    MINI,
    input=InputConfig(size=320),
    vision=ShuffleNetConfig(),
    text=WordTransformerConfig(max_words=20, vectors=50, classes=80 + len(PHOTO_TAGS) + len(COLOURS)),
    regions=10,
    relation=replace(
        _SMALL_RELATION,
        rla=StackedRLAConfig(layers=4, heads=4, feedforward=384, product=True),
        sentence_filter=True,
        classes=80,
        colours=True,
        tag_matches=True,
        ranks=True,
        mask_hidden=8,
        verdict_of_best=True,
        class_offset=96,
        minimap_gate=True,
    ),
    tags=PHOTO_TAGS,
)
"""MINI for photographs: an encoder that starts from a detector's, more regions, word vectors that know more words than
training has, and the minimap's say in the mask."""

PHOTO_MOBILENET = replace(
    PHOTO,
    vision=MobileNetConfig(),
    text=WordTransformerConfig(max_words=20, vectors=50),
    relation=replace(
        _SMALL_RELATION,
        rla=StackedRLAConfig(layers=4, heads=4, feedforward=384, product=True),
        sentence_filter=True,
        minimap_gate=True,
    ),
)
"""PHOTO on an encoder that starts from ImageNet's labels alone and has no detector, hence no classes by name: for
numbers on pictures that a detector's training saw."""

PRESETS: dict[str, ReLAConfig] = {
    "MINI": MINI,
    "PHOTO": PHOTO,
    "PHOTO_MOBILENET": PHOTO_MOBILENET,
    "PAPER": PAPER,
    "OFFICIAL": OFFICIAL,
    "OFFICIAL_SWIN_T": OFFICIAL_SWIN_T,
    "OFFICIAL_R50": OFFICIAL_R50,
    "LAVT_RELA": LAVT_RELA,
    "CAMERA_READY": CAMERA_READY,
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
