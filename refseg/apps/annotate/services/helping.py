"""The helping model, off unless `Settings.help_model` names one: answers after a submission, hard pictures first.

The model never decides anything: players see its answer only after theirs; administrators see a flag at sentences
without target that it finds easy; pictures on which it errs are drawn more often.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from refseg.apps.annotate.database.tables import GameSample, Imported, Object, Picture
from refseg.apps.annotate.errors import not_found
from refseg.apps.annotate.game import Game
from refseg.apps.annotate.services.outlines import mask_rings, outline_of
from refseg.apps.annotate.services.pictures import picture_path
from refseg.data.images import read_image
from refseg.data.masks import rasterise

COVERED = 0.5
"""The share of an object's mask that the model's must cover for the object to count as answered."""
EASY = 0.9
"""The model's probability of "no target" from which such a sentence is flagged as easy."""


Model = Callable[[Any, list[str]], Sequence[Any]]
"""What is asked of a model: the `Segmentation` of each sentence about one picture. `refseg.Segmenter` is one."""


class Helper:
    """A model, loaded when it is first asked; one question at a time."""

    def __init__(self, name: str, model: Model | None = None) -> None:
        self.name = name
        self._model = model
        self._lock = threading.Lock()

    def ask(self, game: Game, picture: Picture, objects: Sequence[Object], texts: list[str]) -> list[dict[str, Any]]:
        """The answers to sentences about a picture.

        Returns for each: model, no_target, targets (the objects that the mask covers), rings, score, no_target_score.
        """
        image = read_image(picture_path(game.settings, picture), rotate=False)
        size = (picture.height, picture.width)
        masks = {item.id: rasterise(outline_of(item), size) for item in objects}
        with self._lock:
            if self._model is None:
                from refseg.inference.predictor import load

                self._model = load(self.name)
            answers = self._model(image, texts)
        return [self._answer(answer, masks) for answer in answers]

    def _answer(self, answer: Any, masks: dict[int, NDArray[np.bool_]]) -> dict[str, Any]:
        mask: NDArray[np.bool_] = answer.mask
        covered = [
            number
            for number, own in masks.items()
            if mask.shape == own.shape and (mask & own).sum() >= COVERED * own.sum()
        ]
        return {
            "model": self.name,
            "no_target": bool(answer.no_target),
            "targets": [] if answer.no_target else sorted(covered),
            "rings": [] if answer.no_target else mask_rings(mask),
            "score": float(answer.score),
            "no_target_score": float(answer.no_target_score),
        }


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
        own = None if sample is None else _own_selection(sample, person_id)
        if sample is None or own is None:
            raise not_found("answer")
        answer, picture, objects = sample.help, sample.picture, sample.picture.outlines
    if answer is None or answer["model"] != helper.name:
        (answer,) = helper.ask(game, picture, objects, [sample.text])
        kept = answer
        game.database.write(lambda session: _keep(session, sample_id, kept))
    shown = {name: answer[name] for name in ("model", "no_target", "targets", "rings", "score")}
    return {**shown, "agrees": _agrees(answer, own)}


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
            picture = session.get_one(Picture, number)
            objects = picture.outlines
            imported = select(Imported).where(Imported.picture_id == number).order_by(Imported.id).limit(64)
            asked = [(row.text, set(row.targets)) for row in session.scalars(imported)]
            accepted = select(GameSample).where(GameSample.picture_id == number, GameSample.state == "accepted")
            asked += [(sample.text, set(sample.target_ids)) for sample in session.scalars(accepted)]
        if not asked:
            continue
        answers = helper.ask(game, picture, objects, [text for text, _ in asked])
        wrong = sum(not _agrees(answer, targets) for answer, (_, targets) in zip(answers, asked, strict=True))
        ranked = update(Picture).where(Picture.id == number).values(hard=wrong / len(asked), helped=len(asked))
        game.database.write(lambda session, ranked=ranked: session.execute(ranked).close())  # type: ignore[misc]
        done += 1
    return done


def _own_selection(sample: GameSample, person_id: int) -> set[int] | None:
    if sample.author_id == person_id:
        return set(sample.target_ids)
    return next((set(row.target_ids) for row in sample.verdicts if row.validator_id == person_id), None)


def _agrees(answer: dict[str, Any], targets: set[int]) -> bool:
    return set(answer["targets"]) == targets and answer["no_target"] == (not targets)


def _keep(session: Session, sample_id: int, answer: dict[str, Any]) -> None:
    """Store an answer, and what follows from it for the picture and the flags."""
    sample = session.get(GameSample, sample_id, with_for_update=True)
    if sample is None or sample.help is not None:
        return
    sample.help = answer
    if sample.no_target and answer["no_target"] and answer["no_target_score"] >= EASY:
        sample.flags = [*sample.flags, "easy_no_target"]
    wrong = not _agrees(answer, set(sample.target_ids))
    picture = session.get_one(Picture, sample.picture_id, with_for_update=True)
    picture.hard = (picture.hard * picture.helped + wrong) / (picture.helped + 1)
    picture.helped += 1
