"""ISFP's configurations: the thesis's, a small one, and the rows of its ablation table.

The thesis states no threshold on the probability of a pixel; the protocol `vlt` has .35, that of the authors' published
code for another system.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Lt

from refseg.config import Config, NonNegativeFloat, PositiveInt
from refseg.encoders.text.bert import BertTextConfig
from refseg.encoders.text.recurrent import RecurrentTextConfig
from refseg.encoders.text.transformer import WordTransformerConfig
from refseg.encoders.vision.darknet import DARKNET_INPUT, DarkNetConfig
from refseg.encoders.vision.nanodet import ShuffleNetConfig
from refseg.encoders.vision.resnet import SMALL_RESNET, ResNetConfig
from refseg.encoders.vision.swin import SwinConfig
from refseg.errors import ConfigError
from refseg.geometry import InputConfig
from refseg.nn.aspp import check_rates
from refseg.nn.losses import SharedLosses
from refseg.types import Needs

__all__ = ["ABLATIONS", "PRESETS", "BranchConfig", "ISFPConfig", "ISFPLosses", "PropagationConfig", "RefinementConfig"]


@dataclass(frozen=True)
class BranchConfig(Config):
    """The two branches of the instance extraction module (section 3.2.2); the thesis gives no widths."""

    instance_width: PositiveInt = 512
    """C: channels of the instance-specific features."""
    segmentation_width: PositiveInt = 256
    """Channels of the segmentation branch."""
    layers: PositiveInt = 4
    """3x3 convolutions of each branch."""
    rates: tuple[int, ...] = (6, 12, 18)
    """Dilations of the segmentation branch's ASPP, as in MCN."""

    def check(self) -> None:
        check_rates("rates", self.rates)


@dataclass(frozen=True)
class PropagationConfig(Config):
    """The relationship analysis module (section 3.2.3)."""

    kind: Literal["propagation", "conv"] = "propagation"
    """propagation: four bidirectional paths. conv: one 3x3 convolution in its place (table 3.1, without RAM)."""
    forget: NonNegativeFloat = 1 / 3
    """alpha of equation 3.2, a constant that the thesis does not state. Up to three hidden states come in; a third
    keeps what they add from growing on the way through the grid."""
    share: bool = False
    """Whether all eight sweeps have one pair of matrices, where the thesis says "learnable weights" and no more."""
    normalise: bool = True
    """Batch normalisation of the sum of all paths before the identifying map's convolution. The thesis has it behind
    every convolution; sums of eight sweeps differ in size by where a cell lies."""


