"""The hub on loopback, as far as huggingface_hub asks it: repositories in memory, some behind a gate or cut short."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote

OID = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_secret"


class HubServer(ThreadingHTTPServer):
    """`store` holds {(name, revision): {path: content}}; every file is small enough to be sent in place."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Hub)
        self.store: dict[tuple[str, str], dict[str, bytes]] = {}
        self.gated: set[str] = set()
        """Repositories that are given to whoever has the token."""
        self.cut: dict[str, int] = {}
        """Files of which the next whole answer ends after so many bytes."""
        self.requests: list[tuple[str, str, str | None]] = []
        """Method, path and range of each request."""
        self.address = f"http://127.0.0.1:{self.server_port}"

    def put(self, name: str, folder: Path) -> None:
        """A repository with the files of a folder."""
        self.store[name, "main"] = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


class Hub(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    server: HubServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            return self.answer({"error": "no login"}, 401)
        path, store = unquote(self.path.split("?")[0]), self.server.store
        if path == "/api/validate-yaml":
            return self.answer({"errors": [], "warnings": []})
        if path == "/api/repos/create":
            values = json.loads(body)
            name = "/".join(filter(None, [values.get("organization"), values["name"]]))
            name = name if "/" in name else f"tester/{name}"
            store.setdefault((name, "main"), {})
            return self.answer({"url": f"{self.server.address}/{name}"})
        if found := re.fullmatch(r"/api/models/(.+/.+)/branch/(.+)", path):
            store.setdefault((found[1], found[2]), {})
            return self.answer({})
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/(.+)", path):
            files = [
                {"path": each["path"], "uploadMode": "regular", "shouldIgnore": False}
                for each in json.loads(body)["files"]
            ]
            return self.answer({"files": files})
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/(.+)", path):
            for line in body.decode().splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    store[found[1], found[2]][entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            url = f"{self.server.address}/{found[1]}/commit/{OID}"
            return self.answer({"success": True, "commitOid": OID, "commitUrl": url})
        return self.answer({"error": path}, 404)

    def do_GET(self, head: bool = False) -> None:
        path = unquote(self.path.split("?")[0])
        self.server.requests.append((self.command, path, self.headers["Range"]))
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/(revision|tree)/([^/]+)", path):
            name, kind, revision = found.groups()
            files = self.files(name, revision)
            if files is None:
                return self.answer({"error": "no such revision"}, 404, {"X-Error-Code": "RevisionNotFound"})
            if kind == "tree":
                rows = [{"type": "file", "path": each, "size": len(data), "oid": OID} for each, data in files.items()]
                return self.answer(rows)
            listed = [{"rfilename": each} for each in files]
            about = {"id": name, "modelId": name, "sha": OID, "private": False, "tags": [], "siblings": listed}
            return self.answer(about)
        if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self.file(found[1], found[2], found[3], head)
        if path == "/api/whoami-v2":
            return self.answer({"name": "tester", "type": "user", "orgs": []})
        return self.answer({"error": path}, 404)

    def do_HEAD(self) -> None:
        self.do_GET(head=True)

    def file(self, name: str, revision: str, path: str, head: bool) -> None:
        """A file of a repository, or the part of it that is wanted."""
        if name in self.server.gated and self.headers["Authorization"] != f"Bearer {TOKEN}":
            refusal = {"X-Error-Code": "GatedRepo", "X-Error-Message": f"Access to model {name} is restricted."}
            return self.answer({"error": "gated"}, 401, refusal, head)
        files = self.files(name, revision)
        if files is None:
            return self.answer({"error": "no such repository"}, 404, {"X-Error-Code": "RepoNotFound"}, head)
        content = files.get(path)
        if content is None:
            missing = {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": OID}
            return self.answer({"error": "no such file"}, 404, missing, head)
        about = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": OID, "Accept-Ranges": "bytes"}
        start = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        if start and int(start[1]) < len(content):
            about["Content-Range"] = f"bytes {start[1]}-{len(content) - 1}/{len(content)}"
            return self.answer(content[int(start[1]) :], 206, about, head)
        if not head and path in self.server.cut:
            return self.break_off(content, self.server.cut.pop(path), about)
        return self.answer(content, 200, about, head)

    def break_off(self, content: bytes, after: int, headers: dict[str, str]) -> None:
        """The first bytes of an answer that promises all of them, and the connection's end."""
        self.send_response(200)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content[:after])
        self.wfile.flush()
        self.close_connection = True

    def files(self, name: str, revision: str) -> dict[str, bytes] | None:
        if revision == OID:  # the commit of whatever was pushed last
            return self.server.store.get((name, "draft")) or self.server.store.get((name, "main"))
        return self.server.store.get((name, revision))

    def answer(
        self, content: Any, status: int = 200, headers: dict[str, str] | None = None, head: bool = False
    ) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if not head:
            self.wfile.write(data)

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@contextmanager
def serving() -> Iterator[HubServer]:
    """A server while the block runs."""
    server = HubServer()
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def online(server: HubServer, home: Path) -> dict[str, str]:
    """The environment of a process that takes the server for the hub."""
    return {
        **os.environ,
        "HF_HUB_OFFLINE": "0",
        "HF_ENDPOINT": server.address,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "OMP_NUM_THREADS": "1",
    }
