"""Drawn scenes: an exact world of images, masks and expressions, made by our own code.

`generate(seed, index)` draws one scene; `SceneDataset` and `SceneStream` draw many; `refseg data scenes` writes them as
files. `expressions_of` makes expressions for any `View` of things, drawn or annotated.
"""

from refseg.generation.language.expressions import Expression, expressions_of
from refseg.generation.language.forms import Thing, View
from refseg.generation.language.propose import KINDS, MIX
from refseg.generation.scenes.scene import (
    SPLITS,
    Scene,
    SceneDataset,
    SceneStream,
    drawn_samples,
    generate,
    scene_samples,
)

__all__ = [
    "KINDS", "MIX", "SPLITS", "Expression", "Scene", "SceneDataset", "SceneStream", "Thing", "View", "drawn_samples",
    "expressions_of", "generate", "scene_samples",
]  # fmt: skip
