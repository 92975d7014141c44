"""LAVT's configurations: the paper's, and the published code's."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from refseg.config import Config, NonNegativeFloat, PositiveFloat, PositiveInt
from refseg.encoders.text.bert import BertTextConfig
from refseg.encoders.text.transformer import WordTransformerConfig
from refseg.encoders.vision.swin import SWIN_T, SwinConfig
from refseg.errors import ConfigError
from refseg.geometry import InputConfig
from refseg.nn.losses import SharedLosses
from refseg.types import Needs

__all__ = ["ABLATIONS", "PRESETS", "LAVTConfig", "LAVTLosses"]


@dataclass(frozen=True)
class LAVTLosses(SharedLosses):
    """Weights of the losses; the defaults are the paper's, which has cross entropy alone."""

    mask: NonNegativeFloat = 1.0
    background: PositiveFloat = 1.0
    """Class weight of background pixels; 0.9 in the published code."""
    foreground: PositiveFloat = 1.0
    """Class weight of foreground pixels; 1.1 in the published code."""


@dataclass(frozen=True)
class LAVTConfig(Config):
    """A whole LAVT; the defaults are the paper's (section 4.1)."""

    input: InputConfig = field(default_factory=InputConfig)
    vision: SwinConfig = field(default_factory=SwinConfig)
    text: WordTransformerConfig | BertTextConfig = field(default_factory=BertTextConfig)
    width: PositiveInt = 512
    """Channels of the decoder's maps; 512 in the code for Swin-B, half of its widest stage."""
    norm: Literal["batch", "group"] = "batch"
    """Normalisation in the decoder; batch in the paper. Groups serve training with few expressions at once."""
    groups: PositiveInt = 16
    """Groups, with norm = group."""
    no_target_head: bool = False
    """A no-target logit of the last stage's fused pixels. LAVT has none; GRES clears its small masks."""
    tags: tuple[str, ...] = ()
    """Words of which a linear map of the decoder's finest map says, place by place, whether they hold there. Neither
    paper nor code has this, and answers do not use it. Pixels have read an expression by then; the mean over a
    picture's expressions counts."""
    losses: LAVTLosses = field(default_factory=LAVTLosses)

    def check(self) -> None:
        if self.norm == "group" and self.width % self.groups:
            raise ConfigError(f"groups={self.groups} does not divide width={self.width}")

    @property
    def needs(self) -> Needs:
        """What the losses want beside masks and no-target labels."""
        return Needs(tags=self.tags)


PAPER = LAVTConfig()
OFFICIAL = replace(PAPER, losses=LAVTLosses(background=0.9, foreground=1.1))
OFFICIAL_SWIN_T = replace(OFFICIAL, vision=SwinConfig(**{**SWIN_T.__dict__, "drop_path": 0.3}), width=384)

MINI = LAVTConfig(
    input=InputConfig(size=192),
    vision=SwinConfig(embed_dim=32, depths=(1, 2, 2, 1), heads=(1, 2, 4, 8), window=6, drop_path=0.0),
    text=WordTransformerConfig(),
    width=64,
    norm="group",
    losses=LAVTLosses(mask=2.0, dice=2.0, no_target=0.5),
)
"""The paper's wiring at a size that trains on two CPU cores: a small Swin and whole words, learnt from nothing, and a
dice loss."""

PRESETS: dict[str, LAVTConfig] = {
    "MINI": MINI,
    "PAPER": PAPER,
    "OFFICIAL": OFFICIAL,
    "OFFICIAL_SWIN_T": OFFICIAL_SWIN_T,
}

ABLATIONS: dict[str, LAVTConfig] = {"GRES, table 5: LAVT": OFFICIAL}
"""LAVT as GRES trained it on gRefCOCO; LAVT+ReLA of the same table is a row of ReLA's."""
