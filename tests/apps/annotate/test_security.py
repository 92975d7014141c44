"""Refused, logged, one clear answer: what must not be possible."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from sqlalchemy import select, text
from starlette.testclient import TestClient

from refseg.apps.annotate.app import create_app
from refseg.apps.annotate.auth import people
from refseg.apps.annotate.database.tables import GameSample, Person, Security
from refseg.apps.annotate.game import Game
from refseg.apps.annotate.web.middleware import HEADERS
from tests.support.small_games import PASSWORD, Browser, add_people, log_in, make_game, token_in

Enter = Callable[..., Browser]
NASTY = (
    "'; DROP TABLE samples; --",
    '" OR "1"="1',
    "x' UNION SELECT password FROM people --",
    "%' AND 1=1 --",
    "<script>alert(1)</script>",
    "{{ 7 * 7 }}",
    "../../etc/passwd",
)


def events(game: Game) -> list[str]:
    with game.database.read() as session:
        return list(session.scalars(select(Security.event).order_by(Security.id)))


def code(answer: Any) -> str:
    body = answer.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message", "field", "details"}
    return body["error"]["code"]


def test_nothing_but_the_login_without_login(enter: Enter, sqlite_game: Game) -> None:
    stranger = TestClient(enter.app)  # type: ignore[attr-defined]
    description = stranger.get("/api/openapi.json").json()
    for path, methods in description["paths"].items():
        for method in methods:
            answer = stranger.request(
                method.upper(), path.replace("{", "").replace("}", "") if "{" not in path else _filled(path)
            )
            assert answer.status_code == 401, (method, path, answer.text)
            assert code(answer) == "login_required"
    assert stranger.get("/write", follow_redirects=False).headers["location"] == "/login?next=/write"
    assert stranger.get("/healthz").json() == {"status": "ok"}
    assert "login_required" in events(sqlite_game)


def _filled(path: str) -> str:
    return (
        path.replace("{kind}", "write")
        .replace("{lease_id}", "abc")
        .replace("{", "")
        .replace("}", "")
        .replace("sample_id", "1")
        .replace("picture_id", "1")
        .replace("person_id", "1")
        .replace("token_id", "1")
        .replace("item_id", "1")
    )


def test_roles_do_not_reach_further(enter: Enter, sqlite_game: Game) -> None:
    anna, viktor = enter("anna", "annotator"), enter("viktor", "validator")
    for browser, wrong in ((anna, "/api/v1/validate/next"), (viktor, "/api/v1/write/next")):
        assert code(browser.post(wrong, json={})) == "forbidden"
        for path in ("overview", "samples", "samples/1", "people", "audit", "security", "card", "export"):
            assert code(browser.get(f"/api/v1/admin/{path}")) == "forbidden"
        assert code(browser.post("/api/v1/admin/samples/1/reopen", json={"reason": "please"})) == "forbidden"
        body = {"name": "eve", "password": PASSWORD, "roles": ["administrator"]}
        assert code(browser.post("/api/v1/admin/people", json=body)) == "forbidden"
        assert code(browser.patch("/api/v1/admin/people/1", json={"roles": ["administrator"]})) == "forbidden"
        assert browser.get("/admin", headers={"Accept": "text/html"}).status_code == 403
    assert events(sqlite_game).count("forbidden") > 10
    with sqlite_game.database.read() as session:
        assert set(session.scalars(select(Person.roles))) == {"annotator", "validator"}


def test_fields_that_are_not_offered_are_refused(enter: Enter) -> None:
    anna = enter("anna", "annotator")
    for body in ({"theme": "dark", "roles": ["administrator"]}, {"theme": "dark", "id": 2}):
        assert code(anna.put("/api/v1/me/theme", json=body)) == "invalid"
    task = anna.next_write()
    body = {"lease_id": task["lease"]["id"], "client_key": "k" * 8, "text": "x y", "targets": [], "no_target": True}
    for extra in ({"state": "accepted"}, {"author_id": 2}, {"split": "val"}):
        assert code(anna.post("/api/v1/samples", json={**body, **extra})) == "invalid"


def test_writing_needs_the_pages_token(enter: Enter, sqlite_game: Game) -> None:
    anna, viktor = enter("anna"), enter("viktor")
    own = anna.headers.pop("X-CSRF-Token")
    calls = [("post", "/api/v1/write/next", {}), ("put", "/api/v1/me/theme", {"theme": "dark"})]
    for token in ("", "wrong", viktor.headers["X-CSRF-Token"], own[:-1]):
        for method, path, body in calls:
            answer = anna.request(method, path, json=body, headers={"X-CSRF-Token": token} if token else {})
            assert (answer.status_code, code(answer)) == (403, "csrf")
    assert anna.post("/logout").status_code == 403
    assert anna.get("/api/v1/me").status_code == 200
    assert anna.post("/api/v1/write/next", json={}, headers={"X-CSRF-Token": own}).status_code == 200
    assert "csrf" in events(sqlite_game)


def test_the_login_form_is_protected_too(enter: Enter) -> None:
    enter("anna")
    stranger = TestClient(enter.app)  # type: ignore[attr-defined]
    form = {"name": "anna", "password": PASSWORD, "csrf_token": "x"}
    assert stranger.post("/login", data=form).status_code == 400
    token = token_in(stranger.get("/login").text)
    other = TestClient(enter.app)  # type: ignore[attr-defined]
    other.get("/login")
    assert other.post("/login", data={**form, "csrf_token": token}).status_code == 400, "a token of another browser"


def test_another_persons_drafts_selections_and_leases(enter: Enter, sqlite_game: Game) -> None:
    anna, viktor = enter("anna", "annotator"), enter("viktor", "annotator", "validator")
    task = anna.next_write()
    picture, lease = task["picture"]["id"], task["lease"]["id"]
    content = {"text": "secret", "targets": [task["objects"][0]["id"]]}
    assert anna.put(f"/api/v1/drafts/write/{picture}", json={"revision": 0, "content": content}).status_code == 200
    assert code(viktor.get(f"/api/v1/drafts/write/{picture}")) == "not_found"
    assert code(viktor.put(f"/api/v1/drafts/write/{picture}", json={"revision": 0, "content": content})) == "not_found"
    assert viktor.delete(f"/api/v1/drafts/write/{picture}").status_code == 200
    assert anna.get(f"/api/v1/drafts/write/{picture}").json()["content"]["text"] == "secret"
    for action, body in (("renew", None), ("release", {"skip": True})):
        assert code(viktor.post(f"/api/v1/leases/{lease}/{action}", json=body)) == "lease_lost"
    stolen = {"lease_id": lease, "client_key": "k" * 8, "text": "mine now", "targets": [task["objects"][0]["id"]]}
    assert code(viktor.post("/api/v1/samples", json=stolen)) == "lease_lost"
    assert code(viktor.get(f"/api/v1/pictures/{picture}/sentences")) == "not_found"
    assert code(viktor.get(f"/api/v1/pictures/{picture}/image")) == "not_found"
    assert anna.get(f"/api/v1/pictures/{picture}/image").status_code == 200
    number = anna.write("a secret thing").json()["sample"]["id"]
    assert code(viktor.get(f"/api/v1/samples/{number}")) == "not_found"
    assert code(viktor.get("/api/v1/samples/999999")) == "not_found"
    body = {"lease_id": lease, "client_key": "v" * 8, "decision": "select", "no_target": True}
    assert code(viktor.post(f"/api/v1/samples/{number}/verdict", json=body)) == "lease_lost"
    assert events(sqlite_game).count("not_found") >= 4


def test_objects_of_another_picture(enter: Enter) -> None:
    anna, viktor = enter("anna"), enter("viktor")
    other = viktor.next_write()["objects"][0]["id"]
    answer = anna.write("some thing", [other])
    assert (answer.status_code, answer.json()["error"]["field"]) == (422, "targets")


def test_nobody_validates_their_own_even_with_its_lease(enter: Enter, sqlite_game: Game) -> None:
    anna = enter("anna")
    number = anna.write("my thing").json()["sample"]["id"]

    def force(session: Any) -> None:
        sample = session.get(GameSample, number)
        sample.lease_id, sample.lease_person, sample.lease_until = "forced", 1, sqlite_game.clock() + 99

    sqlite_game.database.write(force)
    body = {"lease_id": "forced", "client_key": "k" * 8, "decision": "select", "no_target": True}
    assert code(anna.post(f"/api/v1/samples/{number}/verdict", json=body)) == "not_allowed"


@pytest.mark.parametrize("nasty", NASTY)
def test_sql_and_scripts_are_only_text(enter: Enter, sqlite_game: Game, nasty: str) -> None:
    anna = enter("anna")
    written = anna.write(f"old clock {nasty}")
    assert written.status_code == 201, written.text
    number = written.json()["sample"]["id"]
    assert anna.get(f"/api/v1/samples/{number}").json()["text"] == f"old clock {nasty}"
    for field in ("state", "split", "kind", "flag", "q"):
        found = anna.get("/api/v1/admin/samples", params={field: nasty[:40]})
        assert found.status_code == 200
        assert found.json()["total"] == (1 if field == "q" else 0)
    for field in ("author", "picture", "page", "order"):
        assert anna.get("/api/v1/admin/samples", params={field: nasty}).status_code == 422
    assert anna.post("/api/v1/write/next", json={"split": nasty}).json()["task"] is None
    assert anna.get(f"/api/v1/samples/{nasty}").status_code in (404, 422)
    made = anna.post("/api/v1/admin/people", json={"name": nasty[:40], "password": PASSWORD, "roles": ["validator"]})
    assert made.status_code == 201
    page = log_in(enter.app, nasty[:40]).get("/").text  # type: ignore[attr-defined]
    assert "<script>alert" not in page
    assert "49" not in page.split("who-name")[1][:60]
    with sqlite_game.database.read() as session:
        assert session.execute(text("SELECT count(*) FROM samples")).scalar() == 1


def test_the_pages_policy_and_headers(enter: Enter) -> None:
    anna = enter("anna")
    for path in ("/", "/login", "/api/v1/me", "/nothing", "/static/nothing.js", "/healthz"):
        answer = anna.get(path)
        for name, value in HEADERS.items():
            assert answer.headers[name.decode()] == value.decode(), path
    policy = anna.get("/").headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert anna.get("/api/v1/me").headers["cache-control"] == "no-store"


def test_cookies(enter: Enter, sqlite_game: Game) -> None:
    enter("anna")
    stranger = TestClient(enter.app, base_url="https://testserver")  # type: ignore[attr-defined]
    cookie = stranger.get("/login").headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Secure" in cookie
    forged = TestClient(enter.app, cookies={"refseg_game": "1.forged"})  # type: ignore[attr-defined]
    assert forged.get("/api/v1/me").status_code == 401
    assert "bad_cookie" in events(sqlite_game)


def test_a_login_gives_a_new_number_and_a_logout_ends_it(enter: Enter) -> None:
    anna = enter("anna")
    old = anna.cookies["refseg_game"]
    assert anna.post("/logout", follow_redirects=False).status_code == 303
    again = TestClient(enter.app, cookies={"refseg_game": old})  # type: ignore[attr-defined]
    assert again.get("/api/v1/me").status_code == 401
    fresh = TestClient(enter.app)  # type: ignore[attr-defined]
    before = fresh.get("/login").cookies["refseg_game"]
    token = token_in(fresh.get("/login").text)
    fresh.post("/login", data={"name": "anna", "password": PASSWORD, "csrf_token": token})
    assert fresh.cookies["refseg_game"] != before


def test_logins_end_with_time_password_and_account(enter: Enter, sqlite_game: Game) -> None:
    anna, admin = enter("anna", "annotator"), enter("admin")
    other = log_in(enter.app, "anna")  # type: ignore[attr-defined]
    wrong = anna.put("/api/v1/me/password", json={"old": "not this", "new": "longer than ten"})
    assert (wrong.status_code, wrong.json()["error"]["field"]) == (422, "old")
    assert anna.put("/api/v1/me/password", json={"old": PASSWORD, "new": "longer than ten"}).status_code == 200
    assert (anna.get("/api/v1/me").status_code, other.get("/api/v1/me").status_code) == (200, 401)
    assert admin.patch("/api/v1/admin/people/1", json={"active": False}).status_code == 200
    assert anna.get("/api/v1/me").status_code == 401
    sqlite_game.clock.now += sqlite_game.settings.session_seconds + 1  # type: ignore[attr-defined]
    assert admin.get("/api/v1/me").status_code == 401


def test_the_last_administrator_stays(enter: Enter) -> None:
    admin = enter("admin")
    for change in ({"active": False}, {"roles": ["annotator"]}):
        assert code(admin.patch("/api/v1/admin/people/1", json=change)) == "not_allowed"
    assert admin.get("/api/v1/admin/overview").status_code == 200


def test_guessing_passwords_is_slowed_down(tmp_path: Path) -> None:
    game = make_game(tmp_path / "game", login_attempts=3)
    add_people(game, "anna", "viktor")
    browser = TestClient(create_app(game.settings, game))
    token = token_in(browser.get("/login").text)

    def attempt(name: str, password: str) -> int:
        form = {"name": name, "password": password, "csrf_token": token}
        return browser.post("/login", data=form, follow_redirects=False).status_code

    assert [attempt("anna", "wrong") for _ in range(4)] == [401, 401, 401, 429]
    assert attempt(" ANNA ", PASSWORD) == 429, "another spelling is the same name"
    assert attempt("anna", PASSWORD) == 429, "the right one does not tell either"
    assert attempt("nobody", "wrong") == 401
    game.clock.now += 31  # type: ignore[attr-defined]
    assert attempt("anna", PASSWORD) == 303
    assert "login_limited" in events(game)
    game.database.close()


def test_submissions_and_requests_are_limited(tmp_path: Path) -> None:
    game = make_game(tmp_path / "game", writes_per_minute=2, requests_per_minute=12)
    add_people(game, "anna")
    anna = log_in(create_app(game.settings, game), "anna")
    answers = [anna.write(f"{word} thing") for word in ("red", "green", "blue")]
    assert [answer.status_code for answer in answers] == [201, 201, 429]
    assert int(answers[2].headers["retry-after"]) > 0
    assert answers[2].json()["error"]["details"]["seconds"] > 0
    codes = [anna.put("/api/v1/me/theme", json={"theme": "dark"}).status_code for _ in range(12)]
    assert codes[0] == 200
    assert codes[-1] == 429
    game.database.close()


def test_tokens_work_alone_and_end(enter: Enter, sqlite_game: Game) -> None:
    anna = enter("anna", "annotator")
    made = anna.post("/api/v1/me/tokens", json={"label": "script", "password": PASSWORD}).json()
    script = TestClient(enter.app, headers={"Authorization": f"Bearer {made['token']}"})  # type: ignore[attr-defined]
    assert script.post("/api/v1/write/next", json={}).status_code == 200, "no page, no page's token"
    assert script.get("/api/v1/admin/overview").status_code == 403
    with sqlite_game.database.read() as session:
        stored = json.dumps([list(row) for row in session.execute(text("SELECT * FROM tokens"))])
        passwords = json.dumps([list(row) for row in session.execute(text("SELECT password FROM people"))])
    assert made["token"] not in stored
    assert PASSWORD not in passwords
    assert "argon2id" in passwords
    assert anna.delete(f"/api/v1/me/tokens/{made['id']}").status_code == 200
    assert script.get("/api/v1/me").status_code == 401
    for header in ("Bearer", "Bearer nonsense", "Basic YTpi", "\u00e4"):
        answer = TestClient(enter.app).get("/api/v1/me", headers={"Authorization": header.encode("latin-1")})  # type: ignore[attr-defined]
        assert answer.status_code == 401
    assert "bad_token" in events(sqlite_game)


def test_large_and_malformed_bodies(enter: Enter, sqlite_game: Game) -> None:
    anna = enter("anna")
    big = anna.post("/api/v1/samples", content=b"x" * (sqlite_game.settings.max_body + 1))
    assert (big.status_code, code(big)) == (413, "too_large")

    def chunks() -> Any:
        for _ in range(300):
            yield b" " * 1024

    slow = anna.post("/api/v1/samples", content=chunks(), headers={"Content-Type": "application/json"})
    assert slow.status_code == 413, "also without a declared length"
    header = {"Content-Type": "application/json"}
    for body in (b"{", b"\xff\xfe", b"[]", b"null", b'"x"', b"{}", b'{"theme": "\\ud800"}', b'{"theme": NaN}'):
        answer = anna.put("/api/v1/me/theme", content=body, headers=header)
        assert answer.status_code in (400, 422), body
        code(answer)
    deep = anna.put("/api/v1/me/theme", content=b"[" * 100_000, headers=header)
    assert deep.status_code in (400, 422)
    for value in (0, -1, 2**53, 2**63, 2**70, 1.5, "1", None, [1]):
        answer = anna.post("/api/v1/check", json={"picture_id": value, "text": "x"})
        assert answer.status_code == 422
    zero = anna.post("/api/v1/check", json={"picture_id": 1, "text": "a\0b"})
    assert zero.status_code == 422
    assert "too_large" in events(sqlite_game)


def picture_bytes() -> bytes:
    packed = io.BytesIO()
    Image.new("RGB", (8, 6), "red").save(packed, "PNG")
    return packed.getvalue()


def archive_of(*files: tuple[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files:
            archive.writestr(name, content)
    return packed.getvalue()


def coco(name: str = "a.png", **picture: Any) -> bytes:
    box = [1, 1, 5, 1, 5, 4, 1, 4]
    content = {
        "images": [{"id": 77, "file_name": name, "height": 6, "width": 8, **picture}],
        "annotations": [{"id": 5, "image_id": 77, "category_id": 1, "bbox": [1, 1, 4, 3], "segmentation": [box]}],
        "categories": [{"id": 1, "name": "<b>thing</b>"}],
    }
    return json.dumps(content).encode()


def upload(browser: Browser, annotations: bytes, pictures: bytes, split: str = "train") -> Any:
    files = {"annotations": ("instances.json", annotations), "pictures": ("pictures.zip", pictures)}
    return browser.post("/api/v1/admin/import", files=files, data={"split": split})


def test_uploads_that_are_well(enter: Enter, sqlite_game: Game) -> None:
    admin = enter("admin")
    answer = upload(admin, coco("sub/<script>.png"), archive_of(("sub/<script>.png", picture_bytes())))
    assert answer.json() == {"pictures": 1, "plain": 0, "objects": 1, "sentences": 0, "problems": []}
    assert (sqlite_game.settings.pictures / "000000000077.png").is_file()
    assert not list(sqlite_game.settings.data.glob("upload-*"))


@pytest.mark.parametrize(
    "name", ["../../evil.png", "/etc/evil.png", "..\\..\\evil.png", "C:\\evil.png", "a/../../evil.png"]
)
def test_names_that_lead_out(enter: Enter, sqlite_game: Game, name: str) -> None:
    admin = enter("admin")
    before = {path for path in sqlite_game.settings.data.parent.rglob("*") if path.is_file()}
    answer = upload(admin, coco(), archive_of((name, picture_bytes())))
    assert (answer.status_code, code(answer)) == (422, "invalid")
    answer = upload(admin, coco(name), archive_of(("a.png", picture_bytes())))
    assert answer.status_code == 422
    assert not list(sqlite_game.settings.data.parent.rglob("*evil*"))
    after = {path for path in sqlite_game.settings.data.parent.rglob("*") if path.is_file()}
    assert {path for path in after - before if "game.db" not in path.name} == set()
    assert "bad_upload" in events(sqlite_game)


@pytest.mark.parametrize(
    ("annotations", "pictures"),
    [
        (b"", b""),
        (b"not json", archive_of(("a.png", b"x"))),
        (coco(), b"not a zip"),
        (coco(), archive_of(("a.png", b"not a picture"))),
        (coco(height=600), archive_of(("a.png", picture_bytes()))),
        (b"{" + b'"images":' * 3, archive_of(("a.png", picture_bytes()))),
        (b'{"images": 3, "annotations": []}', archive_of(("a.png", picture_bytes()))),
        (coco(), archive_of(("a.png", picture_bytes()))[:-30]),
        (b"[" * 200_000, archive_of(("a.png", picture_bytes()))),
    ],
)
def test_uploads_that_are_not(enter: Enter, sqlite_game: Game, annotations: bytes, pictures: bytes) -> None:
    admin = enter("admin")
    answer = upload(admin, annotations, pictures)
    assert answer.status_code == 422, answer.text
    assert str(sqlite_game.settings.data) not in answer.text
    assert not list(sqlite_game.settings.data.glob("upload-*"))


def test_archives_that_swell(tmp_path: Path) -> None:
    game = make_game(tmp_path / "game", max_picture_bytes=100_000, max_upload=1_000_000)
    add_people(game, "admin")
    admin = log_in(create_app(game.settings, game), "admin")
    one = upload(admin, coco(), archive_of(("a.png", b"\0" * 200_000)))
    assert code(one) == "invalid"
    assert "too large" in one.json()["error"]["message"]
    many = upload(admin, coco(), archive_of(*((f"{n}.png", b"\0" * 90_000) for n in range(20))))
    assert "too large" in many.json()["error"]["message"]
    large = upload(admin, coco(), b"\1" * 1_100_000)
    assert (large.status_code, code(large)) == (413, "too_large")
    game.database.close()


def test_pictures_are_served_by_number_alone(enter: Enter) -> None:
    admin = enter("admin")
    for number in (
        "../secret",
        "..%2f..%2fsecret",
        "1/../../secret",
        "%2e%2e/secret",
        "0",
        "-1",
        "1e3",
        "99999999999999999999",
    ):
        answer = admin.get(f"/api/v1/pictures/{number}/image")
        assert answer.status_code in (404, 422)
    for path in ("../app.py", "..%2fapp.py", "%2e%2e/app.py", "/etc/passwd", "js/..%2f..%2fapp.py"):
        assert admin.get(f"/static/{path}").status_code == 404
    assert admin.get("/login?next=//evil.example/", follow_redirects=False).headers["location"] == "/"
    assert admin.get("/login?next=https://evil.example/", follow_redirects=False).headers["location"] == "/"


def test_behind_a_proxy_with_a_path(tmp_path: Path) -> None:
    game = make_game(tmp_path / "game", root_path="/game", allowed_hosts=("testserver",))
    add_people(game, "anna")
    app = create_app(game.settings, game)
    browser = TestClient(app)
    for prefix in ("", "/game"):  # proxies that cut the path off, and those that leave it
        page = browser.get(f"{prefix}/login")
        assert page.status_code == 200
        assert 'data-root="/game"' in page.text
        form = {"name": "anna", "password": PASSWORD, "csrf_token": token_in(page.text)}
        # The proxy cuts the path off behind the browser's back: to the browser the cookie's path fits.
        cookie = page.headers["set-cookie"].split(";")[0]
        answer = browser.post(f"{prefix}/login", data=form, follow_redirects=False, headers={"Cookie": cookie})
        assert answer.headers["location"] == "/game/"
        assert "Path=/game" in answer.headers["set-cookie"]
        assert browser.get(f"{prefix}/static/css/base.css").status_code == 200
        browser.cookies.clear()
    assert TestClient(app, base_url="http://evil.example").get("/login").status_code == 400
    game.database.close()


def test_an_unforeseen_error_tells_nothing(enter: Enter, sqlite_game: Game, monkeypatch: pytest.MonkeyPatch) -> None:
    anna = enter("anna")

    def broken(*given: object) -> None:
        raise RuntimeError("the secret detail")

    monkeypatch.setattr("refseg.apps.annotate.services.scoring.leaderboard", broken)
    answer = anna.get("/api/v1/leaderboard")
    assert (answer.status_code, code(answer)) == (500, "internal")
    assert "secret detail" not in answer.text
    assert "content-security-policy" in answer.headers


def test_passwords_take_the_same_time_for_strangers(sqlite_game: Game) -> None:
    calls: list[str] = []
    real = people._HASHER.verify

    class Counting:
        def verify(self, stored: str, password: str) -> bool:
            calls.append(stored)
            return real(stored, password)

    add_people(sqlite_game, "anna")
    monkey = pytest.MonkeyPatch()
    monkey.setattr(people, "_HASHER", Counting())
    with sqlite_game.database.read() as session:
        assert people.check_password(session, "nobody", "x") is None
        assert people.check_password(session, "anna", "x") is None
    monkey.undo()
    assert len(calls) == 2
