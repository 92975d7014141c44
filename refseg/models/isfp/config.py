"""ISFP's configurations: the thesis's, a small one, and the rows of its ablation table.

The thesis states no threshold on the probability of a pixel; the protocol `vlt` has .35, that of the authors' published
code for another system.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal

from refseg.data.transforms import InputConfig
from refseg.encoders.text.bert import BertTextConfig
from refseg.encoders.text.recurrent import RecurrentTextConfig
from refseg.encoders.text.transformer import WordTransformerConfig
from refseg.encoders.vision.darknet import DarkNetConfig
from refseg.encoders.vision.resnet import ResNetConfig
from refseg.encoders.vision.swin import SwinConfig
from refseg.errors import ConfigError
from refseg.nn.aspp import check_rates

__all__ = ["ABLATIONS", "PRESETS", "BranchConfig", "ISFPConfig", "ISFPLosses", "PropagationConfig", "RefinementConfig"]


@dataclass(frozen=True)
class BranchConfig:
    """The two branches of the instance extraction module (section 3.2.2); the thesis gives no widths."""

    instance_width: int = 512
    """C: channels of the instance-specific features."""
    segmentation_width: int = 256
    """Channels of the segmentation branch."""
    layers: int = 4
    """3x3 convolutions of each branch."""
    rates: tuple[int, ...] = (6, 12, 18)
    """Dilations of the segmentation branch's ASPP, as in MCN."""

    def __post_init__(self) -> None:
        if min(self.instance_width, self.segmentation_width, self.layers) < 1:
            raise ConfigError("branches: instance_width, segmentation_width and layers are 1 or more")
        check_rates("branches.rates", self.rates)


@dataclass(frozen=True)
class PropagationConfig:
    """The relationship analysis module (section 3.2.3)."""

    kind: Literal["propagation", "conv"] = "propagation"
    """propagation: four bidirectional paths. conv: one 3x3 convolution in its place (table 3.1, without RAM)."""
    forget: float = 1 / 3
    """alpha of equation 3.2, a constant that the thesis does not state. Up to three hidden states come in; a third
    keeps what they add from growing on the way through the grid."""
    share: bool = False
    """Whether all eight sweeps have one pair of matrices, where the thesis says "learnable weights" and no more."""
    normalise: bool = True
    """Batch normalisation of the sum of all paths before the identifying map's convolution. The thesis has it behind
    every convolution; sums of eight sweeps differ in size by where a cell lies."""


