"""VLT's configurations: the thesis' and journal's, the published code's, small ones, and the rows of the tables."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from annotated_types import Ge, Le, MultipleOf

from refseg.config import Config, DropRate, NonNegativeFloat, PositiveFloat, PositiveInt, PowerOfTwo
from refseg.encoders.text.bert import BertTextConfig
from refseg.encoders.text.recurrent import RecurrentTextConfig
from refseg.encoders.text.transformer import WordTransformerConfig
from refseg.encoders.vision.darknet import DARKNET_INPUT, DarkNetConfig
from refseg.encoders.vision.nanodet import ShuffleNetConfig
from refseg.encoders.vision.resnet import SMALL_RESNET, ResNetConfig
from refseg.encoders.vision.swin import SwinConfig
from refseg.encoders.vision.video_swin import VideoSwinConfig
from refseg.errors import ConfigError
from refseg.geometry import InputConfig
from refseg.models.rela.regions import RegionDecoderConfig
from refseg.models.vlt.contrast import InterSampleConfig
from refseg.models.vlt.fusion import FusionConfig
from refseg.nn.losses import SharedLosses
from refseg.types import ContrastNeeds, Needs

__all__ = [
    "ABLATIONS",
    "PRESETS",
    "ConvolutionsConfig",
    "FusionConfig",
    "InterSampleConfig",
    "MaskDecoderConfig",
    "QueryConfig",
    "TransformerConfig",
    "VLTConfig",
    "VLTLosses",
]


@dataclass(frozen=True)
class QueryConfig(Config):
    """Where the decoder's queries F_q come from (section 4.2.2, tables 4.2 and 4.3)."""

    kind: Literal["generated", "learnt", "words"] = "generated"
    """generated: the Query Generation Module. learnt: vectors that are the same for every input. words: the word
    vectors and the sentence's."""
    number: Annotated[int, Ge(1), Le(32)] = 16
    """N_q, 1 to 32; with kind words it is the number of word slots and one more, whatever this says."""
    source: Literal["raw", "fused"] = "raw"
    """The map that generated queries come from: F_vr, which knows no expression (text, so that it is computed once a
    picture), or the fused one (published code)."""
    form: Literal["text", "code"] = "text"
    """text: three convolutions and one attention map a query (equations 4.4 to 4.6). code: coordinates beside the map,
    four convolutions, and multi-head attention with projections of its own and positions of words and queries."""
    heads: PositiveInt = 8
    """Of the attention with form code."""
    channels: tuple[PositiveInt, PositiveInt] | None = (64, 32)
    """form text: of the first two convolutions, whose third gives N_q maps; nothing keeps the map's channels, as the
    published code does. The text gives no number; with these the modules of table 4.1 have its size."""


@dataclass(frozen=True)
class TransformerConfig(Config):
    """Encoder and decoder (section 4.2.6)."""

    encoder_layers: PositiveInt = 2
    decoder_layers: PositiveInt = 2
    heads: PositiveInt = 8
    head_width: PositiveInt = 256
    """Channels of each head: the text sets "the hidden layer size in all heads" to 256, the published code has 32. With
    256 the transformer has the 17.5 million parameters of table 4.1, with 32 an eighth of them."""
    feedforward: PositiveInt = 2048
    """Hidden units of the feed-forward networks: 2048 in the standard transformer (Vaswani et al.), which the text
    says it uses, 256 in the published code."""
    dropout: DropRate = 0.1
    norm_eps: PositiveFloat = 1e-5
    """Added to variances by the layer normalisation; 1e-14 in the published code's library."""
    attention_relu: bool = False
    """Rectify queries, keys, values and output of every attention, as the published code's library does."""
    causal: bool = False
    """A query looks at itself and those before it alone in the decoder's self-attention, as in the published code."""
    positions: Literal["sine2d", "sine1d"] = "sine2d"
    """Of places: sines of row and column (text), or of the place's number in reading order (published code)."""
    query_positions: bool = False
    """Add sines of their number to the queries before the decoder, as the published code does."""


