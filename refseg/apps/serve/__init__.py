"""The server: a page and a JSON API that answer expressions about pictures. `refseg serve` starts it, `docs/serve.md`
describes it.

    app.py        create_app(settings): the web application, wired here and nowhere else
    server.py     run(settings): sockets, processes, signals
    settings.py   what is served, and the limits
    engine.py     one thread that computes; requests wait in its queue and are answered in batches
    store.py      encoded pictures that are kept for further expressions: least recently used, expiry, bound of memory
    pictures.py   pictures out of request bodies: sizes are known before anything is decoded
    metrics.py    counters in Prometheus' format
    api/          the routes, with the models of their requests and responses; Label Studio's protocol
    web/          the page, and the middleware around every request
    client.py     a Python client that needs the standard library only
    cvat.py       a CVAT auto-annotation function
    load.py       how much a server carries: `refseg serve-load`
"""
