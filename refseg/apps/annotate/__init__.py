"""The annotation game: one player writes a sentence about objects of a picture, another selects what it means.

`refseg annotate serve` opens it in a browser; `docs/annotate.md` takes a team from nothing to an exported data set. The
game is the one that gRefCOCO was built with (Liu, Ding, Jiang, "GRES: Generalized Referring Expression Segmentation",
CVPR 2023, section 3), which follows ReferItGame (Kazemzadeh et al., EMNLP 2014).

    app.py       create_app(settings): the web application
    states.py    what a sample can be and which moves lead where: the one table
    game.py      settings, database, clock and chance, which all services share
    api/         the JSON API: routes, with the models of their requests and responses
    web/         the pages: templates, style sheets, scripts, middleware
    services/    what the game does, as functions of a database session; knows neither api nor web
    auth/        accounts, who may do what and how often, the logs
    database/    tables, migrations, transactions, backup
"""
