"""One's own: sentences taken back, practice, language."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field
from sqlalchemy import update
from sqlalchemy.orm import Session

from refseg.apps.annotate.api import api_router, models, responses
from refseg.apps.annotate.api.models import RequestModel, ResponseModel, respond
from refseg.apps.annotate.auth.access import GameDep, Player
from refseg.apps.annotate.database.tables import Person
from refseg.apps.annotate.services import rehearsing, withdrawing

router = api_router("own")


class WithdrawRequest(RequestModel):
    """With `draft` the sentence comes back as a draft, to be put differently."""

    draft: bool = False


class Withdrawn(ResponseModel):
    """A sentence that was taken back; `picture_id` is where a draft of it can be gone on with."""

    id: int
    state: models.State
    picture_id: int


@router.post("/me/samples/{sample_id}/withdraw", responses=responses(404, 409))
def withdraw(sample_id: models.IdPath, given: WithdrawRequest, game: GameDep, person: Player) -> Withdrawn:
    """Take back one's own sentence, as long as nobody has it."""
    taken = game.database.write(lambda session: withdrawing.withdraw(session, game, person.id, sample_id, given.draft))
    return respond(game, Withdrawn, taken)


class PracticeSample(ResponseModel):
    """A sentence as it is practised with."""

    id: int
    text: str


class PracticeTask(ResponseModel):
    """A sentence whose meaning is known, to be found."""

    sample: PracticeSample
    picture: models.PictureOut
    objects: list[models.ObjectOut]


class Practice(ResponseModel):
    """The next sentence to practise with, if there is one, and how it went so far; `due` says that it must be."""

    task: PracticeTask | None
    right: int
    answered: int
    gold: int
    due: bool


@router.post("/practice/next")
def practise(game: GameDep, person: Player) -> Practice:
    """A sentence whose meaning is known: the one begun, or the one met least."""

    def work(session: Session) -> dict[str, Any]:
        sample = rehearsing.next_sample(session, game, person.id)
        task = sample and {"sample": sample, "picture": sample.picture, "objects": sample.picture.outlines}
        due = rehearsing.wanted(session, game, person.id)
        return {"task": task, **rehearsing.standing(session, person.id), "due": due}

    return respond(game, Practice, game.database.write(work))


class PracticeAnswer(RequestModel):
    """What somebody takes the sentence to mean."""

    targets: models.Ids = Field([])
    no_target: bool = False


class PracticeResult(ResponseModel):
    """Whether it was right, and what is meant."""

    matched: bool
    targets: list[int]
    no_target: bool


@router.post("/practice/{sample_id}", responses=responses(404))
def answer_practice(sample_id: models.IdPath, given: PracticeAnswer, game: GameDep, person: Player) -> PracticeResult:
    """Answer the sentence that one practises with."""
    done = game.database.write(
        lambda session: rehearsing.answer(session, game, person.id, sample_id, given.targets, given.no_target)
    )
    return respond(game, PracticeResult, done)


class Language(RequestModel):
    """The language of the pages; "" is the browser's."""

    language: Literal["", "en", "zh"]


@router.put("/me/language")
def language(given: Language, game: GameDep, person: Player) -> models.Empty:
    """Choose the language of the pages."""
    chosen = update(Person).where(Person.id == person.id).values(language=given.language)
    game.database.write(lambda session: session.execute(chosen).close())
    return models.Empty()
