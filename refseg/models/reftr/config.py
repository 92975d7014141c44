"""RefTR's configurations: the paper's, the published code's, the small one, and one for each switch.

Where paper and code differ, the difference is a field; the defaults are the paper's words.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Lt, MultipleOf

from refseg.config import Config, DropRate, NonNegativeFloat, NonNegativeInt, PositiveInt
from refseg.encoders.text.bert import BertTextConfig
from refseg.encoders.text.transformer import WordTransformerConfig
from refseg.encoders.vision.nanodet import ShuffleNetConfig
from refseg.encoders.vision.resnet import RESNET101, SMALL_RESNET, ResNetConfig
from refseg.encoders.vision.swin import SwinConfig
from refseg.errors import ConfigError
from refseg.geometry import InputConfig
from refseg.nn.losses import SharedLosses
from refseg.nn.positions import PositionKind
from refseg.types import Needs

__all__ = ["ABLATIONS", "PRESETS", "RefTRConfig", "RefTRLosses"]

_INPUT = InputConfig(size=640, resize="longest", divisor=1, rasterise="original")
_BERT = BertTextConfig(max_words=40, pooler=True)


@dataclass(frozen=True)
class RefTRLosses(SharedLosses):
    """Weights of the losses (equations 3 and 4); all are 1 in the published configurations, the paper gives none."""

    box_l1: NonNegativeFloat = 1.0
    box_giou: NonNegativeFloat = 1.0
    focal: NonNegativeFloat = 1.0
    dice: NonNegativeFloat = 1.0
    focal_alpha: Annotated[float, Gt(0), Lt(1)] = 0.25
    """Weight of foreground pixels in the focal loss; background has one minus it."""
    focal_gamma: NonNegativeFloat = 2.0
    """How much the focal loss passes over pixels that are certain."""
    auxiliary: NonNegativeFloat = 0.0
    """Factor on the box losses of the earlier decoder layers. The code has 1 while boxes are learnt alone and 0 with
    masks; the paper says nothing."""
    consistency: NonNegativeFloat = 0.0
    """Of MCN's consistency energy between boxes and masks (Luo et al., CVPR 2020), which the paper argues against. The
    code can switch it on. More than 0 adds its small heads to the model."""
    phrases: Literal["sum", "mean"] = "sum"
    """Box losses of a sentence's phrases: added up, as in the code, where a sentence counts as one; or averaged."""
    mask_size: Literal["input", "output"] = "input"
    """Where mask losses are taken: at the input's size with enlarged logits, as in the code; or at the output's, with
    the target's share of each cell, which costs a sixteenth."""


@dataclass(frozen=True)
class RefTRConfig(Config):
    """A whole RefTR; the defaults are the paper's (sections 3 and 4.2)."""

    input: InputConfig = _INPUT
    vision: ResNetConfig | SwinConfig | ShuffleNetConfig = field(default_factory=ResNetConfig)
    text: BertTextConfig | WordTransformerConfig = _BERT
    tasks: Literal["both", "rec", "res"] = "both"
    """rec: boxes alone; the mask is then the inside of the box. res: masks alone. both: joint training."""
    width: Annotated[int, Ge(16), MultipleOf(16)] = 256
    """C: channels of all tokens and queries."""
    heads: PositiveInt = 8
    encoder_layers: PositiveInt = 6
    """Of the visual-lingual encoder."""
    decoder_layers: NonNegativeInt = 6
    """0: without decoder, the queries go straight to the heads."""
    feedforward: PositiveInt = 2048
    """Hidden units of the feed-forward networks."""
    dropout: DropRate = 0.1
    positions: PositionKind = "sine"
    """Of pixels; see `refseg.nn.positions`."""
    text_positions: int = 128
    """Rows of the learnt table of word positions."""
    context_words: Literal["encoder", "embeddings"] = "encoder"
    """What of the sentence enters the visual-lingual encoder: words that the text encoder has read, or its embeddings
    alone, so that only phrases are read by it."""
    context: Literal["average", "attention", "none"] = "average"
    """What a phrase takes from its place in the encoded sentence: average, the mean of its words (equation 1);
    attention, what the sentence's first token finds among them, added to that token (code); none, nothing."""
    query_bias: Literal["content", "content_position"] = "content"
    """content: a query is the fused phrase and a learnt bias E_p (equation 2). content_position: and the same with a
    second bias is its position, which the decoder adds to it in attention (code)."""
    phrases: NonNegativeInt = 0
    """So many phrases of a sentence are learnt at once, where the data have them; 0: each sentence is one phrase. It
    says what training reads; answers take what `Batch.phrases` holds."""
    queries: PositiveInt = 1
    """Queries for each phrase; the first one answers."""
    box_layers: PositiveInt = 2
    """Linear layers of the box head: two in the paper's words, three in the code."""
    groups: PositiveInt = 32
    """Groups of the normalisation behind the projection of the picture's map."""
    mask_groups: PositiveInt = 8
    """Groups of the normalisations in the mask head."""
    mask_prior: Annotated[float, Gt(0), Lt(1)] = 0.5
    """How probable foreground is before the first step, everywhere: one half in the code, whose bias starts at 0. The
    focal loss was published with a small one (Lin et al., ICCV 2017, section 4.1): without it the background outweighs
    small targets until the last convolution has grown, which with few channels takes long."""
    no_target_head: bool = False
    """A no-target logit of the decoded queries. RefTR has none; with it, it can learn GRES."""
    tags: tuple[str, ...] = ()
    """Words of which a linear map of f_img says, place by place, whether they hold there ("red", "person"). Neither
    paper nor code has this: it lets an encoder that was not trained on anything before learn to see from drawn scenes,
    where everything is known. Answers do not use it."""
    losses: RefTRLosses = field(default_factory=RefTRLosses)

    def check(self) -> None:
        if self.width % self.heads:
            raise ConfigError(f"heads={self.heads} does not divide width={self.width}")
        needed = self.text.max_words + (0 if isinstance(self.text, BertTextConfig) else 1)
        if self.text_positions < needed:
            raise ConfigError(f"text_positions={self.text_positions}: expressions of text.max_words need {needed}")
        if self.losses.consistency and self.tasks != "both":
            raise ConfigError("losses.consistency: ties boxes to masks and wants tasks = both")

    @property
    def needs(self) -> Needs:
        """What the losses want beside masks and no-target labels."""
        return Needs(boxes=self.tasks != "res", phrases=self.phrases, tags=self.tags, reads_phrases=True)


