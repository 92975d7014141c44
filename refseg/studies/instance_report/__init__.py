"""A model of `instances` measured on a reader's own data, with the ceilings that say where what is missing is lost.

    kept.py         proposals once a picture, lines of measurements: a stopped run goes on
    expressions.py  referring expressions: answers, and those with words, choice or masks put right
    names.py        names of categories asked of photographs; everyday nouns
    boxes.py        boxes of the detector (COCO's AP), masks in true boxes
    summary.py      numbers of a half: intervals over pictures, reliability, losses
    page.py         the page
    sets.py         what is measured, and which half
    run.py          everything in order

`refseg studies instances` is the command.
"""
