"""A sample whose meaning somebody has learnt, by whichever way, is not handed to them: practice, lists, exports, the
review queue, mending masks, the log; and neither is the same sentence that its author submits once more."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable

import pytest
from sqlalchemy import select

from refseg.apps.annotate.auth import people
from refseg.apps.annotate.database.tables import GameSample, Seen
from refseg.apps.annotate.game import Game
from tests.support.small_games import Browser

Enter = Callable[..., Browser]


def accepted(anna: Browser, viktor: Browser, text: str = "something at the top") -> int:
    """A sentence of anna's that viktor has found."""
    task = anna.next_write()
    target = task["objects"][0]["id"]
    number = anna.write(text, [target]).json()["sample"]["id"]
    assert viktor.judge([target]).json()["result"] == "matched"
    return number


def reopen(admin: Browser, number: int) -> None:
    answer = admin.post(f"/api/v1/admin/samples/{number}/reopen", json={"reason": "both dogs are meant"})
    assert answer.status_code == 200, answer.text


def test_who_practised_with_it(enter: Enter) -> None:
    anna, viktor, vera, vito = (enter(name) for name in ("anna", "viktor", "vera", "vito"))
    admin = enter("ada", "administrator")
    number = accepted(anna, viktor)
    admin.put(f"/api/v1/admin/samples/{number}/gold", json={"gold": True})
    assert vera.post("/api/v1/practice/next").json()["task"]["sample"]["id"] == number
    assert vera.post(f"/api/v1/practice/{number}", json={"no_target": True}).json()["targets"]
    reopen(admin, number)
    assert vera.next_validate() is None
    assert vito.next_validate()["sample"]["id"] == number


@pytest.mark.parametrize(
    "way",
    ["/api/v1/admin/samples", "/api/v1/admin/samples?no_target=false", "/api/v1/admin/export",
     "/api/v1/admin/export?verdicts=true&format=jsonl"],
)  # fmt: skip
def test_who_saw_it_in_a_list_or_an_export(enter: Enter, way: str) -> None:
    anna, viktor, vera, ada = (enter(name) for name in ("anna", "viktor", "vera", "ada"))
    number = accepted(anna, viktor)
    answer = ada.get(way)
    assert answer.status_code == 200
    if "export" in way:
        packed = zipfile.ZipFile(io.BytesIO(answer.content))
        assert any(b"something at the top" in packed.read(name) for name in packed.namelist())
    reopen(ada, number)
    assert ada.next_validate() is None
    assert vera.next_validate()["sample"]["id"] == number


def test_a_filter_without_rows_tells_nothing(enter: Enter) -> None:
    anna, viktor, ada = enter("anna"), enter("viktor"), enter("ada")
    number = accepted(anna, viktor)
    assert ada.get("/api/v1/admin/samples?no_target=false&page=2").json()["total"] == 0
    reopen(ada, number)
    assert ada.next_validate()["sample"]["id"] == number, "nothing was learnt"


def test_an_administrator_who_becomes_a_validator(enter: Enter, sqlite_game: Game) -> None:
    anna, ada = enter("anna"), enter("ada", "administrator")
    number = anna.write("something at the top").json()["sample"]["id"]
    assert ada.get("/api/v1/admin/samples").json()["items"][0]["targets"] == 1
    sqlite_game.database.write(
        lambda session: people.change_person(session, sqlite_game, 2, None, roles=("administrator", "validator"))
    )
    assert ada.next_validate() is None
    assert enter("viktor").next_validate()["sample"]["id"] == number


def test_the_log_and_the_list_do_not_tell(enter: Enter) -> None:
    anna, viktor, vera = enter("anna"), enter("viktor"), enter("vera")
    strict = enter("ada", "administrator")
    number = accepted(anna, viktor)
    strict.post(f"/api/v1/admin/samples/{number}/pass")
    reopen(strict, number)
    for who, told in ((vera, False), (anna, True)):
        rows = [row for row in who.get("/api/v1/admin/audit").json()["items"] if row["entity_id"] == number]
        rows = [row for row in rows if row["entity"] in ("sample", "review")]
        assert any("both dogs" in row["reason"] for row in rows) == told
        assert any(row["details"] for row in rows) == told
        (row,) = who.get("/api/v1/admin/samples").json()["items"]
        assert (row["reason"] == "both dogs are meant") == told
    assert vera.next_validate()["sample"]["id"] == number


def broken(anna: Browser, viktor: Browser) -> tuple[int, int]:
    """A sentence that waits for its mask, and its picture."""
    task = anna.next_write()
    number = anna.write("something at the top", [task["objects"][0]["id"]]).json()["sample"]["id"]
    viktor.judge(decision="reject", reason="broken_mask", note="the ear of the black dog is cut off")
    return number, task["picture"]["id"]


@pytest.mark.parametrize("way", ["mend", "review"])
def test_who_read_what_is_broken(enter: Enter, way: str) -> None:
    anna, viktor, vera, eva = (enter(name) for name in ("anna", "viktor", "vera", "eva"))
    number, picture = broken(anna, viktor)
    mender = eva if way == "mend" else anna
    if way == "review":
        assert "black dog" in eva.get("/api/v1/admin/review").text
    task = mender.post("/api/v1/edit/next", json={}).json()["task"]
    assert task["picture"]["id"] == picture
    lease = {"lease_id": task["lease"]["id"]}
    assert mender.post(f"/api/v1/edit/pictures/{picture}/finish", json=lease).json()["sentences"] == 1
    assert eva.next_validate() is None
    assert vera.next_validate()["sample"]["id"] == number


def test_an_editor_who_asks_which_objects_are_meant(enter: Enter) -> None:
    anna, vera, eva = enter("anna"), enter("vera"), enter("eva", "editor", "validator")
    written = anna.next_write()
    number = anna.write("something at the top", [written["objects"][0]["id"]]).json()["sample"]["id"]
    task = eva.post("/api/v1/edit/next", json={"picture_id": written["picture"]["id"]}).json()["task"]
    body = {"lease_id": task["lease"]["id"], "revision": task["revision"], "objects": []}
    for item in written["objects"]:
        answer = eva.put(
            f"/api/v1/edit/pictures/{written['picture']['id']}/objects", json={**body, "removed": [item["id"]]}
        )
        if answer.status_code == 409:
            assert "sentences mean" in answer.json()["error"]["message"]
            break
    else:
        raise AssertionError("no object is meant")
    assert eva.next_validate() is None
    assert vera.next_validate()["sample"]["id"] == number


def test_the_same_sentence_submitted_again_is_as_known_as_before(enter: Enter, sqlite_game: Game) -> None:
    anna, viktor, ada = enter("anna"), enter("viktor"), enter("ada")
    first = anna.write("something at the top", keep=True).json()["sample"]["id"]
    assert ada.get(f"/api/v1/admin/samples/{first}").json()["targets"]
    assert anna.post(f"/api/v1/me/samples/{first}/withdraw", json={}).status_code == 200
    second = anna.write("Something at the top!").json()["sample"]["id"]
    assert second != first
    assert ada.next_validate() is None
    assert viktor.next_validate()["sample"]["id"] == second
    with sqlite_game.database.read() as session:
        assert session.scalar(select(GameSample.state).where(GameSample.id == first)) == "withdrawn"
        assert {row.sample_id for row in session.scalars(select(Seen))} == {first, second}