PAPER = RefTRConfig()
PAPER_R101 = replace(PAPER, vision=RESNET101)

OFFICIAL = replace(PAPER, context="attention", query_bias="content_position", box_layers=3)
"""Stage B of the published training: boxes and masks of one phrase."""
OFFICIAL_R101 = replace(OFFICIAL, vision=RESNET101)
OFFICIAL_REC = replace(OFFICIAL, tasks="rec", losses=RefTRLosses(auxiliary=1.0))
"""Stage A: boxes alone, with which stage B begins."""
OFFICIAL_REFERIT = replace(OFFICIAL_REC, decoder_layers=3)
OFFICIAL_MULTI = replace(OFFICIAL_REC, text=replace(_BERT, max_words=90), phrases=16)
"""Flickr30k Entities: up to 16 phrases of a caption at once."""

MINI = replace(
    OFFICIAL,
    input=InputConfig(size=192, resize="longest", divisor=32),
    vision=replace(SMALL_RESNET, dilated=True),
    text=WordTransformerConfig(max_words=20),
    width=128,
    encoder_layers=3,
    decoder_layers=3,
    feedforward=384,
    dropout=0.0,
    text_positions=24,
    mask_prior=0.02,
    losses=RefTRLosses(box_l1=5.0, focal=20.0, dice=2.0, auxiliary=0.3),
)
"""The published wiring at a size that trains on two CPU cores: words learnt from nothing, a map of stride 16 in the
encoder, the L1 of boxes weighted as DETR does, mask losses weighted so that they are of the size of the box losses, and
a background that starts quiet: a mask head of eight channels is slow to silence it."""

PRESETS: dict[str, RefTRConfig] = {
    "MINI": MINI,
    "PAPER": PAPER,
    "PAPER_R101": PAPER_R101,
    "OFFICIAL": OFFICIAL,
    "OFFICIAL_R101": OFFICIAL_R101,
    "OFFICIAL_REC": OFFICIAL_REC,
    "OFFICIAL_REFERIT": OFFICIAL_REFERIT,
    "OFFICIAL_MULTI": OFFICIAL_MULTI,
}

ABLATIONS: dict[str, RefTRConfig] = {
    "table 1: ResNet-50": PAPER,
    "table 1: ResNet-101": PAPER_R101,
    "multi-task: boxes and masks": OFFICIAL,
    "multi-task: boxes alone": replace(OFFICIAL, tasks="rec"),
    "multi-task: masks alone": replace(OFFICIAL, tasks="res"),
    "context: attention": OFFICIAL,
    "context: average": replace(OFFICIAL, context="average"),
    "context: none": replace(OFFICIAL, context="none"),
    "context words: embeddings alone": replace(OFFICIAL, context_words="embeddings"),
    "decoder: none": replace(OFFICIAL, decoder_layers=0),
    "decoder: 3 layers": replace(OFFICIAL, decoder_layers=3),
    "losses: boxes of earlier layers": replace(OFFICIAL, losses=RefTRLosses(auxiliary=1.0)),
    "losses: consistency": replace(OFFICIAL, losses=RefTRLosses(consistency=1.0)),
    "positions: learned": replace(OFFICIAL, positions="learned"),
    "picture: dilated last stage": replace(OFFICIAL, vision=ResNetConfig(dilated=True)),
    "text: RoBERTa": replace(OFFICIAL, text=replace(_BERT, family="roberta", vocabulary_size=50265, positions=514)),
}
"""The rows of table 1 that are RefTR's, and the published code's switches one by one."""
