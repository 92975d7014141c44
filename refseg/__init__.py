"""refseg: which pixels does a sentence mean? One object, several, or none.

>>> import refseg
>>> segmenter = refseg.load()
>>> segmenter("photo.jpg", "two players on the left")  # a Segmentation: mask, boxes, no_target, scores
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from refseg.errors import RefsegError
    from refseg.inference.predictor import Segmenter, list_models, load
    from refseg.inference.segmentation import Geometry, Segmentation

__version__ = "0.1.0"
__all__ = ["Geometry", "RefsegError", "Segmentation", "Segmenter", "list_models", "load"]

# Imported on first use, so that `refseg score` and the data verbs never wait for torch.
_HOMES = {
    "Geometry": "refseg.inference.segmentation",
    "Segmentation": "refseg.inference.segmentation",
    "RefsegError": "refseg.errors",
    "Segmenter": "refseg.inference.predictor",
    "list_models": "refseg.inference.predictor",
    "load": "refseg.inference.predictor",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'refseg' has no attribute {name!r}")
