"""LAVT's configurations: the paper's, and the published code's."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from refseg.data.transforms import InputConfig
from refseg.encoders.text.bert import BertTextConfig
from refseg.encoders.text.transformer import WordTransformerConfig
from refseg.encoders.vision.swin import SWIN_T, SwinConfig
from refseg.errors import ConfigError

__all__ = ["ABLATIONS", "PRESETS", "LAVTConfig", "LAVTLosses"]


@dataclass(frozen=True)
class LAVTLosses:
    """Weights of the losses; the defaults are the paper's, which has cross entropy alone."""

    mask: float = 1.0
    dice: float = 0.0
    """Of the dice loss on the mask; neither the paper nor its code has one."""
    background: float = 1.0
    """Class weight of background pixels; 0.9 in the published code."""
    foreground: float = 1.0
    """Class weight of foreground pixels; 1.1 in the published code."""
    no_target: float = 1.0
    """Of the verdict, with `no_target_head`."""
    tags: float = 0.3
    """Of the tags (see `LAVTConfig.tags`), where there are any."""

    def __post_init__(self) -> None:
        for name in ("mask", "dice", "no_target", "tags"):
            if getattr(self, name) < 0:
                raise ConfigError(f"losses.{name}={getattr(self, name)}: 0 or more is wanted")
        if min(self.background, self.foreground) <= 0:
            raise ConfigError("losses.background and losses.foreground must be positive")


@dataclass(frozen=True)
class LAVTConfig:
    """A whole LAVT; the defaults are the paper's (section 4.1)."""

    input: InputConfig = field(default_factory=InputConfig)
    vision: SwinConfig = field(default_factory=SwinConfig)
    text: WordTransformerConfig | BertTextConfig = field(default_factory=BertTextConfig)
    width: int = 512
    """Channels of the decoder's maps; 512 in the code for Swin-B, half of its widest stage."""
    norm: Literal["batch", "group"] = "batch"
    """Normalisation in the decoder; batch in the paper. Groups serve training with few sentences at once."""
    groups: int = 16
    """Groups, with norm = group."""
    no_target_head: bool = False
    """A verdict "nothing is meant" of the last stage's fused pixels. LAVT has none; GRES clears its small masks."""
    tags: tuple[str, ...] = ()
    """Words of which a linear map of the decoder's finest map says, place by place, whether they hold there. Neither
    paper nor code has this, and answers do not use it. Pixels have read a sentence by then; the mean over a picture's
    sentences counts."""
    losses: LAVTLosses = field(default_factory=LAVTLosses)

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ConfigError(f"width={self.width}: 1 or more is wanted")
        if self.norm == "group" and (self.groups < 1 or self.width % self.groups):
            raise ConfigError(f"groups={self.groups} does not divide width={self.width}")


PAPER = LAVTConfig()
OFFICIAL = replace(PAPER, losses=LAVTLosses(background=0.9, foreground=1.1))
OFFICIAL_SWIN_T = replace(OFFICIAL, vision=SwinConfig(**{**SWIN_T.__dict__, "drop_path": 0.3}), width=384)

PRESETS: dict[str, LAVTConfig] = {"PAPER": PAPER, "OFFICIAL": OFFICIAL, "OFFICIAL_SWIN_T": OFFICIAL_SWIN_T}

ABLATIONS: dict[str, LAVTConfig] = {"GRES, table 5: LAVT": OFFICIAL}
"""LAVT as GRES trained it on gRefCOCO; LAVT+ReLA of the same table is a row of ReLA's."""
