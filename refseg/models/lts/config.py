"""LTS's configurations: the paper's, a small one, and the rows of the paper's tables.

The published threshold is .25 on the probability of a pixel (section 3.4). It is no field here, since thresholds belong
to answering: the protocol `lts` has it, and `refseg segment --threshold 0.25` answers with it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from annotated_types import Ge, MultipleOf

from refseg.config import Config, DropRate, NonNegativeFloat, PositiveInt
from refseg.encoders.text.bert import BertTextConfig
from refseg.encoders.text.recurrent import RecurrentTextConfig
from refseg.encoders.text.transformer import WordTransformerConfig
from refseg.encoders.vision.darknet import DARKNET_INPUT, DarkNetConfig
from refseg.encoders.vision.nanodet import ShuffleNetConfig
from refseg.encoders.vision.resnet import SMALL_RESNET, ResNetConfig
from refseg.encoders.vision.swin import SwinConfig
from refseg.errors import ConfigError
from refseg.geometry import InputConfig
from refseg.nn.aspp import SegmentationConfig
from refseg.nn.losses import SharedLosses
from refseg.types import Needs

__all__ = ["ABLATIONS", "PRESETS", "LTSConfig", "LTSLosses", "LocatorConfig"]


@dataclass(frozen=True)
class LocatorConfig(Config):
    """Where the object is, roughly: the position prior (section 3.2)."""

    kind: Literal["filter", "words", "transformer", "none"] = "filter"
    """filter: one kernel made of the expression (equation 8). words: one of each, and their maps combined (table 5).
    transformer: a decoder layer over all places that looks at the expression (equation 9). none: no prior (table 2)."""
    times: PositiveInt = 1
    """n of table 5: how often the object is located. The paper does not say how several filters work together."""
    repeat: Literal["recurrent", "parallel"] = "recurrent"
    """recurrent: each time after the first reads the features together with the prior of the time before. parallel:
    every time reads the same features, and the segmentation module takes all priors. Matters from `times` 2 on."""
    heads: PositiveInt = 4
    """Of the transformer's attention."""
    feedforward: PositiveInt = 1024
    """Hidden units of the transformer's perceptron."""
    dropout: DropRate = 0.1
    """In the transformer; the paper names DETR and no other number."""


@dataclass(frozen=True)
class LTSLosses(SharedLosses):
    """Weights of the losses and how they are summed; the defaults are the paper's (equations 11 to 13)."""

    mask: NonNegativeFloat = 1.0
    locating: NonNegativeFloat = 0.1
    """lambda: of the response map's loss; 0 leaves it out (table 2)."""
    supervise: Literal["last", "all"] = "last"
    """Whose response map is supervised when there are several: the last one's, or all on average."""
    reduction: Literal["sum", "mean"] = "sum"
    """Over the pixels of a map. The paper sums, so that a mask, of four times the pixels, weighs more."""
    downsample: Literal["nearest", "area"] = "nearest"
    """How the target comes to the size of a map: the pixel at the centre of a cell, or the share of the cell."""


_TEXT = RecurrentTextConfig(
    max_words=15, train_embedding=False, hidden=512, directions="concat", pool="mean", dropout=0.0
)
"""Equations 1 to 4: both directions side by side, the expression is the mean of its words. "A 1024 dimensional bi-GRU"
is read as 1024 channels for both directions together; 20 words for G-Ref."""


@dataclass(frozen=True)
class LTSConfig(Config):
    """A whole LTS; the defaults are the paper's (sections 3 and 4.1)."""

    input: InputConfig = DARKNET_INPUT
    vision: DarkNetConfig | SwinConfig | ResNetConfig | ShuffleNetConfig = field(default_factory=DarkNetConfig)
    text: RecurrentTextConfig | BertTextConfig | WordTransformerConfig = field(default_factory=lambda: _TEXT)
    width: Annotated[int, Ge(4), MultipleOf(4)] = 1024
    """d_k: channels of the multimodal features; the finer two are made of two halves."""
    fusion: bool = True
    """Whether the expression multiplies the coarsest features (equation 5); without it the locator alone reads it."""
    normalise: bool = True
    """Batch normalisation before the rectifications of equations 5 and 7, and behind the convolutions of repeated
    locating. The equations have none; the code that the paper builds on (MCN) has it everywhere."""
    coordinates: bool = False
    """Tell the visual features where they lie, by two more channels. The paper's convolutions hardly know, so that
    "left" needs what a large pretrained encoder learns about borders; a small one that starts from nothing does not."""
    locator: LocatorConfig = field(default_factory=LocatorConfig)
    segment: bool = True
    """Whether the segmentation module answers, at stride 4; without it the last response map does, at stride 8, or
    without locator a linear map of the features (table 2)."""
    segmentation: SegmentationConfig = field(default_factory=SegmentationConfig)
    no_target_head: bool = False
    """A no-target logit from the mean multimodal feature. The paper has none: a mask of few pixels counts as none."""
    tags: tuple[str, ...] = ()
    """Words of which a linear map of the finest visual features says, place by place, whether they hold there. The
    paper has none: it lets an encoder that was not trained on anything before learn to see from drawn scenes. Answers
    do not use it."""
    losses: LTSLosses = field(default_factory=LTSLosses)

    def check(self) -> None:
        if not self.fusion and self.locator.kind == "none":
            raise ConfigError("fusion=false with locator.kind='none': nothing would see the expression; switch one on")
        if self.locator.kind == "transformer" and self.width % self.locator.heads:
            raise ConfigError(f"locator.heads={self.locator.heads} does not divide width={self.width}")

    @property
    def needs(self) -> Needs:
        """What the losses want beside masks and no-target labels."""
        return Needs(tags=self.tags)


