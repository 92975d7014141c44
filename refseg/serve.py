"""The server for programs: an ASGI application, its settings, and a client of a server elsewhere.

>>> import refseg.serve
>>> app = refseg.serve.create_app(refseg.serve.Settings(models=("rela-photo",)))   # uvicorn module:app
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from refseg.apps.serve.app import create_app
    from refseg.apps.serve.client import Client
    from refseg.apps.serve.settings import Settings

__all__ = ["Client", "Settings", "create_app"]

# Imported on first use: the client needs nothing of the extra `serve`.
_HOMES = {
    "Client": "refseg.apps.serve.client",
    "Settings": "refseg.apps.serve.settings",
    "create_app": "refseg.apps.serve.app",
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module 'refseg.serve' has no attribute {name!r}")
        try:
            return getattr(import_module(_HOMES[name]), name)
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(f"refseg.serve needs {error.name}: pip install 'refseg[serve]'") from error
