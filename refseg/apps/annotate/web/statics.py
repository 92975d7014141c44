"""Style sheets and scripts: served from the package, kept by browsers under addresses that change with the content."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

FOLDER = Path(__file__).parent / "static"


class Statics(StaticFiles):
    """Starlette's files with the headers that fit: for ever with `?v=`, asked again each time without."""

    def __init__(self, root_path: str) -> None:
        super().__init__(directory=FOLDER, check_dir=False)
        self.root_path = root_path

    def url(self, name: str) -> str:
        """The address of a file, with a hash of its content."""
        path = FOLDER / name
        version = _version(path, path.stat().st_mtime_ns) if path.is_file() else "missing"
        return f"{self.root_path}/static/{name}?v={version}"

    async def get_response(self, path: str, scope: Scope) -> Response:
        """A file's answer."""
        response = await super().get_response(path, scope)
        versioned = b"v=" in scope.get("query_string", b"")
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable" if versioned else "no-cache"
        return response


@lru_cache(maxsize=512)
def _version(path: Path, changed: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
