"""Every route of the server and of the game with requests that it cannot use: a typed refusal, never a 5xx."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the optional extras 'serve' and 'annotate' are not installed")

from starlette.testclient import TestClient

from refseg.apps.annotate.app import create_app as create_game
from refseg.apps.annotate.errors import STATUS as GAME_STATUS
from refseg.apps.serve.app import create_app as create_server
from refseg.apps.serve.errors import STATUS as SERVER_STATUS
from refseg.apps.serve.settings import Settings
from refseg.inference.predictor import load
from tests.reliability.test_bad_input import PICTURES
from tests.support.damage import ODD
from tests.support.small_games import add_people, log_in, make_game

pytestmark = [pytest.mark.reliability, pytest.mark.timeout(1200)]

BODIES: dict[str, bytes] = {
    "none": b"",
    "open": b"{",
    "list": b"[]",
    "null": b"null",
    "number": b"5",
    "text": b'"x"',
    "table": b"{}",
    "unknown": b'{"nothing": 1}',
    "deep list": b"[" * 100_000,
    "deep table": b'{"a":' * 100_000,
    "binary": bytes(range(256)),
    "half a letter": b'{"text": "\xff\xfe"}',
    "not a number": b'{"text": NaN, "texts": Infinity}',
    "many digits": b'{"lease_id": ' + b"9" * 4000 + b"}",
    "more digits": b"9" * 100_000,
    "twice": b'{"text": "a", "text": 5}',
    "surrogate": b'{"text": "\\ud800", "texts": ["\\ud800"], "name": "\\ud800"}',
    "zero": b'{"text": "\\u0000", "texts": ["\\u0000"], "name": "\\u0000"}',
}
PLACES = ("0", "-1", "9" * 30, "x", "1.5", "%00", "..%2f..%2fetc%2fpasswd", "%ff", "é", "1 OR 1=1", "nan", "%0d%0aX: y")
KINDS = ("application/json", "text/plain", "multipart/form-data", "multipart/form-data; boundary=b",
         "application/x-www-form-urlencoded", "application/json; charset=nothing", "")  # fmt: skip


class Route:
    """A route: how it is asked, and what the description says that it takes."""

    def __init__(self, method: str, path: str, operation: dict[str, Any], schemas: dict[str, Any]) -> None:
        self.method, self.path = method.upper(), path
        self.query = [each["name"] for each in operation.get("parameters", []) if each["in"] == "query"]
        content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
        name = content.get("schema", {}).get("$ref", "/").rsplit("/", 1)[1]
        self.fields = list(schemas.get(name, {}).get("properties", {}))

    def at(self, place: str) -> str:
        """The path with `place` for each of its parts that vary."""
        path = self.path
        while "{" in path:
            path = path[: path.index("{")] + place + path[path.index("}") + 1 :]
        return path


def routes_of(app: Any) -> list[Route]:
    """Those of the description, and the pages'."""
    description = app.openapi()
    schemas = description.get("components", {}).get("schemas", {})
    found = [
        Route(method, path, operation, schemas)
        for path, methods in description["paths"].items()
        for method, operation in methods.items()
    ]
    known = {(route.method, route.path) for route in found}
    pages = {(method, path) for path, methods in walk(app.routes) for method in methods} - known
    return found + [Route(method, path, {}, {}) for method, path in sorted(pages)]


def walk(routes: Any) -> Iterator[tuple[str, set[str]]]:
    """(path, methods) of an application's routes, those of the routers that it includes among them."""
    for route in routes:
        inner = getattr(route, "original_router", None) or getattr(route, "router", None)
        if getattr(route, "methods", None) and hasattr(route, "path"):
            yield route.path, route.methods
        elif inner is not None:
            yield from walk(inner.routes)


