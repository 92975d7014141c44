"""The configuration of a model of transformers behind the interface of this package."""

from __future__ import annotations

from dataclasses import dataclass, field

from refseg.config import Config, PositiveInt, Probability
from refseg.geometry import InputConfig
from refseg.types import Needs

__all__ = ["FoundationConfig", "own_pixels"]


def own_pixels() -> InputConfig:
    """Pictures as they are, in units of 0 to 255: each network places them by its own processor."""
    return InputConfig(size=1344, resize="shrink", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), divisor=1)


@dataclass(frozen=True)
class FoundationConfig(Config):
    """How answers are made of what such a network says; the network has its own configuration."""

    sources: tuple[str, ...] = ()
    """Folder or hub id of the network, and of the segmenter that makes masks of its boxes, where there is one."""
    family: str = ""
    """The first network's `model_type`."""
    input: InputConfig = field(default_factory=own_pixels)
    """Pictures whose longer side has more pixels than `input.size` are made smaller before the network's processor
    sees them; others are not touched."""
    score_threshold: Probability = 0.5
    """Instances that score more are the answer. Where none does, the no-target probability is above one half, and the
    best one is the answer to whoever asks with a higher no-target threshold."""
    max_instances: PositiveInt = 50
    """Most instances of one answer, best first."""
    proposal_threshold: Probability = 0.2
    """Instances of a bare name that score more are proposed to a model that reasons over instances."""
    prompt: str = "{}"
    """What the network is asked; {} is the expression."""
    num_beams: PositiveInt = 1
    """Of networks that write their answer: beams of the search; 1 is greedy."""
    max_new_tokens: PositiveInt = 256
    """Of networks that write their answer: tokens at most."""

    @property
    def needs(self) -> Needs:
        """Nothing: these networks are not trained here."""
        return Needs()
