"""Validating: the comparison of two selections, and the transaction that follows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from refseg.apps.annotate.database.tables import GameSample, Verdict, VerdictTarget
from refseg.apps.annotate.errors import GameError
from refseg.apps.annotate.game import Game, clean
from refseg.apps.annotate.limits import check as check_rate
from refseg.apps.annotate.services.drafts import drop
from refseg.apps.annotate.services.editing import report_broken
from refseg.apps.annotate.services.leases import free, lock_held
from refseg.apps.annotate.services.moves import fingerprint, make_move, replayed
from refseg.apps.annotate.services.scoring import award, count
from refseg.apps.annotate.services.seen import has_seen
from refseg.apps.annotate.services.submitting import checked_targets
from refseg.apps.annotate.states import OPEN, REASONS

RESULTS = dict.fromkeys(("reject", "doubt", "report_mask"), "rejected") | {"match": "matched", "differ": "differed"}
"""move -> what is kept as the verdict's result, and what earns points under that name"""


@dataclass(frozen=True)
class Judgement:
    """What a validator sends: a selection (none with `no_target`), or a rejection with its reason."""

    lease_id: str
    client_key: str
    reject: bool
    targets: Sequence[int] = ()
    no_target: bool = False
    reason: str | None = None
    note: str = ""


def judge(session: Session, game: Game, person_id: int, sample_id: int, given: Judgement) -> tuple[Verdict, bool]:
    """Take in a validator's answer: the verdict, and whether it was there before.

    Raises `GameError`: "invalid", "lease_lost", "not_allowed", "key_reused", "slow_down".
    """
    content = fingerprint(sample_id, given.reject, sorted(given.targets), given.no_target, given.reason, given.note)
    mine = select(Verdict).where(Verdict.validator_id == person_id, Verdict.client_key == given.client_key)
    before = replayed(session, mine, content, "answer")
    if before is not None:
        return before, True
    check_rate(session, game.clock(), f"judge:{person_id}", 60, game.settings.writes_per_minute)
    sample: GameSample = lock_held(session, person_id, "validate", given.lease_id)
    if sample.id != sample_id:
        raise GameError("lease_lost", "this lease is for another sample")
    _guard(session, sample, person_id)
    reason, note = _reason(given)
    targets = [] if given.reject else checked_targets(session, sample.picture_id, given.targets, given.no_target)
    move = _rejection(game, sample, given) if given.reject else "match" if targets == sample.target_ids else "differ"
    earlier = select(Verdict.id).where(Verdict.sample_id == sample.id, Verdict.result != "rejected")
    verdict = Verdict(
        first=session.scalar(earlier.limit(1)) is None,
        sample_id=sample.id, validator_id=person_id, round=sample.round, result=RESULTS[move],
        no_target=given.no_target and not given.reject, reason=reason, note=note, client_key=given.client_key,
        client_hash=content, created_at=game.clock(),
    )  # fmt: skip
    session.add(verdict)
    session.flush()
    session.add_all(VerdictTarget(verdict_id=verdict.id, object_id=target) for target in targets)
    make_move(session, game, sample, move, person_id, reason or "", {"verdict": verdict.id})
    if move == "report_mask":
        report_broken(session, sample.picture_id)
    free(sample)
    sample.queued_at = game.clock()
    award(session, game, person_id, sample.id, verdict.result)
    count(session, game, person_id, validated=1)
    if not given.reject:
        matched = int(move == "match")
        count(session, game, person_id, judge_compared=1, judge_matched=matched)
        count(session, game, sample.author_id, author_compared=1, author_matched=matched)
    drop(session, person_id, "validate", sample.id)
    session.flush()
    return verdict, False


def _guard(session: Session, sample: GameSample, person_id: int) -> None:
    """The guards of the states' table that hold for validators; `lock_held` has seen to "holds_lease"."""
    if sample.state not in OPEN:
        raise GameError("not_allowed", "this sample no longer waits for a validator", state=sample.state)
    if sample.author_id == person_id:
        raise GameError("not_allowed", "nobody validates their own sentence", state=sample.state)
    wanted = select(Verdict.id).where(Verdict.sample_id == sample.id, Verdict.validator_id == person_id)
    if session.scalar(wanted) is not None:
        raise GameError("not_allowed", "nobody validates a sentence twice", state=sample.state)
    if session.scalar(select(GameSample.id).where(GameSample.id == sample.id, has_seen(person_id))) is not None:
        raise GameError("not_allowed", "you have seen elsewhere what this sentence means", state=sample.state)


def _rejection(game: Game, sample: GameSample, given: Judgement) -> str:
    """The move of a rejection: a broken mask goes to the editors; a sample's first one may be a doubt that a second
    validator decides."""
    if given.reason == "broken_mask":
        return "report_mask"
    doubted = game.settings.second_opinion and sample.state == "waiting"
    return "doubt" if doubted else "reject"


def _reason(given: Judgement) -> tuple[str | None, str]:
    note = clean(given.note)
    if len(note) > 500:
        raise GameError("invalid", "a note has at most 500 characters", "note")
    if not given.reject:
        if given.reason is not None:
            raise GameError("invalid", "a reason goes with a rejection only", "reason")
        return None, note
    if given.targets or given.no_target:
        raise GameError("invalid", "a rejection has no selection", "targets")
    if given.reason not in REASONS:
        raise GameError("invalid", f"a rejection says why: {', '.join(REASONS)}", "reason")
    return given.reason, note
