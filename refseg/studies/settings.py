"""What all trainings of the side-by-side study share, and which trainings there are."""

from __future__ import annotations

import re
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from refseg.errors import ConfigError
from refseg.studies.claims import Claim, Entry
from refseg.studies.photographs import Photographs

__all__ = ["TARGET_ACCURACY", "Run", "Settings", "runs_of", "takes_encoders"]


TARGET_ACCURACY = 0.92
"""T_acc that calibrated thresholds keep on held-out scenes."""


@dataclass(frozen=True)
class Settings:
    """What all entries share."""

    budget: int = 150_000
    """Expressions that each system is trained on, one after the other; a picture's expressions share its encoding."""
    claim_budget: int = 0
    """The same for the rows of claims, which are trained with several seeds; 0 takes `budget`."""
    pictures_per_batch: int = 4
    """With 20,000 expressions, 833 steps of 4 pictures taught ReLA a little more (gIoU .267) than 417 of 8 (.252)."""
    sentences_per_picture: int = 6
    pool: int = 6250
    """Different scenes to learn from."""
    encoder: Literal["frozen", "tuned", "own"] = "frozen"
    """frozen: the encoder that has learnt to see stays as it is, and its maps are kept, but for LAVT, whose words enter
    between its encoder's stages. tuned: it learns on at a tenth of the rate. own: every system learns to see from
    nothing."""
    encoder_passes: int = 6
    """Passes over the scenes that the shared encoder learns to see in."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the forward pass; 16 bits are faster where the processor computes in them."""
    sentences: int = 24
    """Expressions that a scene is drawn with."""
    size: int = 96
    """Side of a scene in pixels."""
    close_up: bool = True
    """Scenes with fewer and larger things: at 96 pixels an oracle that sees at stride 4 has a mean IoU of .83 on them
    (at stride 8 .64), and .72 (.41) on the others."""
    seed: int = 0
    """Of the scenes that are learnt from."""
    seeds: int = 3
    """How often each row of a claim is trained, with other first weights in another order; systems are trained once."""
    test_seed: int = 1_000_003
    """Of the scenes that are scored: another world than the one that is learnt from."""
    test_pictures: int = 100
    curve: int = 6
    """Evaluations during a training, on 25 scenes of the split val."""
    thresholds: Literal["plain", "calibrated"] = "plain"
    """plain: .5 for masks and no-target probabilities, for all. calibrated: chosen for each on further scenes, never on
    those that are scored: those of the highest gIoU, and from there the no-target threshold as low as T_acc stays at
    .92 and gIoU within .02."""
    workers: int = 0
    """Processes that prepare batches beside the training process."""
    photographs: Photographs | None = None
    """With them every system that takes their encoder is also trained on photographs."""

    def __post_init__(self) -> None:
        for name, least in (
            *((name, 1) for name in ("budget", "pictures_per_batch", "sentences_per_picture", "pool", "sentences")),
            *((name, 1) for name in ("test_pictures", "encoder_passes", "seeds")),
            *((name, 0) for name in ("workers", "claim_budget", "curve")),
        ):
            if getattr(self, name) < least:
                raise ConfigError(f"{name}={getattr(self, name)}: {least} or more is wanted")
        if self.test_seed == self.seed:
            raise ConfigError(f"test_seed={self.test_seed}: the scenes that are scored want a seed of their own")

    def steps(self, budget: int) -> int:
        """Optimiser steps for so many expressions."""
        return max(1, round(budget / (self.pictures_per_batch * self.sentences_per_picture)))


@dataclass(frozen=True)
class Run:
    """One training: an entry, the seed of its first weights and order, and the expressions that it is trained on."""

    entry: Entry
    budget: int
    seed: int = 0
    photographs: bool = False

    @property
    def name(self) -> str:
        """Entry, expressions and seed in one word for folders."""
        what = "-photographs" if self.photographs else ""
        return f"{_slug(self.entry.name)}{what}-{self.budget}-{self.seed}"

    def __str__(self) -> str:
        what = " of photographs" if self.photographs else ""
        return f"{self.entry.name}, {self.budget:,} expressions{what}, seed {self.seed}"


def runs_of(chosen: Sequence[Entry], claims: Sequence[Claim], settings: Settings) -> list[Run]:
    """All trainings of some systems and claims, each once: systems, seed after seed of the claims, photographs."""
    budget = settings.claim_budget or settings.budget
    runs = {run.name: run for run in (Run(entry, settings.budget) for entry in chosen)}
    for seed in range(settings.seeds):
        for claim in claims:
            for entry in claim.entries():
                run = Run(entry, budget, seed)
                runs.setdefault(run.name, run)
    if settings.photographs is not None:
        for entry in filter(takes_encoders, chosen):
            run = Run(entry, settings.photographs.budget, photographs=True)
            runs[run.name] = run
    return list(runs.values())


def takes_encoders(entry: Entry) -> bool:
    """Whether the system may see photographs through an encoder of another kind than its own: not where words enter
    between the encoder's stages, nor where regions alone are seen."""
    from refseg.models import preset

    config = preset(entry.preset or entry.recipe.removesuffix("-scenes.toml"))
    hint = typing.get_type_hints(type(config)).get("vision")
    return any(kind.__name__ == "ShuffleNetConfig" for kind in typing.get_args(hint))


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
