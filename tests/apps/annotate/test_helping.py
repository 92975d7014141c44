"""The helping model: asked after submissions only, never deciding anything."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select

from refseg.apps.annotate.app import create_app
from refseg.apps.annotate.database.tables import GameSample, Picture
from refseg.apps.annotate.game import Game
from refseg.apps.annotate.services import helping
from refseg.inference.segmentation import Segmentation
from tests.support.small_games import SIZE, add_people, log_in, make_game


class Oracle:
    """Answers every sentence with the upper left object, and sentences with "nothing" with none."""

    def __call__(self, images: Any, texts: list[str]) -> list[Segmentation]:
        answers = []
        for text in texts:
            none = "nothing" in text
            mask = np.zeros(SIZE, dtype=bool)
            if not none:
                mask[1:6, 1:7] = True
            boxes = np.zeros((0, 4))
            answers.append(Segmentation(mask, boxes, none, 0.95 if none else 0.05, 0.8, text))
        return answers


@pytest.fixture
def helped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Game]:
    monkeypatch.setattr(helping, "_HELPERS", {"oracle": helping.Helper("oracle", Oracle())})
    game = make_game(tmp_path / "game", help_model="oracle")
    add_people(game, "anna", "viktor", "vera")
    yield game
    game.database.close()


def test_the_answer_comes_after_ones_own(helped: Game) -> None:
    app = create_app(helped.settings, helped)
    anna, viktor, vera = (log_in(app, name) for name in ("anna", "viktor", "vera"))
    objects = sorted(item["id"] for item in anna.next_write()["objects"])
    done = anna.write("some thing", [objects[0]]).json()
    url = done["help_url"]
    shown = anna.get(url).json()
    assert shown["model"] == "oracle"
    assert (shown["targets"], shown["agrees"], shown["no_target"]) == ([objects[0]], True, False)
    assert len(shown["rings"]) == 1
    assert viktor.get(url).status_code == 404
    assert viktor.judge([objects[1]]).json()["help_url"] == url
    seen = viktor.get(url).json()
    assert seen["agrees"] is False, "compared with the validator's own selection, not with the author's"
    assert vera.get(url).status_code == 404


def test_easy_sentences_without_target_are_flagged_for_administrators(helped: Game) -> None:
    app = create_app(helped.settings, helped)
    anna = log_in(app, "anna")
    for text, easy in (("nothing like this", True), ("hard to tell", False)):
        done = anna.write(text, []).json()
        anna.get(done["help_url"])
        with helped.database.read() as session:
            sample = session.get(GameSample, done["sample"]["id"])
            assert sample is not None
            assert ("easy_no_target" in sample.flags) == easy


def test_pictures_on_which_the_model_errs_weigh_more(helped: Game) -> None:
    assert helping.rank_pictures(helped) == 4
    assert helping.rank_pictures(helped) == 0, "each picture once"
    with helped.database.read() as session:
        hard = {row.number: row.hard for row in session.scalars(select(Picture))}
    assert hard == {1: 0.0, 2: 0.0, 3: 0.0, 4: 0.0}, "the first object is what all imported sentences mean"
    app = create_app(helped.settings, helped)
    anna = log_in(app, "anna")
    task = anna.next_write()
    objects = sorted(item["id"] for item in task["objects"])
    anna.get(anna.write("wrong for the model", [objects[1]]).json()["help_url"])
    with helped.database.read() as session:
        picture = session.get(Picture, task["picture"]["id"])
        assert picture is not None
        assert picture.hard == pytest.approx(1 / picture.helped)


def test_help_is_off_by_default(tmp_path: Path) -> None:
    game = make_game(tmp_path / "game")
    add_people(game, "anna")
    anna = log_in(create_app(game.settings, game), "anna")
    done = anna.write("some thing").json()
    assert done["help_url"] is None
    assert anna.get(f"/api/v1/samples/{done['sample']['id']}/help").status_code == 404
    assert helping.rank_pictures(game) == 0
    game.database.close()
