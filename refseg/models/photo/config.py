"""The configuration of the photograph model, ours: ReLA's parts at a small size, with a detector's classes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from annotated_types import Ge, MultipleOf

from refseg.config import Config, PositiveFloat, PositiveInt
from refseg.encoders.text.transformer import WordTransformerConfig
from refseg.encoders.vision.nanodet import ShuffleNetConfig
from refseg.errors import ConfigError
from refseg.geometry import InputConfig
from refseg.models.photo.concepts import CLASSES, PHOTO_TAGS
from refseg.models.rela.config import FeaturePyramidConfig, ReLALosses
from refseg.models.rela.regions import RIAConfig
from refseg.models.rela.relations import StackedRLAConfig
from refseg.palette import COLORS
from refseg.types import Needs

__all__ = ["ABLATIONS", "PRESETS", "PhotoConfig"]


@dataclass(frozen=True)
class PhotoConfig(Config):
    """A whole photograph model; the defaults are those that the weights which ship (`rela-photo`) were trained
    with; of their `mask_units` one is left, since the others are 0 in nearly every answer."""

    input: InputConfig = field(default_factory=lambda: InputConfig(size=320))
    vision: ShuffleNetConfig = field(default_factory=ShuffleNetConfig)
    """With a pyramid and a head whose first outputs are the logits of `concepts.CLASSES`."""
    text: WordTransformerConfig = field(
        default_factory=lambda: WordTransformerConfig(
            max_words=20, vectors=50, concepts=len(CLASSES) + len(PHOTO_TAGS) + len(COLORS)
        )
    )
    """Its concepts are the detector's classes, `tags`, and the names of colours, in that order."""
    pixel_decoder: FeaturePyramidConfig = field(
        default_factory=lambda: FeaturePyramidConfig(fine_width=64, groups=16, positions=True)
    )
    width: Annotated[int, Ge(4), MultipleOf(4)] = 128
    """C: channels of mask features and regions."""
    regions: PositiveInt = 10
    """P: regions along each side of the image."""
    ria: RIAConfig = field(
        default_factory=lambda: RIAConfig(heads=4, scale=True, positions=True, query="cell", residual=True)
    )
    rla: StackedRLAConfig = field(
        default_factory=lambda: StackedRLAConfig(layers=4, heads=4, feedforward=384, product=True)
    )
    filter_layers: PositiveInt = 3
    """Linear layers from a region to its filter."""
    no_target_layers: PositiveInt = 2
    """Linear layers from the mean region to the no-target logit."""
    mask_scale: PositiveFloat = 0.1
    """Factor on the region masks; a small one starts training near the loss of an undecided mask."""
    mask_units: PositiveInt = 8
    """Hidden units of the dynamic mask head, a small MLP over pixels whose weights come from the expression."""
    tags: tuple[str, ...] = PHOTO_TAGS
    """Words of which a linear map of F_m says, pixel by pixel, whether they hold there."""
    losses: ReLALosses = field(
        default_factory=lambda: ReLALosses(
            mask=2.0, minimap=1.0, no_target=0.5, dice=2.0, mask_size="output", earlier=0.5
        )
    )

    def check(self) -> None:
        if self.vision.pyramid is None or self.vision.head is None or self.vision.head < len(CLASSES):
            raise ConfigError(f"vision.head={self.vision.head}: a head with {len(CLASSES)} classes or more is wanted")
        concepts = len(CLASSES) + len(self.tags) + len(COLORS)
        if self.text.concepts != concepts:
            raise ConfigError(
                f"text.concepts={self.text.concepts}: {concepts} are wanted, {len(CLASSES)} classes, {len(self.tags)} "
                f"tags and {len(COLORS)} colours"
            )

    @property
    def needs(self) -> Needs:
        """What the losses want beside masks and no-target labels."""
        return Needs(tags=self.tags)


PRESETS: dict[str, PhotoConfig] = {"RELA": PhotoConfig()}

ABLATIONS: dict[str, PhotoConfig] = {}
