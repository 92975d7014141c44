"""Masks from a model: all instances of a picture, one at a point, one in a box.

The model runs in a process of its own (`refseg.apps.annotate.proposer`), started at the first question, so that a game
without torch, or one that asks for nothing, never loads it.
"""

from __future__ import annotations

import atexit
import json
import queue
import subprocess
import sys
import threading
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from refseg.apps.annotate.auth.audit import record
from refseg.apps.annotate.database.tables import Object, Picture
from refseg.apps.annotate.errors import GameError
from refseg.apps.annotate.game import Game, clean
from refseg.apps.annotate.services.importing import free_number
from refseg.apps.annotate.services.outlines import drawn_values
from refseg.apps.annotate.services.pictures import picture_path
from refseg.data import rle
from refseg.errors import DataError

SECONDS = 300.0
"""How long an answer may take, the loading of the model with it."""


class ModelProcess:
    """The model's process: one question at a time, started when it is first asked, and anew after it failed."""

    def __init__(self, model: str, seconds: float = SECONDS) -> None:
        self.model, self.seconds = model, seconds
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._answers: queue.Queue[str] = queue.Queue()

    def ask(self, picture: Path, **where: list[float]) -> list[dict[str, Any]]:
        """The objects that the model finds (name, score, rle), at `point` or in `box` where one is given.

        Raises `GameError` "busy" when it does not answer, and "model" when it says why it cannot.
        """
        request = json.dumps({"picture": str(picture.absolute()), **where}) + "\n"
        with self._lock:
            try:
                process = self._started()
                assert process.stdin is not None
                process.stdin.write(request)
                process.stdin.flush()
                line = self._answers.get(timeout=self.seconds)
            except (OSError, queue.Empty):
                line = ""
            if not line:
                self._stop()
                raise GameError("busy", "the model did not answer; try again, or draw the mask", seconds=5)
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise GameError("model", f"the model could not look at this picture ({answer['error']})")
        objects: list[dict[str, Any]] = answer["objects"]
        return objects

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._stop()

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            self._stop()
            self._answers = queue.Queue()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "refseg.apps.annotate.proposer", self.model],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8",
            )  # fmt: skip
            assert self._process.stdout is not None
            threading.Thread(target=_pass_on, args=(self._process.stdout, self._answers), daemon=True).start()
            atexit.register(self._process.kill)
        return self._process

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    pipe.close()
            atexit.unregister(self._process.kill)
            self._process = None


def _pass_on(source: Iterable[str], answers: queue.Queue[str]) -> None:
    for line in source:
        answers.put(line)
    answers.put("")  # the process has ended


_PROCESSES: dict[str, ModelProcess] = {}
_MAKING = threading.Lock()


def model_of(game: Game) -> ModelProcess | None:
    """The game's model, None where none is wanted or torch is not installed."""
    name = game.settings.propose_model
    with _MAKING:
        if not name or (name not in _PROCESSES and find_spec("torch") is None):
            return None
        return _PROCESSES.setdefault(name, ModelProcess(name))


def ask(game: Game, picture: Picture, **where: list[float]) -> list[dict[str, Any]]:
    """What the model finds on a picture.

    Raises `GameError` "not_allowed" without a model, and as `ModelProcess.ask`.
    """
    model = model_of(game)
    if model is None:
        raise GameError("not_allowed", "this game has no model to ask: draw the mask with polygon or brush")
    return model.ask(picture_path(game.settings, picture), **where)


def propose(game: Game, picture_id: int, actor: int | None = None) -> int:
    """Let the model propose the masks of a picture that has none; returns how many came.

    Nothing happens where it was asked before, or where somebody has drawn an object meanwhile. Raises as `ask`.
    """
    with game.database.read() as session:
        picture = session.get_one(Picture, picture_id)
    if picture.proposed_at is not None or picture.masks != "open":
        return 0
    size = (picture.height, picture.width)
    prepared: list[dict[str, Any]] = []
    for item in ask(game, picture):
        try:
            values = drawn_values(rle.decode(item["rle"], size))
        except DataError:
            continue
        prepared.append({"category": clean(item["name"])[:200] or "object", "score": float(item["score"]), **values})

    def work(session: Session) -> int:
        row = session.get_one(Picture, picture_id, with_for_update=True)
        if row.proposed_at is not None:
            return 0
        row.proposed_at = game.clock()
        there = session.scalar(select(Object.id).where(Object.picture_id == picture_id).limit(1))
        if there is not None:
            return 0
        for values in prepared:
            session.add(Object(picture_id=picture_id, number=free_number(session, Object), source="proposed", **values))
            session.flush()
        row.revision = Picture.revision + 1  # type: ignore[assignment]
        record(session, game, actor, "picture", picture_id, "propose", details={"objects": len(prepared)})
        return len(prepared)

    return game.database.write(work)


def propose_all(game: Game, most: int | None = None) -> tuple[int, int]:
    """Propose for all pictures whose masks are still to be made; returns (pictures looked at, objects)."""
    with game.database.read() as session:
        wanted = select(Picture.id).where(Picture.masks == "open", Picture.proposed_at.is_(None)).order_by(Picture.id)
        numbers = list(session.scalars(wanted.limit(most)))
    return len(numbers), sum(propose(game, number) for number in numbers)
