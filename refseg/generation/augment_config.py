"""How often augmentation does what (`refseg.generation.augment`)."""

from __future__ import annotations

from dataclasses import dataclass

from refseg.config import Config, DropRate, NonNegativeFloat, Probability


@dataclass(frozen=True)
class AugmentConfig(Config):
    """How often what is done; 0 everywhere changes nothing."""

    hflip: Probability = 0.0
    "share of pictures that are mirrored, with left and right exchanged in their expressions"
    random_crop: Probability = 0.0
    "share of pictures of which another window is taken: a part around all objects, or more than all with a margin"
    color_jitter: Probability = 0.0
    "share of pictures whose brightness and contrast change, and saturation where no expression names a colour"
    paraphrase: Probability = 0.0
    "share of expressions that are paraphrased"
    plain: Probability = 0.0
    "share of superlatives that become the bare noun, in pictures of which nothing but superlatives is said"
    negative_noun: Probability = 0.0
    "share of expressions whose noun becomes that of something that is not in the picture: without target"
    negative_nonsense: Probability = 0.0
    "share of expressions that become words without sense, or too vague to refer to anything: without target"
    intensity: Probability = 0.0
    "every picture's value (of hue, saturation, value) times 1 plus or minus up to this much; RefTR's code: 0.5"
    saturation: Probability = 0.0
    "the same of its saturation; RefTR's paper has it, its published code draws the number and does not use it"
    affine: Probability = 0.0
    "share of pictures that are turned, moved, scaled and slanted a little; RefTR's paper has it, its code left it out"
    affine_degrees: NonNegativeFloat = 5.0
    "most degrees that an affine map turns by; this and the next three are FAOA's, whose augmentation RefTR takes"
    affine_translate: Probability = 0.1
    "most that it moves by, of the picture's sides"
    affine_scale: DropRate = 0.1
    "most that it enlarges or shrinks by"
    affine_shear: NonNegativeFloat = 2.0
    "most degrees that it slants by, along either axis"

    def __bool__(self) -> bool:
        return self != AugmentConfig()
