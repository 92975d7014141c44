"""A client of a server that runs elsewhere; needs neither torch nor FastAPI.

>>> from refseg.serve import Client
>>> client = Client("http://127.0.0.1:8000")
>>> client.segment("photo.jpg", ["the red car", "two dogs"])       # a Segmentation each
>>> street = client.keep("street.jpg")                              # sent and encoded once ...
>>> client.ask(street, ["the red car"], threshold=0.3)              # ... and asked as often as you like
"""

from __future__ import annotations

import base64
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from refseg.errors import RefsegError
from refseg.inference.segmentation import Segmentation


class Client:
    """One server; `key` where it asks for one. Busy servers (429) are asked again until `timeout` seconds are over."""

    def __init__(self, url: str, key: str = "", timeout: float = 120.0) -> None:
        self.url, self.timeout = url.rstrip("/"), timeout
        self.headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}

    def segment(
        self, image: str | os.PathLike[str] | bytes, texts: Sequence[str], **options: Any
    ) -> list[Segmentation]:
        """The answers about one picture (a path, or encoded bytes); options are the request's `model`, `threshold`,
        `no_target_threshold`. Raises `RefsegError` with the server's words where it refuses."""
        reply = self.call("POST", "/v1/segment", {"images": [_encoded(image)], "texts": list(texts), **options})
        return [Segmentation.from_dict(answer) for answer in reply["images"][0]["answers"]]

    def keep(self, image: str | os.PathLike[str] | bytes) -> str:
        """Send a picture to be kept; returns its id for `ask`."""
        return str(self.call("POST", "/v1/images", {"image": _encoded(image)})["id"])

    def ask(self, id: str, texts: Sequence[str], **options: Any) -> list[Segmentation]:
        """The answers about a picture that is kept; options as for `segment`."""
        reply = self.call("POST", f"/v1/images/{id}/ask", {"texts": list(texts), **options})
        return [Segmentation.from_dict(answer) for answer in reply["answers"]]

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """One request of the API; the JSON of its response."""
        data = None if body is None else json.dumps(body).encode()
        end = time.monotonic() + self.timeout
        while True:
            request = urllib.request.Request(self.url + path, data, self.headers, method=method)
            try:
                with urllib.request.urlopen(request, timeout=self.timeout) as response:
                    return json.load(response)
            except urllib.error.HTTPError as error:
                wait = float(error.headers.get("Retry-After") or 1)
                if error.code != 429 or time.monotonic() + wait > end:
                    raise RefsegError(f"{path}: {_message(error)}") from error
                time.sleep(wait)
            except OSError as error:
                raise RefsegError(f"{self.url}: the server cannot be reached ({error})") from error


def _encoded(image: str | os.PathLike[str] | bytes) -> str:
    try:
        return base64.b64encode(image if isinstance(image, bytes) else Path(image).read_bytes()).decode()
    except OSError as error:
        raise RefsegError(f"{image!r}: the picture cannot be opened ({error.strerror})") from error


def _message(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.load(error)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP {error.code}"
