"""M3Att's configurations: the thesis's with both of its encoders, the small one, and the rows of its tables.

No code is published. Where the thesis is silent a field says what was taken instead, mostly from the published code of
VLT, which the same authors wrote before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from annotated_types import Ge, MultipleOf

from refseg.config import Config, DropRate, NonNegativeFloat, NonNegativeInt, PositiveInt, PowerOfTwo
from refseg.encoders.text.bert import BertTextConfig
from refseg.encoders.text.recurrent import RecurrentTextConfig
from refseg.encoders.text.transformer import WordTransformerConfig
from refseg.encoders.vision.darknet import DARKNET_INPUT, DarkNetConfig
from refseg.encoders.vision.nanodet import ShuffleNetConfig
from refseg.encoders.vision.resnet import SMALL_RESNET, ResNetConfig
from refseg.encoders.vision.swin import SwinConfig
from refseg.errors import ConfigError
from refseg.geometry import InputConfig
from refseg.models.m3att.mutual import MutualAttentionConfig
from refseg.nn.losses import SharedLosses
from refseg.types import Needs

__all__ = [
    "ABLATIONS",
    "PRESETS",
    "M3AttConfig",
    "M3AttLosses",
    "MaskDecoderConfig",
    "MutualDecoderConfig",
]


@dataclass(frozen=True)
class MutualDecoderConfig(Config):
    """M3Dec and the interactions between its layers (sections 5.1.1 and 5.1.2)."""

    layers: PositiveInt = 3
    """N_dec."""
    attention: MutualAttentionConfig = field(default_factory=MutualAttentionConfig)
    requery: bool = True
    """Whether the words query what the mutual attention gave (figure 5.3c). Without it that is added to the words: with
    "language_attended" this is the generic transformer's layer."""
    interaction: Literal["iterative", "same", "none"] = "iterative"
    """iterative: IMI, every block transforms the words of the block before it. same: IMI* of table 5.2, every block
    reads the words as they were. none: layers follow one another."""
    interaction_weight: float = 0.1
    """First value of w_ci, the learnt share of language in equation 5.3's sum; the thesis gives none."""

    def check(self) -> None:
        if not self.requery and self.attention.kind == "vision_attended":
            raise ConfigError(
                "requery=false: vision_attended gives a vector a pixel, which only a query turns into one a word; take "
                "requery=true"
            )


@dataclass(frozen=True)
class MaskDecoderConfig(Config):
    """From the decoder's words and the encoder's pixels to the mask (section 5.1.4)."""

    kind: Literal["kernel", "concat", "sum", "vlt"] = "kernel"
    """kernel: words, after self-attention, are the kernels of a 1x1 convolution over the pixels. concat, sum: the sum
    over those words beside each pixel, or added to it (table 5.3 has "sum and concatenate"). vlt: the words alone, each
    led to a map by a linear layer, as in VLT's published code."""
    width: PositiveInt = 512
    """Channels of the convolutions."""
    convs: PositiveInt = 4
    """3x3 convolutions in all, the last one to the logit."""
    coarse: PositiveInt = 1
    """How many stand before the first doubling; each later one but the last few follows a doubling."""
    output_stride: PowerOfTwo = 2
    """Pixels along a cell of the mask. The thesis does not say; three doublings fit between its four convolutions."""


@dataclass(frozen=True)
class M3AttLosses(SharedLosses):
    """Weights of the losses; the defaults are the thesis's (equation 5.5)."""

    mask: NonNegativeFloat = 1.0
    """w_mask, of the binary cross entropy at the mask's own size, where targets are each cell's share of foreground."""
    reduction: Literal["mean", "sum"] = "mean"
    """Over an expression's pixels. The thesis does not say; the two weights are in balance with the mean alone, while
    VLT's code takes the sum."""
    reconstruction: NonNegativeFloat = 0.1
    """w_rec, of the language feature reconstruction; 0 leaves the module out."""
    detach_target: bool = False
    """Whether the reconstruction's gradient stops at F_proj, the projected language; the thesis stops none."""