@dataclass(frozen=True)
class RefinementConfig(Config):
    """The refinement module (section 3.2.4): three 3x3 convolutions on image and coarse mask."""

    enabled: bool = True
    """Without it the coarse mask is the answer (table 3.1)."""
    width: PositiveInt = 32
    """Channels of the first two convolutions."""
    input_stride: PositiveInt = 4
    """Stride at which picture and coarse mask are read."""
    output_stride: PositiveInt = 1
    """Stride of the answer: the picture is enlarged by 2 behind the first and behind the second convolution, as far as
    this asks for. The thesis says that upsampling lies between the convolutions, and elsewhere that the network puts
    out masks at stride 8; its gain at Pr@0.9 is out of reach for those."""

    def check(self) -> None:
        if self.input_stride / self.output_stride not in (1.0, 2.0, 4.0):
            raise ConfigError(
                f"output_stride={self.output_stride}: input_stride={self.input_stride} divided by it must be 1, 2 or 4"
            )

    @property
    def enlargements(self) -> int:
        """How often the map is doubled."""
        return int(math.log2(self.input_stride // self.output_stride))


@dataclass(frozen=True)
class ISFPLosses(SharedLosses):
    """Weights of the losses; the defaults are the thesis's (equation 3.4, section 3.3.1)."""

    identify: NonNegativeFloat = 10.0
    segment: NonNegativeFloat = 0.03
    refine: NonNegativeFloat = 0.5
    refine_threshold: Annotated[float, Ge(-1), Lt(1)] = 0.3
    """theta: the refined mask is learnt where the coarse one's IoU with the target is above; below 0 it always is."""
    reduction: Literal["sum", "mean"] = "sum"
    """Over the cells of the grid and the pixels of masks (of all positive channels); then the mean over expressions.
    The thesis does not say; its weights balance the three for sums. A refined mask counts as a coarse one's pixels."""
    downsample: Literal["nearest", "area"] = "nearest"
    """How the target comes to the size of a mask: the pixel at the centre of a cell, or the share of the cell."""


_TEXT = RecurrentTextConfig(max_words=15, train_embedding=False, pool="scalar")
"""Words weighed by a number each (section 3.2.1). Both directions are summed, 1024 channels, as in the code that the
authors published for VLT; 20 words for G-Ref."""


@dataclass(frozen=True)
class ISFPConfig(Config):
    """A whole ISFP; the defaults are the thesis's (sections 3.2 and 3.3.1)."""

    input: InputConfig = DARKNET_INPUT
    vision: DarkNetConfig | SwinConfig | ResNetConfig | ShuffleNetConfig = field(default_factory=DarkNetConfig)
    text: RecurrentTextConfig | BertTextConfig | WordTransformerConfig = field(default_factory=lambda: _TEXT)
    width: PositiveInt = 512
    """C_f: channels of the fused features, which the thesis does not state."""
    product_norm: bool = True
    """Batch normalisation and rectification of the products of equation 3.1, beside those of their factors: MCN, whose
    settings the thesis follows, has both."""
    coordinates: bool = False
    """Tell the visual features where they lie, by two more channels. Cells and channels stand for places, and
    convolutions learn of places through the borders alone; a small encoder that starts from nothing hardly does."""
    grid: Annotated[int, Ge(2)] = 13
    """S: rows and columns of the grid; the segmentation branch has S x S channels."""
    identify: bool = True
    """Whether there are an identification branch and a channel a cell (IEM); without them the segmentation branch puts
    out the mask (baseline of table 3.1)."""
    branches: BranchConfig = field(default_factory=BranchConfig)
    propagation: PropagationConfig = field(default_factory=PropagationConfig)
    refinement: RefinementConfig = field(default_factory=RefinementConfig)
    answer: Literal["best", "union"] = "best"
    """best: an expression means one thing; its mask marks the nine cells around its centre of gravity, and the channel
    of the likeliest cell answers (the thesis). union: an expression may mean several; each of them marks its own cells
    with its own mask, and the answer is the highest logit over the channels of all cells of probability
    `cell_threshold` or more. For GRES, of which the thesis's chapter 3 knows nothing. It wants `Targets.instances`;
    where a batch has none, a mask counts as one thing."""
    cell_threshold: Annotated[float, Gt(0), Lt(1)] = 0.5
    """Probability from which on a cell answers, with `answer` union; where none reaches it, the likeliest one does."""
    no_target_head: bool = False
    """A no-target logit from the mean instance-specific feature (in the baseline, from that of what the segmentation
    branch reads). The thesis has none: a mask of few pixels counts as none."""
    tags: tuple[str, ...] = ()
    """Words of which a linear map of the finest visual features says, place by place, whether they hold there. The
    thesis has none: it lets an encoder that was not trained on anything before learn to see from drawn scenes. Answers
    do not use it."""
    losses: ISFPLosses = field(default_factory=ISFPLosses)

    def check(self) -> None:
        if self.answer == "union" and not self.identify:
            raise ConfigError("answer='union' with identify=false: there are no cells to unite; switch identify on")

    @property
    def needs(self) -> Needs:
        """What the losses want beside masks and no-target labels."""
        return Needs(instances=self.answer == "union", tags=self.tags)


PAPER = ISFPConfig()

PAPER_SWIN = replace(PAPER, input=InputConfig(), vision=SwinConfig(), text=BertTextConfig())
"""The thesis's wiring on Swin-B and BERT at 480 pixels, to compare with systems that have them; not in the thesis."""

MINI = ISFPConfig(
    input=InputConfig(size=192),
    vision=SMALL_RESNET,
    text=RecurrentTextConfig(vocabulary_size=512, max_words=20, embedding=128, hidden=192, pool="scalar", dropout=0.0),
    width=128,
    coordinates=True,
    grid=8,
    branches=BranchConfig(instance_width=128, segmentation_width=64, rates=(2, 4, 8)),
    refinement=RefinementConfig(width=16, output_stride=4),
    answer="union",
    losses=ISFPLosses(
        identify=2.0, segment=2.0, refine=2.0, reduction="mean", downsample="area", dice=2.0, no_target=0.5
    ),
)
"""The thesis's wiring at a size that trains on two CPU cores and answers with several targets: a small ResNet, word
vectors learnt from nothing, a grid of 8 x 8, coordinates, answers at stride 4, and a dice loss."""

PRESETS: dict[str, ISFPConfig] = {"MINI": MINI, "PAPER": PAPER, "PAPER_SWIN": PAPER_SWIN}

_UNREFINED = RefinementConfig(enabled=False)
_CONV = PropagationConfig(kind="conv")

ABLATIONS: dict[str, ISFPConfig] = {
    "table 3.1: baseline": replace(PAPER, identify=False, refinement=_UNREFINED),
    "table 3.1: baseline, IEM": replace(PAPER, propagation=_CONV, refinement=_UNREFINED),
    "table 3.1: baseline, IEM, RAM": replace(PAPER, refinement=_UNREFINED),
    "table 3.1: baseline, IEM, RAM, RM": PAPER,
}
"""Table 3.2 is no configuration: `with_true_location` and `with_true_masks` put the truth in the place of a branch."""
