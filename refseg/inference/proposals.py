"""The system `instances` over proposals from elsewhere: another model, a file of detections, or a proposer itself."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeAlias, cast

from torch import nn

from refseg.encoders.vision.proposers import InstanceProposer
from refseg.errors import RefsegError
from refseg.inference.detections import read_detections
from refseg.models.instances.model import Instances
from refseg.models.instances.proposed import ProposedInstances
from refseg.models.instances.words import Lexicon

__all__ = ["Proposals", "over_proposals"]

Proposals: TypeAlias = "str | os.PathLike[str] | InstanceProposer"
"""The name or folder of a model that gives instances, a .json file of detections, or a proposer itself."""


def over_proposals(network: nn.Module, proposals: Path | InstanceProposer | nn.Module) -> ProposedInstances:
    """A model of the system `instances` that chooses among these proposals.

    Raises `RefsegError` for a model of another system, and for what proposes no instances; `DataError` for a file that
    cannot be read.
    """
    if not isinstance(network, Instances):
        raise RefsegError(
            f"proposals: {type(network).__name__} does not choose among instances; take the model `instances`, or a "
            "folder trained from it"
        )
    if isinstance(proposals, Path):
        return ProposedInstances(network, read_detections(proposals, cast(Lexicon, network.chooser.means)))
    if not isinstance(proposals, InstanceProposer):
        raise RefsegError(
            f"proposals: {type(proposals).__name__} gives no instances of a name; take a model such as facebook/sam3, "
            "or a .json file of detections"
        )
    return ProposedInstances(network, proposals)
