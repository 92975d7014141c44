"""Work in a team: taking back, practice, review, projects, invitations, single sign-on, languages."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import runpy
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
import yaml
from sqlalchemy import select, update
from starlette.testclient import TestClient

from refseg.apps.annotate.app import create_app
from refseg.apps.annotate.auth.access import COOKIE
from refseg.apps.annotate.database.tables import GameSample, Person, Picture
from refseg.apps.annotate.game import Game
from refseg.apps.annotate.settings import Settings
from refseg.apps.annotate.web.texts import FOLDER, LANGUAGES, catalog
from refseg.errors import ConfigError
from tests.support.replay import contradictions
from tests.support.small_games import Browser, add_people, log_in, make_game, token_in

ROOT = Path(__file__).parents[3]
PEOPLE = ("anna", "viktor", "vera")


def start(tmp_path: Path, **settings: Any) -> tuple[Game, Any, dict[str, Browser]]:
    game = make_game(tmp_path / "game", **settings)
    add_people(game, *PEOPLE)
    app = create_app(game.settings, game)
    return game, app, {name: log_in(app, name) for name in PEOPLE}


@pytest.fixture
def team(tmp_path: Path) -> Iterator[tuple[Game, Any, dict[str, Browser]]]:
    made = start(tmp_path)
    yield made
    with made[0].database.read() as session:
        assert contradictions(session) == []
    made[0].database.close()


def states(game: Game) -> list[str]:
    with game.database.read() as session:
        return list(session.scalars(select(GameSample.state).order_by(GameSample.id)))


# Taking back -------------------------------------------------------------------------------


def test_a_sentence_is_taken_back_while_nobody_has_it(team: Any) -> None:
    game, _, people = team
    number = people["anna"].write("what I should not have said").json()["sample"]["id"]
    path = f"/api/v1/me/samples/{number}/withdraw"
    assert people["anna"].get("/api/v1/me/samples").json()["items"][0]["free"]
    assert people["viktor"].post(path, json={}).status_code == 404
    assert people["viktor"].next_validate()["sample"]["id"] == number
    assert not people["anna"].get("/api/v1/me/samples").json()["items"][0]["free"]
    assert people["anna"].post(path, json={}).status_code == 409  # he has it
    game.clock.now += 901  # type: ignore[attr-defined]
    assert people["anna"].post(path, json={}).json()["state"] == "withdrawn"
    assert people["viktor"].next_validate() is None
    assert people["anna"].write("what I should not have said").status_code == 201  # no duplicate of a living one


def test_a_sentence_that_was_judged_stays(team: Any) -> None:
    game, _, people = team
    task = people["anna"].next_write()
    number = people["anna"].write("the first of them", [task["objects"][0]["id"]]).json()["sample"]["id"]
    people["viktor"].judge([])
    assert states(game) == ["second"]
    assert people["anna"].post(f"/api/v1/me/samples/{number}/withdraw", json={}).status_code == 409


def test_a_sentence_is_put_differently(team: Any) -> None:
    game, _, people = team
    task = people["anna"].next_write()
    targets = [task["objects"][0]["id"]]
    number = people["anna"].write("teh first of them", targets).json()["sample"]["id"]
    back = people["anna"].post(f"/api/v1/me/samples/{number}/withdraw", json={"draft": True}).json()
    again = people["anna"].next_write(picture_id=back["picture_id"])
    assert again["draft"]["content"]["text"] == "teh first of them"
    assert again["draft"]["content"]["targets"] == targets
    body = {"lease_id": again["lease"]["id"], "client_key": "again-0001", "text": "the first of them"}
    assert people["anna"].post("/api/v1/samples", json={**body, "targets": targets}).status_code == 201
    assert states(game) == ["withdrawn", "waiting"]


# Practice ----------------------------------------------------------------------------------


def make_gold(people: dict[str, Browser]) -> tuple[int, list[int]]:
    task = people["anna"].next_write()
    targets = [task["objects"][0]["id"]]
    number = people["anna"].write("the one in the corner", targets).json()["sample"]["id"]
    people["viktor"].judge(targets)
    assert people["anna"].put(f"/api/v1/admin/samples/{number}/gold", json={"gold": True}).json()["gold"]
    return number, targets


def test_practice_comes_first_and_counts(tmp_path: Path) -> None:
    game, _, people = start(tmp_path, practice_first=1)
    assert people["vera"].next_write() is not None  # nothing to practise with
    number, targets = make_gold(people)
    game.database.write(
        lambda session: session.execute(
            update(Picture).values(lease_id=None, lease_person=None, lease_until=None)
        ).close()
    )
    for kind in ("write", "validate"):
        answer = people["vera"].post(f"/api/v1/{kind}/next", json={}).json()
        assert answer == {"task": None, "reason": "practice"}
    shown = people["vera"].post("/api/v1/practice/next").json()
    assert (shown["task"]["sample"], shown["due"]) == ({"id": number, "text": "the one in the corner"}, True)
    assert "targets" not in json.dumps(shown["task"]["sample"])
    assert people["vera"].get(shown["task"]["picture"]["url"]).status_code == 200
    wrong = people["vera"].post(f"/api/v1/practice/{number}", json={"no_target": True}).json()
    assert wrong == {"matched": False, "targets": targets, "no_target": False}
    assert people["vera"].post(f"/api/v1/practice/{number}", json={"no_target": True}).status_code == 404
    assert people["vera"].next_write() is None
    people["vera"].post("/api/v1/practice/next")
    assert people["vera"].post(f"/api/v1/practice/{number}", json={"targets": targets}).json()["matched"]
    assert people["vera"].next_write() is not None
    rows = {row["name"]: row["practice"] for row in people["anna"].get("/api/v1/admin/people").json()["items"]}
    assert rows == {"anna": [0, 0], "viktor": [0, 0], "vera": [1, 2]}
    assert people["anna"].next_write() is not None, "who wrote the only gold sentence has nothing to practise with"
    game.database.close()


def test_only_accepted_sentences_are_practised_with(team: Any) -> None:
    _, _, people = team
    number = people["anna"].write("the one in the corner").json()["sample"]["id"]
    assert people["anna"].put(f"/api/v1/admin/samples/{number}/gold", json={"gold": True}).status_code == 409


# Review ------------------------------------------------------------------------------------


def test_the_review_queue_has_flags_and_broken_masks(team: Any) -> None:
    _, _, people = team
    task = people["anna"].next_write()
    flagged = people["anna"].write("the three things", [task["objects"][0]["id"]]).json()["sample"]["id"]
    broken = people["anna"].write("whose mask is broken").json()["sample"]["id"]
    for browser in (people["viktor"], people["vera"]):
        shown = browser.next_validate()
        if shown["sample"]["id"] == broken:
            browser.judge(decision="reject", no_target=False, reason="broken_mask", note="half of it")
            break
        browser.post(f"/api/v1/leases/{shown['lease']['id']}/release", json={"skip": True})
        if (shown := browser.next_validate()) and shown["sample"]["id"] == broken:
            browser.judge(decision="reject", no_target=False, reason="broken_mask", note="half of it")
            break
    queue = people["anna"].get("/api/v1/admin/review").json()
    assert [(row["id"], row["flags"]) for row in queue["items"]] == [(flagged, ["count_mismatch"])]
    assert [row["reports"] for row in queue["broken"]] == [
        [{"sample_id": broken, "text": "whose mask is broken", "note": "half of it"}]
    ]
    assert people["anna"].post(f"/api/v1/admin/samples/{flagged}/pass").status_code == 200
    assert people["anna"].get("/api/v1/admin/review").json()["total"] == 0


# Projects and invitations ------------------------------------------------------------------


def test_people_of_a_project_get_its_pictures_only(team: Any) -> None:
    game, _, people = team
    admin = people["anna"]
    project = admin.post("/api/v1/admin/projects", json={"name": "Street"}).json()
    assert admin.post("/api/v1/admin/projects", json={"name": " street "}).json()["id"] == project["id"]
    chosen = game.database.write(lambda session: _into(session, project["id"]))
    numbers = {row["name"]: row["id"] for row in admin.get("/api/v1/admin/people").json()["items"]}
    path = f"/api/v1/admin/projects/{project['id']}/people"
    assert admin.put(path, json={"people": [numbers["viktor"]]}).status_code == 200
    assert admin.put(path, json={"people": [999]}).status_code == 404
    row = admin.get("/api/v1/admin/projects").json()["items"][0]
    assert (row["pictures"], row["people"]) == (1, [numbers["viktor"]])
    assert people["viktor"].next_write()["picture"]["id"] == chosen
    people["vera"].write("about another picture")
    assert people["viktor"].next_validate() is None, "a sentence of another project"
    admin.put(path, json={"people": []})
    assert people["viktor"].next_validate() is not None


def _into(session: Any, project: int) -> int:
    picture = session.scalars(select(Picture).order_by(Picture.id)).first()
    picture.project_id = project
    return int(picture.id)


def test_an_invitation_makes_accounts_for_its_places_and_days(team: Any) -> None:
    game, app, people = team
    admin = people["anna"]
    project = admin.post("/api/v1/admin/projects", json={"name": "Street"}).json()["id"]
    body = {"label": "Monday's class", "roles": ["annotator"], "places": 1, "days": 2, "project_id": project}
    refused = admin.post("/api/v1/admin/invitations", json={**body, "roles": ["administrator"]})
    assert refused.status_code == 422
    link = admin.post("/api/v1/admin/invitations", json=body).json()["path"]
    visitor = TestClient(app)
    page = visitor.get(link)
    assert "Monday" in page.text
    form = {"name": "mei", "password": "short", "csrf_token": token_in(page.text)}
    assert visitor.post(link, data={**form, "csrf_token": "x"}).status_code == 403
    assert visitor.post(link, data=form).status_code == 422
    joined = visitor.post(link, data={**form, "password": "correct horse"}, follow_redirects=False)
    assert (joined.status_code, joined.headers["location"]) == (303, "/")
    me = visitor.get("/api/v1/me").json()["user"]
    assert (me["name"], me["roles"]) == ("mei", ["annotator"])
    assert admin.get("/api/v1/admin/projects").json()["items"][0]["people"] == [me["id"]]
    assert TestClient(app).get(link, headers={"Accept": "text/html"}).status_code == 404  # its only place is taken
    other = admin.post("/api/v1/admin/invitations", json=body).json()
    game.clock.now += 3 * 86_400  # type: ignore[attr-defined]
    assert TestClient(app).get(other["path"]).status_code == 404
    listed = admin.get("/api/v1/admin/invitations").json()["items"]
    assert [row["open"] for row in listed] == [False, False]
    assert all("path" not in row for row in listed)


def test_a_revoked_invitation_is_over(team: Any) -> None:
    _, app, people = team
    body = {"label": "x", "roles": ["annotator"], "places": 5, "days": 2}
    made = people["anna"].post("/api/v1/admin/invitations", json=body).json()
    people["anna"].delete(f"/api/v1/admin/invitations/{made['id']}")
    assert TestClient(app).get(made["path"]).status_code == 404


# Single sign-on ----------------------------------------------------------------------------


class Provider:
    """An OpenID Connect provider on this machine; `claims` is what it says of whoever comes."""

    def __init__(self) -> None:
        self.claims: dict[str, Any] = {"sub": "42", "email": "mei@example.org", "email_verified": True, "name": "Mei"}
        self.overrides: dict[str, Any] = {}
        self.asked: dict[str, str] = {}
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.reply(
                    {
                        "issuer": provider.issuer,
                        "authorization_endpoint": f"{provider.issuer}/authorize",
                        "token_endpoint": f"{provider.issuer}/token",
                    }
                )

            def do_POST(self) -> None:
                form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                verifier = form["code_verifier"][0].encode()
                challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier).digest()).rstrip(b"=").decode()
                assert challenge == provider.asked["code_challenge"]
                claims = {
                    "iss": provider.issuer, "aud": "game", "exp": 4e9, "nonce": provider.asked["nonce"],
                    **provider.claims, **provider.overrides,
                }  # fmt: skip
                packed = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
                self.reply({"id_token": f"e30.{packed}.x", "access_token": "y"})

            def reply(self, content: dict[str, Any]) -> None:
                body = json.dumps(content).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *given: Any) -> None:
                return

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.issuer = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def come_back(self, browser: TestClient, **changes: str) -> Any:
        """A login: to the provider and back, what the browser sends changed."""
        sent = browser.get("/login/oidc?next=/mine", follow_redirects=False)
        assert sent.status_code == 303
        self.asked = {name: values[0] for name, values in parse_qs(urlsplit(sent.headers["location"]).query).items()}
        assert self.asked["redirect_uri"].endswith("/login/oidc/back")
        query = {"code": "c", "state": self.asked["state"], **changes}
        return browser.get(f"/login/oidc/back?{urlencode(query)}", follow_redirects=False)


@pytest.fixture
def provider() -> Iterator[Provider]:
    made = Provider()
    yield made
    made.server.shutdown()
    made.server.server_close()


def signed(tmp_path: Path, provider: Provider, **settings: Any) -> tuple[Game, Any]:
    game = make_game(tmp_path / "game", oidc_issuer=provider.issuer, oidc_client="game", **settings)
    return game, create_app(game.settings, game)


def test_somebody_new_comes_by_single_sign_on(tmp_path: Path, provider: Provider) -> None:
    game, app = signed(tmp_path, provider, oidc_roles=("annotator",))
    browser = TestClient(app)
    assert "/login/oidc" in browser.get("/login").text
    answer = provider.come_back(browser)
    assert (answer.status_code, answer.headers["location"]) == (303, "/mine")
    first = browser.get("/api/v1/me").json()["user"]
    assert (first["name"], first["roles"]) == ("Mei", ["annotator"])
    provider.claims["name"] = "renamed"
    again = TestClient(app)
    provider.come_back(again)
    assert again.get("/api/v1/me").json()["user"]["id"] == first["id"]  # by its subject
    game.database.close()


def test_single_sign_on_opens_accounts_that_an_administrator_made(tmp_path: Path, provider: Provider) -> None:
    game, app = signed(tmp_path, provider)
    assert provider.come_back(TestClient(app)).status_code == 401  # nobody of that name
    add_people(game, "mei@example.org", roles=("validator",))
    provider.claims["email_verified"] = False
    assert provider.come_back(TestClient(app)).status_code == 401  # an address that nobody confirmed
    provider.claims["email_verified"] = True
    browser = TestClient(app)
    assert provider.come_back(browser).status_code == 303
    assert browser.get("/api/v1/me").json()["user"]["roles"] == ["validator"]
    game.database.write(lambda session: session.execute(update(Person).values(active=False)).close())
    assert provider.come_back(TestClient(app)).status_code == 401
    game.database.close()


@pytest.mark.parametrize(
    "overrides",
    [
        {"iss": "https://elsewhere.example"}, {"aud": "another"}, {"aud": ["game", "another"]}, {"exp": 1},
        {"exp": None}, {"nonce": "replayed"}, {"sub": ""}, {"sub": None},
    ],
)  # fmt: skip
def test_answers_for_others_are_refused(tmp_path: Path, provider: Provider, overrides: dict[str, Any]) -> None:
    game, app = signed(tmp_path, provider, oidc_roles=("annotator",))
    provider.overrides = overrides
    answer = provider.come_back(TestClient(app))
    assert answer.status_code == 401
    assert COOKIE not in answer.headers.get("set-cookie", "").split("=")[0] or "login" in answer.text.lower()
    with game.database.read() as session:
        assert session.scalars(select(Person)).all() == []
    game.database.close()


def test_a_forged_return_is_refused(tmp_path: Path, provider: Provider) -> None:
    game, app = signed(tmp_path, provider, oidc_roles=("annotator",))
    assert provider.come_back(TestClient(app), state="forged").status_code == 401
    provider.come_back(TestClient(app))
    query = urlencode({"code": "c", "state": provider.asked["state"]})
    assert TestClient(app).get(f"/login/oidc/back?{query}").status_code == 401  # another browser
    game.database.close()


def test_without_a_provider_there_is_no_such_page(team: Any, tmp_path: Path) -> None:
    assert TestClient(team[1]).get("/login/oidc").status_code == 404
    with pytest.raises(ConfigError, match="go together"):
        Settings(tmp_path, oidc_issuer="https://x.example")
    with pytest.raises(ConfigError, match="is no role"):
        Settings(tmp_path, oidc_issuer="https://x.example", oidc_client="y", oidc_roles=("king",))


# Languages ---------------------------------------------------------------------------------


def texts_of_pages() -> set[str]:
    """All texts that templates and scripts ask the catalogues for."""
    home = FOLDER.parent
    found: set[str] = set()
    for path in home.glob("templates/*.html"):
        found |= set(re.findall(r'_\("((?:[^"\\]|\\.)*)"\)', path.read_text()))
    for path in home.glob("static/js/*.js"):
        found |= set(re.findall(r'\bt\(\s*"((?:[^"\\]|\\.)*)"', path.read_text()))
    return found


@pytest.mark.parametrize("language", sorted(set(LANGUAGES) - {"en"}))
def test_every_text_of_the_pages_is_there(language: str) -> None:
    words = catalog(language)
    missing = texts_of_pages() - set(words)
    assert not missing
    for english, other in words.items():
        assert sorted(re.findall(r"\{\w+\}", english)) == sorted(re.findall(r"\{\w+\}", other)), english


def test_pages_speak_the_persons_language(team: Any) -> None:
    _, app, people = team
    stranger = TestClient(app, headers={"Accept-Language": "zh-CN,zh;q=0.9,en;q=0.8"})
    assert '<html lang="zh"' in stranger.get("/login").text
    assert "登录" in stranger.get("/login").text
    assert '<html lang="en"' in TestClient(app).get("/login").text
    assert people["vera"].put("/api/v1/me/language", json={"language": "zh"}).status_code == 200
    assert "描述" in people["vera"].get("/").text
    assert people["vera"].put("/api/v1/me/language", json={"language": "xx"}).status_code == 422


# Deployment --------------------------------------------------------------------------------


def test_the_deployment_names_options_that_there_are() -> None:
    """Every option in the compose file and the unit is one of `annotate serve`."""
    from typer.main import get_command

    from refseg.cli.annotate_serve import app

    serve = get_command(app).commands["serve"]  # type: ignore[attr-defined]
    known = {name for parameter in serve.params for name in parameter.opts}
    compose = yaml.safe_load((ROOT / "deploy/annotate/compose.yaml").read_text())
    used = [word.partition("=")[0] for word in compose["services"]["game"]["command"] if word.startswith("--")]
    unit = (ROOT / "deploy/annotate/refseg-game.service").read_text()
    (line,) = [line for line in unit.splitlines() if line.startswith("ExecStart=")]
    used += [word for word in line.split() if word.startswith("--")]
    assert used
    assert set(used) <= known
    assert set(compose["services"]) == {"proxy", "game", "database"}


def test_the_games_requirements_are_without_torch(tmp_path: Path) -> None:
    made = runpy.run_path(str(ROOT / "deploy/annotate/requirements.py"))["needed"](ROOT / "pyproject.toml")
    names = {line.split(">")[0].split("[")[0] for line in made}
    assert names.isdisjoint({"torch", "transformers"})
    game = {"alembic", "argon2-cffi", "fastapi", "itsdangerous", "jinja2", "psycopg", "sqlalchemy", "uvicorn"}
    assert names >= game | {"numpy", "pillow", "pycocotools", "typer"}
