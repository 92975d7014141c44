"""MAttNet's configurations: the paper's, the published code's, one on the embedded detector, the small one, and the
rows of its ablation."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from annotated_types import Ge

from refseg.config import (
    Config,
    DropRate,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Probability,
    WordCount,
)
from refseg.encoders.vision.resnet import RESNET101, ResNetConfig
from refseg.errors import ConfigError
from refseg.geometry import InputConfig
from refseg.models.instances.config import DetectorConfig, ProposalConfig
from refseg.types import Needs

__all__ = ["ABLATIONS", "PRESETS", "LanguageConfig", "MAttNetConfig", "MAttNetLosses"]


@dataclass(frozen=True)
class LanguageConfig(Config):
    """Sizes of the language attention network (section 3.1)."""

    vocabulary_size: Annotated[int, Ge(3)] = 10000
    """Rows of the embedding table; training sets it from the vocabulary that it learns."""
    max_words: WordCount = 10
    """Words kept of an expression: 10 for RefCOCO and RefCOCO+, 20 for RefCOCOg."""
    embedding: PositiveInt = 512
    """Channels of an embedded word."""
    projection: NonNegativeInt = 0
    """Channels of a linear layer and ReLU behind the embedding (code); 0 has none. What comes out is e_t."""
    hidden: PositiveInt = 512
    """Channels of each direction of the LSTM."""
    dropout: DropRate = 0.5
    """Of the embedded words."""
    module_context: Literal["first_last", "final_states"] = "first_last"
    """What the module weights are computed from. first_last: [h_0, h_T], the outputs at the first and the last word
    (section 3.1). final_states: the last state of each direction (code)."""


@dataclass(frozen=True)
class MAttNetLosses(Config):
    """Weights of the losses (section 3.3) and how negatives are found."""

    object_rank: NonNegativeFloat = 1.0
    """Of the ranking loss against another object with the same expression."""
    expression_rank: NonNegativeFloat = 1.0
    """Of the ranking loss against the same object with another expression."""
    margin: PositiveFloat = 0.1
    """By how much a right pair is to score higher than a wrong one."""
    attribute: NonNegativeFloat = 1.0
    """Of the binary cross-entropy of the attributes."""
    attribute_weights: Literal["inverse_root", "rescaled"] = "inverse_root"
    """Of an attribute that occurs n times: 1 / sqrt(n) (section 3.2.1), or that, rescaled linearly so that the
    commonest has 1 and the rarest 10 (code)."""
    same_class: Probability = 0.3
    """How often a negative is taken from things of the target's class, where there are any (code)."""
    negatives: Literal["sampled", "hardest"] = "sampled"
    """sampled: drawn from the picture's other things and expressions, as published. hardest: the one that scores
    highest (ours: few steps teach more)."""
    target: NonNegativeFloat = 1.0
    """With selection = binary: of the binary cross-entropy of every thing."""


