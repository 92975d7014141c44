"""The API against its own description: whatever fits it, or does not, is answered as it says, and never with 5xx."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refseg.apps.annotate.api.models import ErrorBody
from refseg.apps.annotate.app import create_app
from refseg.apps.annotate.auth.people import add_token
from refseg.apps.annotate.errors import STATUS
from refseg.apps.annotate.game import Game
from tests.support.small_games import EVERYTHING, Browser, add_people, log_in, make_game

Enter = Callable[..., Browser]
ALWAYS = {"400", "401", "403", "408", "413", "422", "429", "500", "503"}


def test_every_operation_says_what_it_answers(enter: Enter) -> None:
    description = enter.app.openapi()  # type: ignore[attr-defined]
    operations = [
        (path, method, operation)
        for path, methods in description["paths"].items()
        for method, operation in methods.items()
    ]
    assert len(operations) > 35
    for path, method, operation in operations:
        assert operation["summary"], path
        assert operation["description"], path
        assert {name for way in operation["security"] for name in way} == {"token", "cookie"}, path
        assert set(operation["responses"]) >= ALWAYS, (path, method)
        for status, answer in operation["responses"].items():
            if int(status) >= 400:
                schema = answer["content"]["application/json"]["schema"]
                assert schema["$ref"].endswith("/ErrorBody"), (path, method, status)
            elif status != "304":
                assert answer["content"], (path, method, status)
    codes = description["components"]["schemas"]["Fault"]["properties"]["code"]["enum"]
    assert set(codes) == set(STATUS)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def playing(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A browser of somebody with all roles, in a game of its own, and the operations."""
    game = make_game(tmp_path_factory.mktemp("api") / "game", requests_per_minute=10**9, writes_per_minute=10**9)
    add_people(game, "anna", "viktor")
    app = create_app(game.settings, game)
    viktor = log_in(app, "viktor")
    viktor.write("something to look at")
    description = app.openapi()
    operations = [
        (method, path, operation)
        for path, methods in description["paths"].items()
        for method, operation in methods.items()
        if "people" not in path and "password" not in path
    ]
    yield log_in(app, "anna"), operations, description
    game.database.close()


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_strange_requests_are_answered_clearly(playing: Any, data: st.DataObject) -> None:
    browser, operations, description = playing
    method, path, operation = data.draw(st.sampled_from(operations))
    query: dict[str, str] = {}
    for parameter in operation.get("parameters", []):
        value = str(data.draw(st.integers(0, 3) | st.sampled_from(["write", "x", "-1", "9" * 30, "a b", "\u00e9"])))
        if parameter["in"] == "path":
            path = path.replace("{" + parameter["name"] + "}", value)
        elif data.draw(st.booleans()):
            query[parameter["name"]] = value
    body = None
    if "application/json" in operation.get("requestBody", {}).get("content", {}):
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        known = description["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]["properties"]
        fields = {name: JSON | st.integers(1, 4) | st.lists(st.integers(1, 12), max_size=3) for name in known}
        body = json.dumps(data.draw(st.fixed_dictionaries({}, optional=fields) | JSON)).encode()
    headers = {"Content-Type": "application/json"}
    answer = browser.request(method.upper(), path, params=query, content=body, headers=headers)
    assert answer.status_code < 500, (method, path, query, body, answer.text)
    if answer.status_code >= 400:
        ErrorBody.model_validate_json(answer.text)
        assert STATUS[answer.json()["error"]["code"]] == answer.status_code or answer.status_code in (307, 404, 405)


def _schemathesis_case(game: Game, seconds_each: int) -> tuple[Any, str]:
    schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
    app = create_app(game.settings, game)
    numbers = add_people(game, "robot", roles=EVERYTHING)
    token = game.database.write(lambda session: add_token(session, game, numbers["robot"], "test")[1])
    # An account that closes itself would end the test: the robot may not change people.
    description = copy.deepcopy(app.openapi())
    for path in list(description["paths"]):
        if "/people/" in path or path.endswith("/me/password"):
            del description["paths"][path]
    app.openapi = lambda: description
    return schemathesis.openapi.from_asgi("/api/openapi.json", app), token


@pytest.mark.slow
def test_schemathesis_finds_no_server_error(sqlite_game: Game) -> None:
    """Every operation, with data that fit the description and data that do not."""
    changed = sqlite_game.settings.change(requests_per_minute=10**9, writes_per_minute=10**9)
    game = Game(changed, sqlite_game.database, sqlite_game.clock, sqlite_game.rng)
    schema, token = _schemathesis_case(game, 5)
    from schemathesis.checks import not_a_server_error

    headers = {"Authorization": f"Bearer {token}"}
    tried = 0
    for result in schema.get_all_operations():
        operation = result.ok()

        @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(case=operation.as_strategy())
        def one(case: Any) -> None:
            nonlocal tried
            tried += 1
            case.call_and_validate(headers=headers, checks=[not_a_server_error])

        one()
    assert tried > 500
