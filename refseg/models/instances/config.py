"""The configuration of `instances`: detector, what it proposes, masks, language, chooser."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from annotated_types import Ge, Gt, Le

from refseg.config import Config, DropRate, NonNegativeFloat, PositiveFloat, PositiveInt
from refseg.encoders.text.minilm import MiniLMConfig
from refseg.encoders.vision.nanodet import NanoDetConfig
from refseg.geometry import InputConfig
from refseg.models.instances.masks import MaskDecoderConfig
from refseg.types import Needs

__all__ = [
    "ABLATIONS",
    "PRESETS",
    "ChooserConfig",
    "DetectorConfig",
    "InstancesConfig",
    "InstancesLosses",
    "ProposalConfig",
]

Overlap = Annotated[float, Gt(0), Le(1)]


@dataclass(frozen=True)
class ProposalConfig(Config):
    """Which boxes become proposals."""

    min_score: DropRate = 0.05
    """Places whose best class probability is lower are left out."""
    candidates: PositiveInt = 400
    """Most places of a head that go into suppression."""
    overlap: Overlap = 0.6
    """IoU from which the weaker of two boxes of one class goes (published: 0.6)."""
    merge_overlap: Overlap = 0.8
    """IoU from which boxes of different classes are one proposal with the larger of each class's probabilities; parts
    and garments (`classes.PART_OF`) are never merged with what they lie on."""
    most: PositiveInt = 96
    """Most proposals of a picture, best scores first."""


@dataclass(frozen=True)
class DetectorConfig(Config):
    """The detector of instances with its masks."""

    detector: NanoDetConfig = field(default_factory=NanoDetConfig)
    """Backbone, pyramid and first head."""
    proposals: ProposalConfig = field(default_factory=ProposalConfig)
    """Which boxes become proposals."""
    masks: MaskDecoderConfig = field(default_factory=MaskDecoderConfig)
    """The decoder of fine masks."""


@dataclass(frozen=True)
class ChooserConfig(Config):
    """What counts as evidence; each switch is a row of the ablation."""

    places: bool = True
    """Sides, near and far, middle, order and size: everything that boxes tell."""
    relations: bool = True
    """Phrases that stand to other phrases ("next to the dog")."""
    colours: bool = True
    relative: bool = True
    """Places relative to what fits the noun; without, to the picture."""
    least_score: PositiveFloat = 0.15
    """Fit at which something is as likely there as not, before calibration."""
    trained: bool = True
    """Whether the weights are parameters; without, they stay the rules'."""


@dataclass(frozen=True)
class InstancesLosses(Config):
    """Weights of the losses of the referring part."""

    choice: NonNegativeFloat = 1.0
    """Cross-entropy over the proposals."""
    no_target: NonNegativeFloat = 0.5
    """Binary cross-entropy of the no-target logit."""
    anchor: NonNegativeFloat = 0.05
    """Of the squared distance of the chooser's weights to the rules', in units of the rules."""


@dataclass(frozen=True)
class InstancesConfig(Config):
    """The system; each part has its own."""

    input: InputConfig = field(default_factory=lambda: InputConfig(size=640, resize="longest"))
    """The image that detector (which sees it at 416 x 416) and mask decoder look at."""
    detector: DetectorConfig = field(default_factory=DetectorConfig)
    text: MiniLMConfig | None = field(default_factory=MiniLMConfig)
    """The language model behind words that no list holds; None knows the lists alone."""
    chooser: ChooserConfig = field(default_factory=ChooserConfig)
    losses: InstancesLosses = field(default_factory=InstancesLosses)
    fine_masks: bool = True
    """Masks of chosen instances from the mask decoder; without, the proposals' coarse ones."""
    max_masks: Annotated[int, Ge(1)] = 24
    """Most instances of one answer."""

    @property
    def needs(self) -> Needs:
        """Targets one by one."""
        return Needs(instances=True)


PRESETS: dict[str, InstancesConfig] = {"DEFAULT": InstancesConfig()}

ABLATIONS: dict[str, InstancesConfig] = {
    "without-language-pretraining": InstancesConfig(text=None),
    "without-places": InstancesConfig(chooser=ChooserConfig(places=False)),
    "without-relative-places": InstancesConfig(chooser=ChooserConfig(relative=False)),
    "without-relations": InstancesConfig(chooser=ChooserConfig(relations=False)),
    "without-colors": InstancesConfig(chooser=ChooserConfig(colours=False)),
    "symbolic": InstancesConfig(chooser=ChooserConfig(trained=False)),
    "coarse-masks": InstancesConfig(fine_masks=False),
}
"""Rows of our own table, which `refseg studies instance-ablations` measures over the same proposals; "without absent
names" is `absent = false` of the training stage, as it changes the expressions and not the model."""
