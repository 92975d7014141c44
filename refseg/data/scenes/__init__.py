"""Drawn scenes: an exact world of pictures, masks and sentences, made by our own code.

`generate(seed, index)` draws one scene; `SceneDataset` and `SceneStream` draw many; `refseg data scenes` writes them as
files. `expressions_of` makes sentences for any `View` of things, drawn or annotated.
"""

from refseg.data.scenes.dataset import SceneDataset, SceneStream, drawn_samples, scene_samples
from refseg.data.scenes.expressions import Expression, expressions_of
from refseg.data.scenes.forms import Thing, View
from refseg.data.scenes.logic import Evaluator
from refseg.data.scenes.propose import KINDS, MIX
from refseg.data.scenes.scene import SPLITS, Scene, generate

__all__ = [
    "KINDS",
    "MIX",
    "SPLITS",
    "Evaluator",
    "Expression",
    "Scene",
    "SceneDataset",
    "SceneStream",
    "Thing",
    "View",
    "drawn_samples",
    "expressions_of",
    "generate",
    "scene_samples",
]
