"""How much a server carries: many clients at once, each sending its next request as soon as it has an answer.

One part of the clients sends a picture with every expression, the other keeps a picture and asks eight expressions of
it, as the page does. A client that is refused with 429 comes back after the seconds that it is told. Times are what a
client waits for an answer, from its request's first byte to the response's last, refusals left out.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from refseg.errors import RefsegError

ASKS = 8
PICTURES, SIZE = 8, 480
START = 600.0
"""Seconds in which a server that is started has to be ready."""
PATIENCE = 300.0
"""Seconds after which a request that is not answered is an error."""


@dataclass(frozen=True)
class Load:
    """How many clients, for how long."""

    clients: int = 50
    seconds: float = 60.0
    kept: float = 0.5
    """Share of the clients that keep a picture and ask."""
    key: str = ""


@dataclass
class Tally:
    """What the clients saw."""

    taken: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    statuses: Counter[int] = field(default_factory=Counter)
    first_errors: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, route: str, status: int, seconds: float, text: str) -> None:
        """One response; status 0 where there was none."""
        with self.lock:
            self.statuses[status] += 1
            if 200 <= status < 300:
                self.taken[route].append(seconds)
            elif status != 429 and len(self.first_errors) < 5:
                self.first_errors.append(f"{route}: {status} {text[:200]}")


class Client:
    """One client with one connection, which is opened again where the server has closed it."""

    def __init__(self, url: str, key: str, tally: Tally, end: float) -> None:
        parts = urllib.parse.urlsplit(url)
        self.host, self.path, self.secure = parts.netloc, parts.path.rstrip("/"), parts.scheme == "https"
        self.headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.tally, self.end = tally, end
        self.connection: http.client.HTTPConnection | None = None

    @property
    def over(self) -> bool:
        """Whether the time is over."""
        return time.monotonic() > self.end

    def call(self, method: str, path: str, route: str, body: bytes = b"", kind: str = "application/json") -> Any:
        """One request, again and again while it is refused; the JSON of the answer, None for none."""
        while not self.over:
            began = time.perf_counter()
            try:
                status, wait, content = self._once(method, path, body, kind)
            except (OSError, http.client.HTTPException) as error:
                self.close()
                self.tally.note(route, 0, 0.0, repr(error))
                return None
            text = content.decode("utf-8", "replace") if status >= 300 else ""
            self.tally.note(route, status, time.perf_counter() - began, text)
            if status == 429:
                time.sleep(max(0.0, min(wait, self.end - time.monotonic())))
                continue
            return json.loads(content) if 200 <= status < 300 and content else None
        return None

    def _once(self, method: str, path: str, body: bytes, kind: str) -> tuple[int, float, bytes]:
        if self.connection is None:
            make = http.client.HTTPSConnection if self.secure else http.client.HTTPConnection
            self.connection = make(self.host, timeout=PATIENCE)
        headers = {**self.headers, **({"Content-Type": kind} if body else {})}
        self.connection.request(method, self.path + path, body or None, headers)
        response = self.connection.getresponse()
        content = response.read()
        if response.will_close:
            self.close()
        return response.status, float(response.headers.get("Retry-After") or 1), content

    def close(self) -> None:
        """Close the connection."""
        if self.connection is not None:
            self.connection.close()
        self.connection = None

    def segment(self, picture: bytes, text: str) -> None:
        """A picture and an expression in one request."""
        boundary = "refsegload"
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="text"\r\n\r\n{text}\r\n--{boundary}\r\n'
        head += 'Content-Disposition: form-data; name="image"; filename="a.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
        body = head.encode() + picture + f"\r\n--{boundary}--\r\n".encode()
        self.call("POST", "/v1/segment", "segment", body, f"multipart/form-data; boundary={boundary}")

    def keep_and_ask(self, picture: bytes, texts: Sequence[str]) -> None:
        """A picture that is kept, and expressions one after the other."""
        kept = self.call("POST", "/v1/images", "keep", picture, "image/jpeg")
        if kept is None:
            return
        for text in texts:
            self.call("POST", f"/v1/images/{kept['id']}/ask", "ask", json.dumps({"texts": [text]}).encode())
        self.call("DELETE", f"/v1/images/{kept['id']}", "forget")


def measure(load: Load, url: str | None = None, options: Sequence[str] = ()) -> dict[str, Any]:
    """Let clients ask, and report as plain values; starts `refseg serve OPTIONS` on this machine without a `url`.

    Raises `RefsegError` where the server does not start or answer.
    """
    scenes = draw()
    if url is not None:
        return _measure(load, url, scenes, None)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [sys.executable, "-m", "refseg", "serve", "--port", str(port), "--no-page", *options]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            return _measure(load, f"http://127.0.0.1:{port}", scenes, process)
        except RefsegError as error:
            log.seek(0)
            said = log.read().decode("utf-8", "replace").strip()
            raise RefsegError(f"{error}; the server said: {said[-500:]}" if said else str(error)) from error
        finally:
            process.terminate()
            try:
                process.wait(90)
            except subprocess.TimeoutExpired:
                process.kill()


def draw() -> list[tuple[bytes, list[str]]]:
    """Drawn scenes as JPEG, with expressions about them."""
    from refseg.generation.scenes import generate

    scenes = []
    for index in range(PICTURES):
        scene = generate(seed=5, index=index, size=SIZE)
        buffer = BytesIO()
        Image.fromarray(scene.image).save(buffer, format="JPEG", quality=90)
        scenes.append((buffer.getvalue(), [expression.text for expression in scene.expressions]))
    return scenes


def _measure(
    load: Load, url: str, scenes: list[tuple[bytes, list[str]]], process: subprocess.Popen[bytes] | None
) -> dict[str, Any]:
    _wait(url, process)
    for picture, texts in scenes[:2]:  # the first answers of a process take longer: memory and threads are set up
        warm = Client(url, load.key, Tally(), time.monotonic() + PATIENCE)
        warm.segment(picture, texts[0])
        warm.keep_and_ask(picture, texts[:2])
        warm.close()
        if warm.tally.first_errors:
            raise RefsegError(f"the server refuses: {warm.tally.first_errors[0]}")
    tally = Tally()
    began = time.monotonic()
    memory: list[tuple[float, float]] = []
    threads = [
        threading.Thread(target=_work, args=(number, load, url, scenes, tally, began + load.seconds), daemon=True)
        for number in range(load.clients)
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        if process is not None:
            memory.append((time.monotonic() - began, _memory(process.pid)))
            if process.poll() is not None:
                raise RefsegError("the server ended while it was measured")
        time.sleep(0.5)
    seconds = time.monotonic() - began
    answers = sum(len(times) for route, times in tally.taken.items() if route in ("segment", "ask"))
    refused = tally.statuses[429]
    good = sum(count for status, count in tally.statuses.items() if 200 <= status < 300)
    return {
        "load": {**asdict(load), "key": bool(load.key)},
        "seconds": seconds,
        "answers": answers,
        "answers_per_second": answers / seconds,
        "pictures_per_second": (len(tally.taken["segment"]) + len(tally.taken["keep"])) / seconds,
        "refused": refused,
        "errors": sum(tally.statuses.values()) - good - refused,
        "first_errors": tally.first_errors,
        "routes": {route: _row(times) for route, times in sorted(tally.taken.items()) if times},
        "memory": _flatness(memory),
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "cores": os.cpu_count(),
    }


def _work(number: int, load: Load, url: str, scenes: list[tuple[bytes, list[str]]], tally: Tally, end: float) -> None:
    rng = random.Random(number)
    client = Client(url, load.key, tally, end)
    while not client.over:
        picture, texts = rng.choice(scenes)
        if number < load.kept * load.clients:
            client.keep_and_ask(picture, rng.choices(texts, k=ASKS))
        else:
            client.segment(picture, rng.choice(texts))
    client.close()


def _row(times: Sequence[float]) -> dict[str, int | float]:
    values = 1000 * np.asarray(times)
    shares = {"median": 0.5, "p95": 0.95, "p99": 0.99, "slowest": 1.0}
    return {"requests": len(values), **{name: float(np.quantile(values, share)) for name, share in shares.items()}}


def _wait(url: str, process: subprocess.Popen[bytes] | None) -> None:
    """Return once the server is ready."""
    client = Client(url, "", Tally(), 0.0)
    end = time.monotonic() + (START if process is not None else 10.0)
    reason = ""
    while time.monotonic() < end:
        if process is not None and process.poll() is not None:
            raise RefsegError("the server did not start")
        try:
            status, _, content = client._once("GET", "/readyz", b"", "")
        except (OSError, http.client.HTTPException) as error:
            client.close()
            reason = str(error)
        else:
            if status == 200:
                client.close()
                return
            reason = content.decode("utf-8", "replace")[:200]
        time.sleep(0.2)
    raise RefsegError(f"{url}: the server is not ready ({reason})")


def _memory(process: int) -> float:
    """Resident megabytes of a process and those below it; NaN where /proc does not tell."""
    total = 0.0
    waiting = [process]
    while waiting:
        number = waiting.pop()
        with suppress(OSError, ValueError, IndexError):
            pages = int(Path(f"/proc/{number}/statm").read_text().split()[1])
            total += pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)
            for task in Path(f"/proc/{number}/task").iterdir():
                waiting += [int(child) for child in (task / "children").read_text().split()]
    return total or float("nan")


def _flatness(samples: Sequence[tuple[float, float]]) -> dict[str, float] | None:
    """Memory in megabytes: medians of the first, second and last third, and the highest."""
    known = [size for _, size in samples if size == size]
    if len(known) < 3:
        return None
    thirds = np.array_split(np.asarray(known), 3)
    names = ("first_third", "second_third", "last_third")
    return {**{name: float(np.median(part)) for name, part in zip(names, thirds, strict=True)}, "peak": max(known)}


def lines(report: dict[str, Any]) -> list[str]:
    """The report as a person reads it."""
    told = [
        f"{report['load']['clients']} clients for {report['seconds']:.0f} s: {report['answers']} answers "
        f"({report['answers_per_second']:.2f} a second), {report['pictures_per_second']:.2f} pictures encoded a second",
        f"{'request':<10} {'number':>7} {'median':>9} {'95 %':>9} {'99 %':>9}   (milliseconds)",
    ]
    for route, row in report["routes"].items():
        times = " ".join(f"{row[name]:>9.0f}" for name in ("median", "p95", "p99"))
        told.append(f"{route:<10} {row['requests']:>7} {times}")
    told.append(f"refused with 429: {report['refused']}; errors: {report['errors']}")
    told += [f"error: {each}" for each in report["first_errors"]]
    if report["memory"] is not None:
        memory = report["memory"]
        told.append(
            f"memory of the server, medians of the three thirds of the time: {memory['first_third']:.0f}, "
            f"{memory['second_third']:.0f}, {memory['last_third']:.0f} MB; peak {memory['peak']:.0f} MB"
        )
    if report["load_average"] is not None:
        told.append(f"load of the machine at the end: {report['load_average']:.1f} on {report['cores']} cores")
    return told