def requests_to(route: Route, odd: int = len(ODD)) -> Iterator[tuple[str, dict[str, Any]]]:
    """(path, further arguments of the request), each wrong in one way; `odd` values for a field of the body, other
    ones for the next field."""
    if "{" in route.path:
        yield from ((route.at(place), {}) for place in PLACES)
    path = route.at("1")
    for name in route.query:
        yield from ((path, {"params": {name: value}}) for value in ("", "x", "-1", "nan", "9" * 30, "\x00", "a" * 5000))
    yield path, {"params": {"nothing": "1"}}
    if route.method in ("GET", "HEAD", "DELETE"):
        return
    for body in BODIES.values():
        yield path, {"content": body, "headers": {"Content-Type": "application/json"}}
    for kind in KINDS:
        yield path, {"content": b"--b\r\n\r\nx", "headers": {"Content-Type": kind}}
    values = itertools.cycle(ODD)
    for field in route.fields:
        for value in itertools.islice(values, odd):
            content = json.dumps({field: value}).encode()
            yield path, {"content": content, "headers": {"Content-Type": "application/json"}}


def attack(
    client: TestClient, routes: list[Route], status: dict[str, int], leave: tuple[str, ...] = (), odd: int = len(ODD)
) -> int:
    """Ask everything; gives how many requests were refused. Fails with all that were answered otherwise."""
    refused, wrong = 0, []
    for route in routes:
        if route.path in leave:
            continue
        for path, arguments in requests_to(route, odd):
            answer = client.request(route.method, path, follow_redirects=False, **arguments)
            problem = problem_of(answer, status)
            refused += 400 <= answer.status_code < 500
            if problem:
                wrong.append(f"{route.method} {path[:80]} {str(arguments)[:120]}: {problem}")
    assert not wrong, "\n".join(wrong[:20]) + f"\n{len(wrong)} in all"
    return refused


def problem_of(answer: Any, status: dict[str, int]) -> str:
    """What is wrong with an answer; "" where nothing is."""
    if answer.status_code >= 500:
        return f"status {answer.status_code}: {answer.text[:300]}"
    if "Traceback" in answer.text:
        return "a traceback"
    if answer.status_code >= 400 and answer.headers.get("content-type", "").startswith("application/json"):
        error = answer.json().get("error", {})
        if status.get(error.get("code")) != answer.status_code and answer.status_code not in (404, 405):
            return f"status {answer.status_code} with {error}"
        if not str(error.get("message", "")).strip() or len(str(error.get("message"))) > 2000:
            return f"no sentence that a person can read: {str(error)[:200]}"
    return ""


@pytest.fixture(scope="module")
def server(world: Path) -> Iterator[TestClient]:
    settings = Settings(models=("tiny",), queue=64)
    with TestClient(create_server(settings, {"tiny": load(world / "model", device="cpu")})) as client:
        yield client


@pytest.fixture(scope="module")
def game(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    game = make_game(tmp_path_factory.mktemp("game") / "game", requests_per_minute=10**9, writes_per_minute=10**9)
    add_people(game, "anna")
    yield create_game(game.settings, game)
    game.database.close()


def test_every_route_of_the_server(server: TestClient) -> None:
    routes = routes_of(server.app)
    assert len(routes) > 8
    assert attack(server, routes, SERVER_STATUS) > 200


def test_bad_pictures_are_refused_by_the_server(server: TestClient, world: Path) -> None:
    for name in PICTURES:
        if not (world / name).is_file():
            continue
        data = (world / name).read_bytes()
        form = server.post("/v1/segment", files={"image": (name, data)}, data={"text": "ball"})
        encoded = base64.b64encode(data).decode()
        by_json = server.post("/v1/segment", json={"images": [encoded], "texts": ["ball"]})
        kept = server.post("/v1/images", files={"image": (name, data)})
        for answer in (form, by_json, kept):
            assert 400 <= answer.status_code < 500, (name, answer.text)
            assert problem_of(answer, SERVER_STATUS) == "", name
    assert server.post("/v1/segment", json={"images": ["?" * 50], "texts": ["a"]}).status_code in (400, 415, 422)


def test_every_route_of_the_game_for_somebody_with_all_roles(game: Any) -> None:
    routes = routes_of(game)
    assert len(routes) > 60
    # After the logout everything else would be refused for want of a login.
    with log_in(game, "anna") as client:  # one loop for all requests, and not one for each
        assert attack(client, routes, GAME_STATUS, leave=("/logout",)) > 1000


def test_every_route_of_the_game_for_a_stranger(game: Any) -> None:
    with TestClient(game, raise_server_exceptions=False) as client:
        # Bodies of strangers are not read (`tests/apps/annotate/test_bodies.py`), whatever their fields hold.
        assert attack(client, routes_of(game), GAME_STATUS, odd=3) > 200
