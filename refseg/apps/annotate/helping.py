"""The helping model, off unless `Settings.help_model` names one: answers after a submission, hard pictures first.

The model never decides anything: players see its answer only after theirs; administrators see a flag at sentences
without target that it finds easy; pictures on which it errs are drawn more often.
"""

from __future__ import annotations

import threading
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from refseg.apps.annotate.errors import not_found
from refseg.apps.annotate.game import Game
from refseg.apps.annotate.outlines import mask_rings
from refseg.apps.annotate.store import picture_path
from refseg.apps.annotate.tables import GameSample, Imported, Object, Picture, SampleTarget, Verdict, VerdictTarget
from refseg.data.images import read_image
from refseg.data.masks import rasterise

COVERED = 0.5
"""The share of an object's mask that the model's must cover for the object to count as answered."""
EASY = 0.9
"""The model's probability of "no target" from which such a sentence is flagged as easy."""


@runtime_checkable
class Model(Protocol):
    """What is asked of a model: `refseg.Segmenter` is one."""

    def __call__(self, images: Any, texts: list[str]) -> list[Any]:
        """The answers to sentences about one picture."""
        ...


class Helper:
    """A model, loaded when it is first asked; one question at a time."""

    def __init__(self, name: str, model: Model | None = None) -> None:
        self.name = name
        self._model = model
        self._lock = threading.Lock()

    def ask(self, picture: Any, texts: list[str]) -> list[Any]:
        """The model's `Segmentation` for each sentence."""
        with self._lock:
            if self._model is None:
                from refseg.inference.predictor import load

                self._model = load(self.name)
            return list(self._model(picture, texts))


_HELPERS: dict[str, Helper] = {}
_LOADING = threading.Lock()


def helper_of(game: Game) -> Helper | None:
    """The game's helper, None where help is off."""
    name = game.settings.help_model
    if not name:
        return None
    with _LOADING:
        return _HELPERS.setdefault(name, Helper(name))


def help_url(game: Game, sample_id: int) -> str | None:
    """Where the model's answer to a sample is found, None where help is off."""
    return f"{game.settings.root_path}/api/v1/samples/{sample_id}/help" if game.settings.help_model else None


def help_for(game: Game, person_id: int, sample_id: int) -> dict[str, Any]:
    """The model's answer, beside the asking person's own selection.

    Raises `GameError` "not_found" where help is off, and for all but the author and those who have answered.
    """
    helper = helper_of(game)
    if helper is None:
        raise not_found("answer")
    with game.database.read() as session:
        sample = session.get(GameSample, sample_id)
        if sample is None:
            raise not_found("answer")
        own = _own_selection(session, sample, person_id)
        picture = session.get(Picture, sample.picture_id)
        kept = sample.help
        objects = list(session.scalars(select(Object).where(Object.picture_id == sample.picture_id)))
    if own is None or picture is None:
        raise not_found("answer")
    if kept is None or kept["model"] != helper.name:
        image = read_image(picture_path(game.settings, picture), rotate=False)
        kept = _answer(helper, helper.ask(image, [sample.text])[0], picture, objects)
        answer = kept
        game.database.write(lambda session: _keep(session, sample_id, answer))
    shown = {name: kept[name] for name in ("model", "no_target", "targets", "rings", "score")}
    return {**shown, "agrees": set(kept["targets"]) == own and kept["no_target"] == (not own)}


def rank_pictures(game: Game, most: int | None = None) -> int:
    """Ask the model all sentences of the pictures it has not seen; keeps the share of wrong answers of each.

    Returns how many pictures were looked at. Pictures with few sentences come out at a coarse share; the draw weighs
    them all the same.
    """
    helper = helper_of(game)
    if helper is None:
        return 0
    with game.database.read() as session:
        numbers = list(session.scalars(select(Picture.id).where(Picture.helped == 0).order_by(Picture.id).limit(most)))
    done = 0
    for number in numbers:
        with game.database.read() as session:
            picture = session.get(Picture, number)
            assert picture is not None
            objects = list(session.scalars(select(Object).where(Object.picture_id == number)))
            asked = [(row.text, set(row.targets)) for row in session.scalars(_imported(number))]
            accepted = select(GameSample).where(GameSample.picture_id == number, GameSample.state == "accepted")
            for sample in session.scalars(accepted):
                meant = select(SampleTarget.object_id).where(SampleTarget.sample_id == sample.id)
                asked.append((sample.text, set(session.scalars(meant))))
        if not asked:
            continue
        image = read_image(picture_path(game.settings, picture), rotate=False)
        found = helper.ask(image, [text for text, _ in asked])
        answers = [_answer(helper, one, picture, objects) for one in found]
        wrong = sum(
            set(answer["targets"]) != meant or answer["no_target"] == bool(meant)
            for answer, (_, meant) in zip(answers, asked, strict=True)
        )
        share, count = wrong / len(asked), len(asked)

        def work(session: Session, number: int = number, share: float = share, count: int = count) -> None:
            row = session.get(Picture, number, with_for_update=True)
            assert row is not None
            row.hard, row.helped = share, count

        game.database.write(work)
        done += 1
    return done


def _imported(picture_id: int) -> Any:
    return select(Imported).where(Imported.picture_id == picture_id).order_by(Imported.id).limit(64)


def _own_selection(session: Session, sample: GameSample, person_id: int) -> set[int] | None:
    if sample.author_id == person_id:
        return set(session.scalars(select(SampleTarget.object_id).where(SampleTarget.sample_id == sample.id)))
    wanted = select(Verdict.id).where(Verdict.sample_id == sample.id, Verdict.validator_id == person_id)
    verdict = session.scalar(wanted)
    if verdict is None:
        return None
    return set(session.scalars(select(VerdictTarget.object_id).where(VerdictTarget.verdict_id == verdict)))


def _answer(helper: Helper, found: Any, picture: Picture, objects: list[Object]) -> dict[str, Any]:
    mask: NDArray[np.bool_] = found.mask
    size = (picture.height, picture.width)
    targets = []
    for item in objects:
        outline = item.segmentation
        if isinstance(outline, list):
            outline = [np.asarray(polygon, dtype=np.float64) for polygon in outline]
        own = rasterise(outline, size)
        if mask.shape == own.shape and (mask & own).sum() >= COVERED * own.sum():
            targets.append(item.id)
    return {
        "model": helper.name,
        "no_target": bool(found.no_target),
        "targets": [] if found.no_target else sorted(targets),
        "rings": [] if found.no_target else mask_rings(mask),
        "score": float(found.score),
        "no_target_score": float(found.no_target_score),
    }


def _keep(session: Session, sample_id: int, answer: dict[str, Any]) -> None:
    """Store an answer, and what follows from it for the picture and the flags."""
    sample = session.get(GameSample, sample_id, with_for_update=True)
    if sample is None or sample.help is not None:
        return
    sample.help = answer
    if sample.no_target and answer["no_target"] and answer["no_target_score"] >= EASY:
        sample.flags = [*sample.flags, "easy_no_target"]
    meant = set(session.scalars(select(SampleTarget.object_id).where(SampleTarget.sample_id == sample_id)))
    wrong = set(answer["targets"]) != meant or answer["no_target"] != (not meant)
    picture = session.get(Picture, sample.picture_id, with_for_update=True)
    assert picture is not None
    picture.hard = (picture.hard * picture.helped + wrong) / (picture.helped + 1)
    picture.helped += 1
