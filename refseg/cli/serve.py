"""`refseg serve`: a page and an API that answer expressions about pictures. `serve-load` measures what it carries."""

from __future__ import annotations

import json as json_format
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from refseg.cli import options
from refseg.cli.app import App
from refseg.cli.options import at_least, flag, opt
from refseg.cli.options import port as port_check
from refseg.errors import RefsegError
from refseg.inference import DEFAULT_MODEL

SERVER, LIMITS, LOAD = "the server", "limits", "load"
NEEDED = ("fastapi", "multipart", "prometheus_client", "uvicorn")

app = App()

_MODELS = opt(
    "NAME", "packaged weights, model folder or hub id (repeatable; the first answers where a request names none)",
    "--model", group=options.MODEL, names=options.model_names,
)  # fmt: skip
Models = Annotated[list[str] | None, _MODELS]
Workers = Annotated[int, opt("N", "processes that answer", check=at_least(1), group=SERVER)]


@app.command("serve")
def serve(
    model: Models = None,
    index: Annotated[
        str, opt("INDEX", "search in what refseg index made, on the page and at /v1/search", group=SERVER)
    ] = "",
    host: Annotated[str, opt("IP", "address to listen at (127.0.0.1: this machine only)", group=SERVER)] = "127.0.0.1",
    port: Annotated[int, opt("N", "port to listen at", check=port_check, group=SERVER)] = 8000,
    workers: Workers = 1,
    no_page: Annotated[bool, flag("--no-page", "the API alone", SERVER)] = False,
    api_key_file: Annotated[
        Path | None, opt("FILE", "ask for one of the keys in FILE, one a line", group=SERVER)
    ] = None,
    allowed_host: Annotated[
        list[str] | None, opt("NAME", "answer to this host name only (repeatable)", group=SERVER)
    ] = None,
    pictures: Annotated[
        Path | None, opt("DIR", "Label Studio's folder of local files and uploads", group=SERVER)
    ] = None,
    max_batch: Annotated[int, opt("N", "expressions computed at once", check=at_least(1), group=LIMITS)] = 8,
    queue: Annotated[int, opt("N", "expressions that wait at most", check=at_least(1), group=LIMITS)] = 64,
    max_wait: Annotated[float, opt("S", "seconds that a request waits", check=at_least(1), group=LIMITS)] = 60.0,
    max_body: Annotated[int, opt("MB", "largest request", check=at_least(1), group=LIMITS)] = 32,
    max_megapixels: Annotated[int, opt("N", "largest picture", check=at_least(1), group=LIMITS)] = 50,
    cache: Annotated[int, opt("MB", "memory of pictures kept encoded", check=at_least(1), group=LIMITS)] = 512,
    memory: Annotated[int, opt("MB", "memory of requests in work", check=at_least(1), group=LIMITS)] = 512,
    keep: Annotated[float, opt("MIN", "how long a picture is kept", check=at_least(1), group=LIMITS)] = 30.0,
    device: options.Device = "auto",
    precision: options.Precision = "float32",
    threads: options.Threads = None,
) -> None:
    """Answer expressions about pictures on a page and by an API, until it is stopped."""
    _check_packages()
    from refseg.apps.serve.server import run
    from refseg.apps.serve.settings import Settings

    if pictures is not None and not pictures.is_dir():
        raise RefsegError(f"--pictures {pictures}: no such folder")
    settings = Settings(
        models=tuple(model or [DEFAULT_MODEL]),
        device=device,
        precision=precision,
        threads=threads or 0,
        index=index,
        page=not no_page,
        max_batch=max_batch,
        queue=queue,
        max_texts=min(32, queue),
        max_wait=max_wait,
        max_body=max_body,
        max_pixels=max_megapixels * 1_000_000,
        request_memory=memory,
        cache_memory=cache,
        cache_seconds=keep * 60,
        api_key_file="" if api_key_file is None else str(api_key_file.absolute()),
        allowed_hosts=tuple(allowed_host or ()),
        pictures="" if pictures is None else str(pictures.absolute()),
    )
    run(settings, host, port, workers)


@app.command("serve-load")
def serve_load(
    url: Annotated[
        str | None, opt("URL", "a server that runs (default: one is started, with the options below)", group=LOAD)
    ] = None,
    key: Annotated[str, opt("KEY", "where that server asks for one", group=LOAD)] = "",
    clients: Annotated[int, opt("N", "clients at once", check=at_least(1), group=LOAD)] = 50,
    seconds: Annotated[float, opt("S", "how long", group=LOAD)] = 60.0,
    kept: Annotated[
        float, opt("P", "share of clients that keep a picture and ask", check=options.probability, group=LOAD)
    ] = 0.5,
    json: Annotated[Path | None, options.json_file("everything, as JSON")] = None,
    model: Models = None,
    workers: Workers = 1,
    threads: options.Threads = None,
) -> None:
    """Measure how much a server carries: throughput, what clients wait, errors, memory."""
    _check_packages()
    from refseg.apps.serve.load import Load, lines, measure
    from refseg.files import write_text

    if not seconds > 0:
        raise RefsegError(f"--seconds is more than 0, not {seconds}")
    options.check_file(json, "--json")
    started = ["--workers", str(workers), *(word for name in model or [] for word in ("--model", name))]
    started += [] if threads is None else ["--threads", str(threads)]
    report = measure(Load(clients, seconds, kept, key), url, started)
    if json is not None:
        write_text(json, json_format.dumps(report, indent=1) + "\n")
    print("\n".join(lines(report)))
    if report["errors"]:
        sys.exit(1)


def _check_packages() -> None:
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise RefsegError(f"the server needs {', '.join(missing)}: pip install 'refseg[serve]'")
