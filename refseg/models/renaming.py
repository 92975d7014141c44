"""Published names to ours by an ordered list of rules, and a strict fit that reports in the publisher's names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from refseg.errors import CheckpointError

__all__ = ["Rule", "fit", "learned", "rename"]

Rule = tuple[str, str]
"""A regular expression that matches a whole published name, and our name with \\1, \\2 for its groups."""


# Tables of positions, which follow from the sizes; publishers stored them as integers, some converters as floats.
_DERIVED = ("relative_position_index", "position_ids", "num_batches_tracked")


def learned(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors that hold something learned: no integer buffers, and no tables that follow from the sizes."""
    return {
        name: value
        for name, value in state.items()
        if value.is_floating_point() and name.rpartition(".")[2] not in _DERIVED
    }


def rename(names: Sequence[str], rules: Sequence[Rule]) -> tuple[dict[str, str], list[str]]:
    """Published name -> ours by the first rule that matches, and the names that no rule explains."""
    compiled = [(re.compile(pattern), ours) for pattern, ours in rules]
    found: dict[str, str] = {}
    unexplained = []
    for name in names:
        for pattern, ours in compiled:
            match = pattern.fullmatch(name)
            if match:
                found[name] = match.expand(ours)
                break
        else:
            unexplained.append(name)
    return found, unexplained


def fit(model: nn.Module, tensors: Mapping[str, Tensor], origin: Mapping[str, str], unexplained: Sequence[str]) -> None:
    """Load `tensors` (our names) strictly; `origin` gives the published name of each, for the error."""
    own = model.state_dict()
    problems = []
    strangers = [*unexplained, *(origin.get(name, name) for name in tensors if name not in own)]
    if strangers:
        problems.append(f"unexplained: {_listed(strangers)}")
    missing = [name for name in own if name not in tensors]
    if missing:
        problems.append(f"not in the checkpoint (our names): {_listed(missing)}")
    for name, value in tensors.items():
        if name in own and value.shape != own[name].shape:
            published = origin.get(name, name)
            problems.append(f"{published} is {tuple(value.shape)}, wanted {tuple(own[name].shape)}")
    if problems:
        raise CheckpointError("the checkpoint does not fit: " + "; ".join(problems[:12]))
    model.load_state_dict({name: value.to(own[name].dtype) for name, value in tensors.items()}, strict=True)


def _listed(names: Sequence[str], most: int = 40) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
