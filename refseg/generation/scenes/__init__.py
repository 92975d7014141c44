"""Drawn scenes: an exact world of pictures, masks and sentences, made by our own code.

`generate(seed, index)` draws one scene; `SceneDataset` and `SceneStream` draw many; `refseg data scenes` writes them as
files. `expressions_of` makes sentences for any `View` of things, drawn or annotated.
"""

from refseg.generation.language.expressions import Expression, expressions_of
from refseg.generation.language.forms import Thing, View
from refseg.generation.language.logic import Evaluator
from refseg.generation.scenes.dataset import SceneDataset, SceneStream, drawn_samples, scene_samples
from refseg.generation.scenes.propose import KINDS, MIX
from refseg.generation.scenes.scene import SPLITS, Scene, generate

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