PAPER = LTSConfig()

PAPER_TRANSFORMER = replace(PAPER, locator=LocatorConfig(kind="transformer"))
"""Table 4."""

PAPER_SWIN = replace(PAPER, input=InputConfig(), vision=SwinConfig(), text=BertTextConfig())
"""The paper's wiring on Swin-B and BERT at 480 pixels, to compare with systems that have them; not in the paper."""

MINI = LTSConfig(
    input=InputConfig(size=192),
    vision=SMALL_RESNET,
    text=RecurrentTextConfig(
        vocabulary_size=512, max_words=20, embedding=128, hidden=128, directions="concat", pool="mean", dropout=0.0
    ),
    width=256,
    coordinates=True,
    locator=LocatorConfig(times=2),
    segmentation=SegmentationConfig(width=128, rates=(2, 4, 8), fine_width=64),
    losses=LTSLosses(
        mask=2.0, locating=1.0, supervise="all", reduction="mean", downsample="area", dice=2.0, no_target=0.5
    ),
)
"""The paper's wiring at a size that trains on two CPU cores: a small ResNet, word vectors learnt from nothing, two
recurrent filters, coordinates, dilations for maps of 24 x 24, and a dice loss."""

PRESETS: dict[str, LTSConfig] = {
    "MINI": MINI,
    "PAPER": PAPER,
    "PAPER_TRANSFORMER": PAPER_TRANSFORMER,
    "PAPER_SWIN": PAPER_SWIN,
}

_NONE = LocatorConfig(kind="none")
_UNLOCATED = LTSLosses(locating=0.0)


def _sized(size: int) -> LTSConfig:
    return replace(PAPER, input=replace(DARKNET_INPUT, size=size))


ABLATIONS: dict[str, LTSConfig] = {
    "table 2: fusion": replace(PAPER, locator=_NONE, segment=False, losses=_UNLOCATED),
    "table 2: filter": replace(PAPER, fusion=False, segment=False, losses=_UNLOCATED),
    "table 2: fusion, filter": replace(PAPER, segment=False, losses=_UNLOCATED),
    "table 2: fusion, segmentation": replace(PAPER, locator=_NONE, losses=_UNLOCATED),
    "table 2: filter, segmentation": replace(PAPER, fusion=False, losses=_UNLOCATED),
    "table 2: fusion, filter, segmentation": replace(PAPER, losses=_UNLOCATED),
    "table 2: fusion, filter, segmentation, locating loss": PAPER,
    "table 4: LTS": PAPER,
    "table 4: LTS-Trans": PAPER_TRANSFORMER,
    "table 5: n=1": PAPER,
    "table 5: n=2": replace(PAPER, locator=LocatorConfig(times=2)),
    "table 5: n=3": replace(PAPER, locator=LocatorConfig(times=3)),
    "table 5: word filter": replace(PAPER, locator=LocatorConfig(kind="words")),
    "table 6: 320": _sized(320),
    "table 6: 352": _sized(352),
    "table 6: 384": _sized(384),
    "table 6: 416": PAPER,
    "table 6: 448": _sized(448),
    "table 6: 480": _sized(480),
    "table 7: LTS": PAPER,
    # The paper says "transformer, more filtering times, and larger input resolution" and no numbers: its best of each.
    "table 7: LTS*": replace(_sized(480), locator=LocatorConfig(kind="transformer", times=2)),
}
