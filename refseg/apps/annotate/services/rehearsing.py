"""Practice with sentences whose meaning is known: how newcomers learn, and how careless players are seen.

An administrator marks accepted samples as gold. `Settings.practice_first` right answers come before any work, and one
more after every `practice_every` verdicts; without gold samples nobody has to practise.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from refseg.apps.annotate.auth.audit import record
from refseg.apps.annotate.database.tables import GameSample, Picture, Rehearsal, Verdict
from refseg.apps.annotate.errors import GameError, not_found
from refseg.apps.annotate.game import Game
from refseg.apps.annotate.services.submitting import checked_targets


def mark_gold(session: Session, game: Game, sample_id: int, gold: bool, actor: int) -> GameSample:
    """Let a sample's meaning be known, or no longer; raises `GameError` "not_allowed" unless it is accepted."""
    sample = session.get(GameSample, sample_id, with_for_update=True)
    if sample is None:
        raise not_found("sample")
    if gold and sample.state != "accepted":
        raise GameError("not_allowed", "only accepted sentences are practised with", state=sample.state)
    sample.gold = gold
    record(session, game, actor, "gold", sample_id, "mark" if gold else "unmark")
    return sample


def standing(session: Session, person_id: int) -> dict[str, int]:
    """How a person practised: `right` of `answered`, and how many gold samples there are."""
    counts = select(Rehearsal.matched, func.count()).where(
        Rehearsal.person_id == person_id, Rehearsal.matched.is_not(None)
    )
    found = {row[0]: row[1] for row in session.execute(counts.group_by(Rehearsal.matched))}
    gold = session.scalar(select(func.count()).select_from(GameSample).where(*_gold(person_id))) or 0
    return {"right": found.get(True, 0), "answered": sum(found.values()), "gold": gold}


def everybody(session: Session) -> dict[int, tuple[int, int]]:
    """(right, answered) of all who practised, by their numbers."""
    rows = session.execute(
        select(Rehearsal.person_id, Rehearsal.matched, func.count())
        .where(Rehearsal.matched.is_not(None))
        .group_by(Rehearsal.person_id, Rehearsal.matched)
    )
    sums: dict[int, tuple[int, int]] = {}
    for person, matched, count in rows:
        right, answered = sums.get(person, (0, 0))
        sums[person] = (right + count * bool(matched), answered + count)
    return sums


def wanted(session: Session, game: Game, person_id: int) -> bool:
    """Whether a person has to practise before there is work for them."""
    settings = game.settings
    if not settings.practice_first and not settings.practice_every:
        return False
    now = standing(session, person_id)
    if not now["gold"]:
        return False
    if now["right"] < settings.practice_first:
        return True
    if not settings.practice_every:
        return False
    verdicts = session.scalar(select(func.count()).select_from(Verdict).where(Verdict.validator_id == person_id)) or 0
    return now["answered"] < settings.practice_first + verdicts // settings.practice_every


def next_sample(session: Session, game: Game, person_id: int) -> GameSample | None:
    """The sample that is being practised with, or the one that the person has met least; None without gold samples."""
    begun = select(Rehearsal).where(Rehearsal.person_id == person_id, Rehearsal.matched.is_(None))
    row = session.scalar(begun.limit(1))
    if row is not None:
        sample = session.get_one(GameSample, row.sample_id)
        if sample.gold and sample.state == "accepted":
            return sample
        session.delete(row)
    met = (
        select(func.count())
        .where(Rehearsal.sample_id == GameSample.id, Rehearsal.person_id == person_id)
        .correlate(GameSample)
        .scalar_subquery()
    )
    found = session.scalar(select(GameSample).where(*_gold(person_id)).order_by(met, GameSample.draw).limit(1))
    if found is not None:
        session.add(Rehearsal(person_id=person_id, sample_id=found.id, matched=None, targets=[], at=game.clock()))
        session.flush()
    return found


def answer(
    session: Session, game: Game, person_id: int, sample_id: int, targets: list[int], no_target: bool
) -> dict[str, Any]:
    """Compare an answer with what is known: `matched`, and the right `targets`.

    Raises `GameError` "not_found" for a sample that was not handed out, "invalid" for objects that are not there.
    """
    begun = select(Rehearsal).where(
        Rehearsal.person_id == person_id, Rehearsal.sample_id == sample_id, Rehearsal.matched.is_(None)
    )
    row = session.scalar(begun.limit(1).with_for_update())
    if row is None:
        raise not_found("sample")
    sample = session.get_one(GameSample, sample_id)
    row.targets = checked_targets(session, sample.picture_id, targets, no_target)
    row.matched, row.at = row.targets == sample.target_ids, game.clock()
    session.flush()
    return {"matched": row.matched, "targets": sample.target_ids, "no_target": sample.no_target}


def practises_on(session: Session, person_id: int, picture_id: int) -> bool:
    """Whether the person practises with a sentence of the picture."""
    wanted_row = (
        select(Rehearsal.id)
        .join(GameSample, GameSample.id == Rehearsal.sample_id)
        .where(Rehearsal.person_id == person_id, GameSample.picture_id == picture_id)
    )
    return session.scalar(wanted_row.limit(1)) is not None


def _gold(person_id: int) -> list[Any]:
    whole = select(Picture.id).where(Picture.id == GameSample.picture_id, Picture.masks == "ready").exists()
    return [GameSample.gold, GameSample.state == "accepted", GameSample.author_id != person_id, whole]
