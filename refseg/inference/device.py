"""The torch device that a name stands for."""

from __future__ import annotations

import torch

from refseg.errors import RefsegError


def choose_device(device: str | torch.device = "auto") -> torch.device:
    """The torch device of that name. Raises `RefsegError` for unknown names and devices that are not there."""
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        if not isinstance(device, (str, torch.device)):
            raise TypeError("a number alone would be taken for a GPU")
        chosen = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise RefsegError(f"device {device!r} is unknown; use 'auto', 'cpu', 'cuda', 'cuda:0' or 'mps'") from error
    available = {
        "cpu": not chosen.index,
        "cuda": torch.cuda.is_available() and (chosen.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available() and not chosen.index,
    }
    if not available.get(chosen.type, False):
        remedy = "'cpu' means all cores" if chosen.type == "cpu" else "`refseg doctor` lists what is, 'auto' chooses"
        raise RefsegError(f"device {str(device)!r} is not available here; {remedy}")
    return chosen
