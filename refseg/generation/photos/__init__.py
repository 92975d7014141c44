"""Referring expressions for photographs: from a COCO-style file to sentences that are certain and unambiguous.

`make_templates` looks at every picture and makes the sentences, `write_templates` stores them in gRefCOCO's format,
`preview` draws a contact sheet. Forms, evaluator and grammar are the drawn scenes' (`refseg.generation.scenes`).
"""

from refseg.generation.photos.photo import PhotoEvaluator
from refseg.generation.photos.sentences import photo_expressions
from refseg.generation.photos.view import PhotoView, Record, view_of
from refseg.generation.photos.write import Spoken, TemplateSettings, make_templates, write_templates

__all__ = [
    "PhotoEvaluator",
    "PhotoView",
    "Record",
    "Spoken",
    "TemplateSettings",
    "make_templates",
    "photo_expressions",
    "view_of",
    "write_templates",
]
