"""Ask a trained model: `load` it by name, folder or hub id, then call it with images and expressions.

>>> import refseg
>>> segmenter = refseg.load()
>>> answer = segmenter("photo.jpg", "two players on the left")     # one image, one expression: a Segmentation
>>> segmenter(["a.jpg", "b.jpg"], ["the cat", "the dog"])[1][0]     # lists in, lists out: [image][expression]
>>> street = segmenter.encode("street.jpg")                         # the image is encoded once ...
>>> street.ask("the red car").save("car.png")                       # ... and asked as often as you like
>>> segmenter("photo.jpg", "a man beside a dog", phrases=["a man", "a dog"])[1].boxes     # a box and mask a phrase
>>> segmenter.explain("photo.jpg", "two players on the left").sheet().save("explained.png")
"""

from __future__ import annotations

from refseg.inference.device import choose_device
from refseg.inference.encoded_image import EncodedImage
from refseg.inference.loading import list_models, load
from refseg.inference.pipeline import MAX_LETTERS, AskOptions, ImageLike, clean_text
from refseg.inference.postprocess import Thresholds
from refseg.inference.segmenter import Segmenter

__all__ = [
    "MAX_LETTERS",
    "AskOptions",
    "EncodedImage",
    "ImageLike",
    "Segmenter",
    "Thresholds",
    "choose_device",
    "clean_text",
    "list_models",
    "load",
]