@dataclass(frozen=True)
class M3AttConfig(Config):
    """A whole M3Att; the defaults are the thesis's (section 5.2.1).

    The thesis does not say at which probability a pixel is foreground; VLT's code takes .35.
    """

    input: InputConfig = DARKNET_INPUT
    vision: DarkNetConfig | SwinConfig | ResNetConfig | ShuffleNetConfig = field(default_factory=DarkNetConfig)
    text: RecurrentTextConfig | BertTextConfig | WordTransformerConfig = field(
        default_factory=lambda: RecurrentTextConfig(train_embedding=False, pool="last")
    )
    """A bidirectional LSTM in the text, a GRU in table 5.4: the default is the table's, with the final state as the
    sentence F'_t (text); PAPER_LSTM has the other cell."""
    neck: Literal["vlt", "sum"] = "vlt"
    """How the encoder's maps become F_vis, of which the thesis says nothing: see `refseg/models/m3att/neck.py`."""
    stride: Literal[8, 16, 32] = 16
    """Pixels along a cell of F_vis."""
    width: Annotated[int, Ge(4), MultipleOf(4)] = 256
    """C: channels of words and pixels."""
    heads: PositiveInt = 8
    """Of every multi-head attention but the mutual one."""
    encoder_layers: NonNegativeInt = 2
    """N_enc."""
    positions: Literal["input", "every_layer"] = "input"
    """Where the pixels' places (sines of row and column) are added: once to F_vis (VLT's code), or to the queries and
    keys of each encoder layer (DETR). The thesis does not mention them."""
    feedforward: PositiveInt = 256
    """Hidden units of the feed-forward networks, which the thesis does not draw; 256 is that of VLT's code."""
    dropout: DropRate = 0.1
    """In the transformer layers."""
    projection_norm: bool = True
    """Batch normalisation between the linear layers of words, interaction and reconstruction and their rectification,
    as section 5.2.1 says of all linear layers. Equations 5.3 and 5.4 print rectification alone, which is false."""
    mask_padding: bool = True
    """Padding, of expressions and of pictures, is not looked at. The thesis does not say; VLT's code looks at both."""
    decoder: MutualDecoderConfig = field(default_factory=MutualDecoderConfig)
    mask_decoder: MaskDecoderConfig = field(default_factory=MaskDecoderConfig)
    no_target_head: bool = False
    """A no-target logit from the mean of F_dec. The thesis has none: a mask of few pixels counts as none."""
    tags: tuple[str, ...] = ()
    """Words of which a linear map of F_vis says, cell by cell, whether they hold there ("red", "person"). The thesis
    has nothing of it: it lets an encoder that was not trained on anything before learn to see from drawn scenes, where
    everything is known. Answers do not use it."""
    losses: M3AttLosses = field(default_factory=M3AttLosses)

    def check(self) -> None:
        for name, heads in (("heads", self.heads), ("decoder.attention.heads", self.decoder.attention.heads)):
            if self.width % heads:
                raise ConfigError(f"{name}={heads} does not divide width={self.width}")
        if self.neck == "vlt" and self.stride != 16:
            raise ConfigError(f"stride={self.stride}: VLT's chain of maps ends at 16; take neck='sum' for others")
        part = self.mask_decoder
        if part.output_stride > self.stride or part.coarse + self.doublings > part.convs:
            raise ConfigError(
                f"mask_decoder: from stride {self.stride} to output_stride={part.output_stride} there are "
                f"{self.doublings} doublings, each before a convolution of its own; after coarse={part.coarse} "
                f"convs={part.convs} leaves {part.convs - part.coarse}"
            )

    @property
    def doublings(self) -> int:
        """How often the mask decoder doubles its maps."""
        return max(0, round(math.log2(self.stride / self.mask_decoder.output_stride)))

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of F_vis for the input size that is configured: those of the layers that know them."""
        side = -(-self.input.size // self.stride)
        return side, side

    @property
    def needs(self) -> Needs:
        """What the losses want beside masks and no-target labels."""
        return Needs(tags=self.tags)


PAPER = M3AttConfig()

PAPER_LSTM = replace(PAPER, text=RecurrentTextConfig(train_embedding=False, pool="last", cell="lstm"))

PAPER_SWIN = M3AttConfig(input=InputConfig(size=480), vision=SwinConfig(), text=BertTextConfig())

MINI = M3AttConfig(
    input=InputConfig(size=192),
    vision=SMALL_RESNET,
    text=RecurrentTextConfig(vocabulary_size=512, max_words=20, embedding=128, hidden=128, pool="mean", dropout=0.0),
    neck="sum",
    stride=8,
    width=128,
    heads=4,
    feedforward=384,
    dropout=0.0,
    mask_decoder=MaskDecoderConfig(width=64, convs=3, output_stride=4),
    losses=M3AttLosses(mask=2.0, dice=2.0, no_target=0.5),
)
"""The thesis's wiring at a size that trains on two CPU cores: a small ResNet, a bidirectional GRU learnt from nothing,
F_vis at stride 8, answers at stride 4, a dice loss."""

PRESETS: dict[str, M3AttConfig] = {
    "MINI": MINI,
    "PAPER": PAPER,
    "PAPER_LSTM": PAPER_LSTM,
    "PAPER_SWIN": PAPER_SWIN,
}

_SHARED = MutualAttentionConfig()
_INDEPENDENT = MutualAttentionConfig("independent")
_GENERIC = MutualAttentionConfig("language_attended", heads=8, output_norm="none")


def _layers(attention: MutualAttentionConfig, layers: int) -> M3AttConfig:
    """A row of table 5.1; the generic attention stands in the generic transformer's layer."""
    generic = attention.kind == "language_attended"
    return replace(PAPER, decoder=MutualDecoderConfig(layers, attention, requery=not generic))


def _components(attention: MutualAttentionConfig, interaction: Literal["iterative", "same", "none"]) -> M3AttConfig:
    """A row of table 5.2 without the reconstruction."""
    generic = attention.kind == "language_attended"
    decoder = MutualDecoderConfig(attention=attention, requery=not generic, interaction=interaction)
    return replace(PAPER, decoder=decoder, losses=M3AttLosses(reconstruction=0.0))


ABLATIONS: dict[str, M3AttConfig] = {
    **{
        f"table 5.1: {name}, {count} layer{'s' if count > 1 else ''}": _layers(attention, count)
        for name, attention in {"shared": _SHARED, "independent": _INDEPENDENT, "generic": _GENERIC}.items()
        for count in (1, 2, 3, 4)
    },
    "table 5.2 #0: baseline, generic": _components(_GENERIC, "none"),
    "table 5.2 #1: baseline, M3Att": _components(_SHARED, "none"),
    "table 5.2 #2: baseline + IMI": _components(_SHARED, "iterative"),
    "table 5.2 #3: baseline + IMI*": _components(_SHARED, "same"),
    "table 5.2 #4: M3Att": PAPER,
    "table 5.3: VLT's mask decoder": replace(
        PAPER, mask_decoder=MaskDecoderConfig("vlt", width=256, convs=7, coarse=3)
    ),
    "table 5.3: concat": replace(PAPER, mask_decoder=MaskDecoderConfig("concat")),
    "table 5.3: M3Att": PAPER,
    "section 5.2.2: vision-attended only": _layers(MutualAttentionConfig("vision_attended"), 3),
}
"""The last one is of the text: the thesis reports that it does not converge."""