@dataclass(frozen=True)
class MAttNetConfig(Config):
    """A whole MAttNet; the defaults are the paper's wiring (section 3), on the embedded detector."""

    input: InputConfig = field(default_factory=lambda: InputConfig(size=640, resize="longest"))
    vision: ResNetConfig | None = None
    """Whose maps describe regions: a ResNet's (published: its third stage in a grid of the region, and its fourth stage
    run on that grid), or with None the embedded detector's pyramid (stride 8, and strides 16 and 32 together). Neither
    is trained: published features are those of a finished Mask R-CNN."""
    detector: DetectorConfig = field(
        default_factory=lambda: DetectorConfig(proposals=ProposalConfig(min_score=0.2, most=40))
    )
    """What proposes regions where none are given, and makes masks. Published: Mask R-CNN, scores from .65 on; NanoDet's
    scores are lower."""
    text: LanguageConfig = field(default_factory=LanguageConfig)
    regions: Literal["annotated", "detected"] = "annotated"
    """What training chooses among: a picture's annotated things, as published, or what the detector proposes. Answers
    are chosen among proposals in any case, unless regions are given (`Batch.regions`)."""
    grid: PositiveInt = 14
    """Cells along each side of a region in the subject module."""
    embed_dim: PositiveInt = 512
    """Channels of the space in which phrases and regions are compared, and of the attribute blob."""
    modular: bool = True
    """False: the table's baseline, which compares [subject; location] with the whole expression once."""
    subject_attributes: bool = True
    """An attribute blob joins the subject's features, taught by `losses.attribute` where `attributes` are named."""
    subject_attention: bool = True
    """The subject phrase attends to cells of the region; False averages them."""
    location_differences: bool = True
    """Offsets to things of the same class in the location module."""
    relationship: bool = True
    """The relationship module."""
    neighbors: PositiveInt = 5
    """Most things of the same class in the location module, the nearest ones."""
    contexts: PositiveInt = 5
    """Most things around a region in the relationship module."""
    context_order: Literal["nearest", "other_first"] = "nearest"
    """Which things those are: the nearest ones (section 3.2.3), or the nearest of other classes before those of the
    same class (code)."""
    padded_context: bool = False
    """True: a region with fewer than `contexts` things around it has further ones of score 0, so that its relationship
    score never falls below 0 (code)."""
    offsets: Literal["corner", "center"] = "corner"
    """From where offsets to another thing are measured: corner from corner (section 3.2.2), or both corners from the
    region's center (code)."""
    inclusive_edges: bool = False
    """True: boxes end on their last pixel, one before their edge (code)."""
    batch_norm: bool = False
    """Batch normalisation behind the linear layers that compare, and behind the attribute blob's (code)."""
    feature_norm: NonNegativeFloat = 0.0
    """Features are normalised and then scaled by learnt factors that start here (20 in the code); 0 leaves them."""
    matching_dropout: DropRate = 0.1
    """Between the two layers of each comparing MLP."""
    attribute_dropout: DropRate = 0.2
    """Before the attributes are told."""
    attributes: tuple[str, ...] = ()
    """Words that the subject module tells of a region (50 in the paper, the most frequent of colours and generic
    attributes that a parser found in a data set's expressions)."""
    attribute_counts: tuple[PositiveInt, ...] = ()
    """How often each of them occurs in the expressions that are learnt from; () weighs all alike."""
    selection: Literal["best", "binary"] = "best"
    """best: the region that scores highest, and never none. binary: every region of which a logit of its score says so,
    or none, as GRES trained MAttNet on gRefCOCO (section 5.4 there)."""
    fine_masks: bool = True
    """Masks of answers from the detector's mask decoder; without, its coarse ones."""
    max_masks: PositiveInt = 24
    """Most instances of one answer."""
    losses: MAttNetLosses = field(default_factory=MAttNetLosses)

    def check(self) -> None:
        if self.attributes and not self.subject_attributes:
            raise ConfigError("attributes: are told by the attribute blob, which subject_attributes=false leaves out")
        if self.attribute_counts and len(self.attribute_counts) != len(self.attributes):
            raise ConfigError(
                f"attribute_counts: {len(self.attribute_counts)} numbers for {len(self.attributes)} attributes"
            )
        if self.attributes and self.regions == "detected":
            raise ConfigError("attributes: are known of annotated things only; regions = annotated is wanted")
        if not self.modular and (self.relationship or self.subject_attributes or self.subject_attention):
            raise ConfigError(
                "modular=false: the baseline has no relationship, subject_attributes or subject_attention"
            )

    @property
    def needs(self) -> Needs:
        """Targets one by one, and annotated regions."""
        return Needs(instances=True, regions=self.regions == "annotated")

    @property
    def module_names(self) -> tuple[str, ...]:
        """The modules in the order of their weights; the baseline has none."""
        if not self.modular:
            return ()
        return ("subject", "location", "relationship") if self.relationship else ("subject", "location")


PAPER = MAttNetConfig(vision=RESNET101, input=InputConfig(size=1000, resize="longest"))

OFFICIAL = replace(
    PAPER,
    text=LanguageConfig(projection=512, module_context="final_states"),
    grid=7,
    context_order="other_first",
    padded_context=True,
    offsets="center",
    inclusive_edges=True,
    batch_norm=True,
    feature_norm=20.0,
    losses=MAttNetLosses(attribute_weights="rescaled"),
)
"""The published code."""

EMBEDDED = replace(OFFICIAL, vision=None, input=InputConfig(size=640, resize="longest"))
"""The published code's wiring on the maps of the embedded detector, whose weights come with the package."""

MINI = replace(
    EMBEDDED,
    input=InputConfig(size=192, resize="longest"),
    text=LanguageConfig(
        max_words=20, embedding=128, projection=128, hidden=128, dropout=0.1, module_context="final_states"
    ),
    embed_dim=128,
    selection="binary",
    fine_masks=False,
    losses=MAttNetLosses(attribute_weights="rescaled", negatives="hardest"),
)
"""A size that trains on two CPU cores: narrow layers, hardest negatives, any number of targets, coarse masks."""

PRESETS: dict[str, MAttNetConfig] = {"MINI": MINI, "PAPER": PAPER, "OFFICIAL": OFFICIAL, "EMBEDDED": EMBEDDED}

_PLAIN = replace(
    OFFICIAL, subject_attributes=False, subject_attention=False, location_differences=False, relationship=False
)
ABLATIONS: dict[str, MAttNetConfig] = {
    "table 2: Matching:subj+loc": replace(_PLAIN, modular=False),
    "table 2: MAttN:subj+loc": _PLAIN,
    "table 2: MAttN:subj+loc(+dif)": replace(_PLAIN, location_differences=True),
    "table 2: MAttN:subj+loc(+dif)+rel": replace(_PLAIN, location_differences=True, relationship=True),
    "table 2: MAttN:subj(+attr)+loc(+dif)+rel": replace(OFFICIAL, subject_attention=False),
    "table 2: MAttN:subj(+attr+attn)+loc(+dif)+rel": OFFICIAL,
    "GRES, table 5: MAttNet": replace(OFFICIAL, selection="binary"),
}
"""Rows of the paper's table 2, of which the one with an external parser ("parser+MAttN") is left out, and MAttNet as
GRES trained it on gRefCOCO. A row is trained on other features or at another size by changing the same fields."""
