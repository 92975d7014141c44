"""refseg: referring expression segmentation, an image and an expression to the pixels of one object, several, or none.

>>> import refseg
>>> segmenter = refseg.load()
>>> segmenter("photo.jpg", "two players on the left")  # a Segmentation: mask, instances, no_target, scores
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from refseg.errors import RefsegError
    from refseg.geometry import Geometry
    from refseg.inference.loading import list_models, load
    from refseg.inference.segmentation import Instance, Segmentation
    from refseg.inference.segmenter import Segmenter

__version__ = "0.1.0"
__all__ = ["Geometry", "Instance", "RefsegError", "Segmentation", "Segmenter", "list_models", "load"]

# Imported on first use, so that `refseg score` and the data verbs never wait for torch.
_HOMES = {
    "Geometry": "refseg.geometry",
    "Instance": "refseg.inference.segmentation",
    "Segmentation": "refseg.inference.segmentation",
    "RefsegError": "refseg.errors",
    "Segmenter": "refseg.inference.segmenter",
    "list_models": "refseg.inference.loading",
    "load": "refseg.inference.loading",
}

if not TYPE_CHECKING:  # a type checker would take every other name for one of these

    def __getattr__(name: str) -> object:
        if name in _HOMES:
            return getattr(import_module(_HOMES[name]), name)
        raise AttributeError(f"module 'refseg' has no attribute {name!r}")
