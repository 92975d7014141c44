"""Referring expressions for photographs: from a COCO-style file to expressions that are certain and unambiguous.

`templates` reads every picture, makes the expressions and writes them in gRefCOCO's format, `contact_sheet` draws some
of them, `collage` makes pictures with more objects. Forms, evaluator and grammar are those of the drawn scenes.
"""