@dataclass(frozen=True)
class ConvolutionsConfig(Config):
    """3x3 convolutions in the place of transformer, queries and balance (table 4.1)."""

    depth: PositiveInt = 7
    hidden: PositiveInt = 512
    """Channels of each; the table gives about 16.6 million parameters for them. With what they need more in the mask
    decoder they are 16.5 million."""


@dataclass(frozen=True)
class MaskDecoderConfig(Config):
    """From responses to the mask (section 4.2.4)."""

    source: Literal["kernel", "dense"] = "kernel"
    """F_m: kernel applies the responses to the encoder's output (equation 4.7); dense makes each response a map by a
    linear layer, without the encoder's output (published code)."""
    layout: Literal["text", "code"] = "text"
    """text: three 3x3 convolutions, each followed by an enlargement by 2, and a 1x1 one. code: three 3x3 convolutions,
    one more after each enlargement, and a 3x3 one."""
    channels: PositiveInt = 256
    output_stride: PowerOfTwo = 2
    """Pixels along a cell of the answer; a power of 2, at most the stride of the grid."""


@dataclass(frozen=True)
class VLTLosses(SharedLosses):
    """Weights of the losses; the defaults are the text's, which names binary cross entropy."""

    mask: NonNegativeFloat = 1.0
    reduction: Literal["mean", "sum"] = "mean"
    """Of the cross entropy over pixels; the published code sums over them. Over expressions it is the mean."""
    kernel_decay: NonNegativeFloat = 0.0
    """Times the sum of the squares of all trained convolutions' kernels; 5e-4 in the published code."""
    minimap: NonNegativeFloat = 1.0
    """Of the minimap, where ReLA's block decodes."""


