"""What a model would answer if one of its parts were right: ISFP's branches (thesis of C. Liu, table 3.2)."""

from __future__ import annotations

from typing import Literal

from torch import nn

from refseg.errors import ConfigError
from refseg.evaluation.pictures import Oracle
from refseg.types import Batch, Output, Targets

__all__ = ["Part", "oracle_of"]

Part = Literal["location", "mask"]


def oracle_of(part: Part, model: nn.Module) -> Oracle:
    """The oracle of a part of `model`: "location", the identification branch names the target's cell (table 3.2a), or
    "mask", the segmentation branch draws what the chosen cell stands for (table 3.2b).

    Raises `ConfigError` for a model that has no such branches.
    """
    from refseg.models.isfp.model import ISFP, with_true_location, with_true_masks

    if not isinstance(model, ISFP) or model.relations is None:
        raise ConfigError(
            f"--oracle {part}: {type(model).__name__} has no branch to put the truth into; ISFP with its grid has"
        )

    def answer(batch: Batch, targets: Targets, output: Output) -> Output:
        if part == "location":
            return with_true_location(model, batch, targets)
        return with_true_masks(model, output, targets)

    return answer
