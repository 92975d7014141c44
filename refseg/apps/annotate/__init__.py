"""The annotation game: one player writes a sentence about objects of a picture, another finds what it means.

`refseg annotate serve` opens it in a browser; `docs/annotate.md` takes a team from nothing to an exported data set. The
game is the one that gRefCOCO was built with (Liu, Ding, Jiang, "GRES: Generalized Referring Expression Segmentation",
CVPR 2023, section 3), which follows ReferItGame (Kazemzadeh et al., EMNLP 2014).

    states.py     what a sample can be and which moves lead where: the one table
    rules.py      what the system says about a sentence: duplicates, counting words, kinds, names of things
    tables.py     what the database holds; migrations/ how it came to that
    submitting.py, judging.py, leases.py, drafts.py, ...    services: functions of a database session
    app.py        create_app(settings): the web application; routes/ its pages and JSON
"""