@dataclass(frozen=True)
class VLTConfig(Config):
    """A whole VLT; the defaults are the thesis' with DarkNet-53 (chapter 4). The published threshold on
    probabilities is .35 (`refseg segment --threshold 0.35`)."""

    input: InputConfig = DARKNET_INPUT
    vision: DarkNetConfig | SwinConfig | VideoSwinConfig | ResNetConfig | ShuffleNetConfig = field(
        default_factory=DarkNetConfig
    )
    text: RecurrentTextConfig | BertTextConfig | WordTransformerConfig = field(
        default_factory=lambda: RecurrentTextConfig(train_embedding=False)
    )
    width: Annotated[int, Ge(4), MultipleOf(4)] = 256
    """C: channels of everything behind the encoders."""
    stride: Literal[8, 16] = 16
    """Of the grid on which places are fused; 16 in text and code. 8 lets small pictures have as many places."""
    fusion: FusionConfig = field(default_factory=FusionConfig)
    queries: QueryConfig = field(default_factory=QueryConfig)
    balance: bool = True
    """The Query Balance Module (section 4.2.3): responses times a confidence each."""
    transformer: TransformerConfig | ConvolutionsConfig = field(default_factory=TransformerConfig)
    mask_decoder: MaskDecoderConfig | RegionDecoderConfig = field(default_factory=MaskDecoderConfig)
    """A `RegionDecoderConfig` puts ReLA's block behind the encoder, in the place of queries, decoder, balance and mask
    decoder (GRES, table 5: VLT+ReLA)."""
    regions: PositiveInt = 10
    """P of ReLA's block."""
    inter_sample: InterSampleConfig = field(default_factory=InterSampleConfig)
    slope: float = 0.0
    """Of the rectification below 0 behind convolutions: text ReLU, published code .1."""
    conv_eps: PositiveFloat = 1e-5
    """Added to variances by batch normalisation; .001 in the published code."""
    mask_padding: bool = True
    """Padding words and padded places are never looked at. The published code looks at both."""
    no_target_head: bool = False
    """A no-target logit, which VLT has not; without it a mask of few pixels counts as none."""
    tags: tuple[str, ...] = ()
    """Words of which a linear map of F_vr says where they hold; see `refseg.nn.losses`."""
    losses: VLTLosses = field(default_factory=VLTLosses)

    def check(self) -> None:
        if self.queries.form == "code" and self.width % self.queries.heads:
            raise ConfigError(f"queries.heads={self.queries.heads} does not divide width={self.width}")
        if self.fusion.kind == "product" and self.stride != 16:
            raise ConfigError(f"stride={self.stride}: the fusion of the published code is made for 16")
        if self.inter_sample.kind == "mcl" and not self.generates:
            raise ConfigError(
                'inter_sample.kind: masked words need generated queries; choose "cl" or "none" with these queries'
            )
        if self.inter_sample.kind != "none" and isinstance(self.mask_decoder, RegionDecoderConfig):
            raise ConfigError('inter_sample.kind: ReLA\'s block has no mask features F_m; choose "none"')
        if isinstance(self.mask_decoder, MaskDecoderConfig):
            if self.mask_decoder.output_stride > self.stride:
                raise ConfigError(f"mask_decoder.output_stride: at most the grid's stride {self.stride} is possible")
            ups = (self.stride // self.mask_decoder.output_stride).bit_length() - 1
            if self.mask_decoder.layout == "text" and ups > 3:
                raise ConfigError("mask_decoder: three convolutions enlarge 8 times at most; raise output_stride")
        if self.losses.tags and self.tags and not self.has_raw_map:
            raise ConfigError('tags: they are read off F_vr, which the fusion "product" does not make')

    @property
    def generates(self) -> bool:
        """Whether queries come from the Query Generation Module."""
        decodes = isinstance(self.transformer, TransformerConfig) and isinstance(self.mask_decoder, MaskDecoderConfig)
        return decodes and self.queries.kind == "generated"

    @property
    def has_raw_map(self) -> bool:
        """Whether F_vr is made."""
        return self.fusion.kind != "product" or (self.generates and self.queries.source == "raw")

    @property
    def grid(self) -> int:
        """Places along a side of the grid that linear layers over places are made for."""
        return self.input.size // self.stride

    @property
    def needs(self) -> Needs:
        """What the losses want beside masks and no-target labels."""
        part, contrast = self.inter_sample, None
        if part.kind != "none":
            contrast = ContrastNeeds(part.compose, part.same_object, part.other_object, part.frames)
        return Needs(tags=self.tags, contrast=contrast)


PAPER = VLTConfig()

_ALONE = InterSampleConfig(kind="none")

PAPER_SWIN = replace(
    PAPER,
    input=InputConfig(size=480),
    vision=SwinConfig(),
    text=BertTextConfig(),
)
"""Swin-B and BERT, trained end to end (table 4.7); images warped to 480, since the text gives no other size."""

PAPER_VIDEO = replace(PAPER_SWIN, vision=VideoSwinConfig(), inter_sample=replace(PAPER.inter_sample, frames=2))
"""Video Swin-B, "the same as ReferFormer", for clips (section 4.3.5, table 4.8); negatives of two frames each way."""

OFFICIAL = VLTConfig(
    text=RecurrentTextConfig(train_embedding=False, cell="keras_gru", mask_padding=False),
    fusion=FusionConfig(kind="product"),
    queries=QueryConfig(source="fused", form="code", channels=None),
    transformer=TransformerConfig(
        head_width=32,
        feedforward=256,
        norm_eps=1e-14,
        attention_relu=True,
        causal=True,
        positions="sine1d",
        query_positions=True,
    ),
    mask_decoder=MaskDecoderConfig(source="dense", layout="code"),
    inter_sample=_ALONE,
    slope=0.1,
    conv_eps=1e-3,
    mask_padding=False,
    losses=VLTLosses(reduction="sum", kernel_decay=5e-4),
)
"""The published code (ICCV 2021, Keras): another fusion, other queries and another mask decoder, nothing between
samples; see refseg/models/vlt/README.md."""

RELA = replace(PAPER_SWIN, mask_decoder=RegionDecoderConfig(), inter_sample=_ALONE)
"""VLT+ReLA of GRES (table 5), on Swin-B and BERT like that table's other rows."""

MINI = VLTConfig(
    input=InputConfig(size=192),
    vision=SMALL_RESNET,
    text=RecurrentTextConfig(vocabulary_size=512, max_words=20, embedding=128, hidden=128),
    width=96,
    stride=8,
    queries=QueryConfig(channels=None),
    transformer=TransformerConfig(heads=3, head_width=32, feedforward=256, dropout=0.0),
    mask_decoder=MaskDecoderConfig(layout="code", channels=64, output_stride=4),
    inter_sample=_ALONE,
    losses=VLTLosses(mask=2.0, dice=2.0, no_target=0.5),
)
"""The thesis' wiring at a size that trains on two CPU cores: a small ResNet, a GRU learnt from nothing, a grid of
stride 8, which has as many places as 416 pixels at 16, and answers at stride 4, where the code's mask decoder still
has a convolution; the text's ends before its last enlargement."""

MINI_MCL = replace(MINI, inter_sample=InterSampleConfig(anchors="all", compose=False))
"""MINI with masked contrastive learning; a batch has several expressions of each image, each an initial sample."""

PRESETS: dict[str, VLTConfig] = {
    "MINI": MINI,
    "MINI_MCL": MINI_MCL,
    "PAPER": PAPER,
    "PAPER_SWIN": PAPER_SWIN,
    "PAPER_VIDEO": PAPER_VIDEO,
    "OFFICIAL": OFFICIAL,
    "RELA": RELA,
}


def _queries(**changes: object) -> VLTConfig:
    return replace(PAPER, queries=replace(PAPER.queries, **changes))  # type: ignore[arg-type]


def _between(**changes: object) -> VLTConfig:
    return replace(PAPER, inter_sample=replace(PAPER.inter_sample, **changes))  # type: ignore[arg-type]


_CL = replace(PAPER.inter_sample, kind="cl")

ABLATIONS: dict[str, VLTConfig] = {
    # Learning between samples is of queries' mask features, which the convolutions have not.
    "table 4.1: 7 conv layers": replace(PAPER, transformer=ConvolutionsConfig(), inter_sample=_ALONE),
    "table 4.1: transformer": PAPER,
    # Masked words are words of generated queries: the two others learn between samples without them.
    "table 4.2 #1: F_t": replace(PAPER, queries=QueryConfig("words"), inter_sample=_CL),
    "table 4.2 #2: learnt": replace(PAPER, queries=QueryConfig("learnt"), inter_sample=_CL),
    "table 4.2 #3: QGM": PAPER,
    **{f"table 4.3: {number} queries": _queries(number=number) for number in (1, 2, 4, 8, 16, 32)},
    "table 4.3: 16 queries, no QBM": replace(PAPER, balance=False),
    "table 4.4: tile": replace(PAPER, fusion=FusionConfig("tile")),
    "table 4.4: tile + conv x 4": replace(PAPER, fusion=FusionConfig("tile_conv4")),
    "table 4.4: SDF": PAPER,
    "table 4.5: without CL": replace(PAPER, inter_sample=_ALONE),
    "table 4.5: CL": replace(PAPER, inter_sample=_CL),
    "table 4.5: MCL": PAPER,
    "table 4.6: none": replace(PAPER, inter_sample=_CL),
    "table 4.6: random": _between(word_select="random"),
    "table 4.6: threshold": _between(word_select="threshold"),
    "table 4.6: p_m": PAPER,
    **{f"figure 4.13: N_DO {share:.0%}": _between(other_object=share) for share in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)},
    "table 4.7: Darknet-53": PAPER,
    "table 4.7: Swin-B": PAPER_SWIN,
    "table 4.8: video, frames apart": replace(PAPER_VIDEO, inter_sample=PAPER.inter_sample),
    "table 4.8: video, 2 frames each way": PAPER_VIDEO,
    "GRES table 5: VLT+ReLA": RELA,
}
