"""Uses and misuses of the public interface, read by mypy alone (tests/inference/test_typing.py).

A line ending in `# reveals TYPE` must have that type, one ending in `# wrong CODE` must be that error, and no other
line may have any.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

import refseg
from refseg.config import describe
from refseg.encoders.build import build_text, build_vision
from refseg.inference.predictor import ImageLike
from refseg.types import Tokens


def uses(picture: Image.Image, array: np.ndarray, paths: list[Path], names: list[str], tokens: Tokens) -> None:
    segmenter = refseg.load("rela-photo", device="cpu", precision="bfloat16")
    reveal_type(segmenter)  # reveals refseg.inference.segmenter.Segmenter
    reveal_type(segmenter("photo.jpg", "the dog"))  # reveals refseg.inference.segmentation.Segmentation
    reveal_type(segmenter(picture, "the dog", threshold=0.4))  # reveals refseg.inference.segmentation.Segmentation
    reveal_type(segmenter(array, names))  # reveals list[refseg.inference.segmentation.Segmentation]
    reveal_type(segmenter(paths, "the dog"))  # reveals list[refseg.inference.segmentation.Segmentation]
    reveal_type(segmenter(names, names))  # reveals list[list[refseg.inference.segmentation.Segmentation]]
    encoded = segmenter.encode(b"...")
    reveal_type(encoded)  # reveals refseg.inference.encoded_image.EncodedImage
    reveal_type(encoded.ask("the dog"))  # reveals refseg.inference.segmentation.Segmentation
    reveal_type(encoded.ask(["a", "b"], probabilities=True))  # reveals list[refseg.inference.segmentation.Segmentation]
    answer = segmenter(picture, "the dog")
    reveal_type(answer.instances)  # reveals tuple[refseg.inference.segmentation.Instance, ...]
    reveal_type(answer.no_target_score)  # reveals float
    reveal_type(answer.instances[0].label)  # reveals str
    reveal_type(answer.save("answer.json"))  # reveals pathlib.Path
    reveal_type(refseg.Segmentation.from_dict(answer.to_dict()))  # reveals refseg.inference.segmentation.Segmentation
    reveal_type(build_text(None)(tokens))  # reveals refseg.types.TextFeatures
    reveal_type(build_vision(None).channels)  # reveals dict[int, int]
    reveal_type(describe(type(tokens))[0].text)  # reveals str
    several: list[ImageLike] = [picture, "photo.jpg", array]
    segmenter(several, "the dog")


def misuses(picture: Image.Image, segmenter: refseg.Segmenter, answer: refseg.Segmentation) -> None:
    print(answer.maks)  # wrong attr-defined
    answer.no_target = True  # wrong misc
    refseg.laod()  # wrong attr-defined
    refseg.load(precision="bf16")  # wrong arg-type
    segmenter(picture, 3)  # wrong call-overload
    segmenter(picture, "the dog", treshold=0.4)  # wrong call-overload
    print(segmenter(picture, ["the dog"]).mask)  # wrong attr-defined
    segmenter.encode(3)  # wrong arg-type
    segmenter.encode(picture).ask("the dog")[0]  # wrong index
    answer.instances[0].score = 1.0  # wrong misc