@dataclass(frozen=True)
class RefinementConfig:
    """The refinement module (section 3.2.4): three 3x3 convolutions on picture and coarse mask."""

    enabled: bool = True
    """Without it the coarse mask is the answer (table 3.1)."""
    width: int = 32
    """Channels of the first two convolutions."""
    input_stride: int = 4
    """Stride at which picture and coarse mask are read."""
    output_stride: int = 1
    """Stride of the answer: the picture is enlarged by 2 behind the first and behind the second convolution, as far as
    this asks for. The thesis says that upsampling lies between the convolutions, and elsewhere that the network puts
    out masks at stride 8; its gain at Pr@0.9 is out of reach for those."""

    def __post_init__(self) -> None:
        if self.width < 1 or self.input_stride < 1 or self.output_stride < 1:
            raise ConfigError("refinement: width, input_stride and output_stride are 1 or more")
        if self.input_stride / self.output_stride not in (1.0, 2.0, 4.0):
            raise ConfigError(
                f"refinement.output_stride={self.output_stride}: refinement.input_stride={self.input_stride} divided "
                "by it must be 1, 2 or 4"
            )

    @property
    def enlargements(self) -> int:
        """How often the map is doubled."""
        return int(math.log2(self.input_stride // self.output_stride))


@dataclass(frozen=True)
class ISFPLosses:
    """Weights of the losses; the defaults are the thesis's (equation 3.4, section 3.3.1)."""

    identify: float = 10.0
    segment: float = 0.03
    refine: float = 0.5
    refine_threshold: float = 0.3
    """theta: the refined mask is learnt where the coarse one's IoU with the target is above; below 0 it always is."""
    reduction: Literal["sum", "mean"] = "sum"
    """Over the cells of the grid and the pixels of masks (of all positive channels); then the mean over sentences. The
    thesis does not say; its weights balance the three for sums. A refined mask counts as a coarse one's pixels."""
    downsample: Literal["nearest", "area"] = "nearest"
    """How the target comes to the size of a mask: the pixel at the centre of a cell, or the share of the cell."""
    dice: float = 0.0
    """Of the dice loss on the positive channels and the refined mask, which the thesis does not have."""
    no_target: float = 1.0
    """Of the verdict, where the model has such a head."""
    tags: float = 0.3
    """Of the tags (see `ISFPConfig.tags`), where there are any."""

    def __post_init__(self) -> None:
        for name in ("identify", "segment", "refine", "dice", "no_target", "tags"):
            if getattr(self, name) < 0:
                raise ConfigError(f"losses.{name}={getattr(self, name)}: 0 or more is wanted")
        if not -1 <= self.refine_threshold < 1:
            raise ConfigError(
                f"losses.refine_threshold={self.refine_threshold}: an IoU below 1 is wanted, or -1 for none"
            )


_INPUT = InputConfig(
    size=416,
    resize="letterbox",
    interpolation="bicubic",
    mean=(0.0,) * 3,
    std=(255.0,) * 3,
    padding=(127.5,) * 3,
    rasterise="original",
)
"""Pictures of the DarkNet family: 0 to 1, in the middle of a grey square."""

_TEXT = RecurrentTextConfig(max_words=15, train_embedding=False, pool="scalar")
"""Words weighed by a number each (section 3.2.1). Both directions are summed, 1024 channels, as in the code that the
authors published for VLT; 20 words for G-Ref."""


@dataclass(frozen=True)
class ISFPConfig:
    """A whole ISFP; the defaults are the thesis's (sections 3.2 and 3.3.1)."""

    input: InputConfig = field(default_factory=lambda: _INPUT)
    vision: DarkNetConfig | SwinConfig | ResNetConfig = field(default_factory=DarkNetConfig)
    text: RecurrentTextConfig | BertTextConfig | WordTransformerConfig = field(default_factory=lambda: _TEXT)
    width: int = 512
    """C_f: channels of the fused features, which the thesis does not state."""
    product_norm: bool = True
    """Batch normalisation and rectification of the products of equation 3.1, beside those of their factors: MCN, whose
    settings the thesis follows, has both."""
    coordinates: bool = False
    """Tell the visual features where they lie, by two more channels. Cells and channels stand for places, and
    convolutions learn of places through the borders alone; a small encoder that starts from nothing hardly does."""
    grid: int = 13
    """S: rows and columns of the grid; the segmentation branch has S x S channels."""
    identify: bool = True
    """Whether there are an identification branch and a channel a cell (IEM); without them the segmentation branch puts
    out the mask (baseline of table 3.1)."""
    branches: BranchConfig = field(default_factory=BranchConfig)
    propagation: PropagationConfig = field(default_factory=PropagationConfig)
    refinement: RefinementConfig = field(default_factory=RefinementConfig)
    answer: Literal["best", "union"] = "best"
    """best: a sentence means one thing; its mask marks the nine cells around its centre of gravity, and the channel of
    the likeliest cell answers (the thesis). union: a sentence may mean several; each of them marks its own cells with
    its own mask, and the answer is the highest logit over the channels of all cells of probability `cell_threshold` or
    more. For GRES, of which the thesis's chapter 3 knows nothing. It wants `Targets.instances`; where a batch has none,
    a mask counts as one thing."""
    cell_threshold: float = 0.5
    """Probability from which on a cell answers, with `answer` union; where none reaches it, the likeliest one does."""
    no_target_head: bool = False
    """A verdict from the mean of the instance-specific features (in the baseline, of what the segmentation branch
    reads). The thesis has none: a mask of few pixels counts as none."""
    tags: tuple[str, ...] = ()
    """Words of which a linear map of the finest visual features says, place by place, whether they hold there. The
    thesis has none: it lets an encoder that was not trained on anything before learn to see from drawn scenes. Answers
    do not use it."""
    losses: ISFPLosses = field(default_factory=ISFPLosses)

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ConfigError(f"width={self.width}: a positive number is wanted")
        if self.grid < 2:
            raise ConfigError(f"grid={self.grid}: 2 or more is wanted")
        if not 0 < self.cell_threshold < 1:
            raise ConfigError(f"cell_threshold={self.cell_threshold}: a probability between 0 and 1 is wanted")
        if self.answer == "union" and not self.identify:
            raise ConfigError("answer='union' with identify=false: there are no cells to unite; switch identify on")

    @property
    def wants_instances(self) -> bool:
        """Whether training needs the targets' masks one by one (`Targets.instances`)."""
        return self.answer == "union"


PAPER = ISFPConfig()

PAPER_SWIN = replace(PAPER, input=InputConfig(), vision=SwinConfig(), text=BertTextConfig())
"""The thesis's wiring on Swin-B and BERT at 480 pixels, to compare with systems that have them; not in the thesis."""

MINI = ISFPConfig(
    input=InputConfig(size=192),
    vision=ResNetConfig(
        block="basic", widths=(48, 96, 192, 256), depths=(1, 2, 2, 1), stem="conv3", stem_width=32, norm="batch"
    ),
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
"""Table 3.2 is no configuration: `refseg.models.isfp.oracles` replaces what a branch of PAPER says by the truth."""
