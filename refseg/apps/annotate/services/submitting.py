"""Writing: what is checked about a sentence, and the transaction that takes it in."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from refseg.apps.annotate.auth.audit import record
from refseg.apps.annotate.database.tables import GameSample, Imported, Object, Picture, SampleTarget
from refseg.apps.annotate.errors import GameError
from refseg.apps.annotate.game import Game, clean, hidden_letters
from refseg.apps.annotate.limits import check as check_rate
from refseg.apps.annotate.services.drafts import drop
from refseg.apps.annotate.services.leases import Lease, free, held_lease, lock_held
from refseg.apps.annotate.services.letters import mixed_words
from refseg.apps.annotate.services.moves import fingerprint, replayed
from refseg.apps.annotate.services.nouns import Nouns, no_target_remarks, nouns_of
from refseg.apps.annotate.services.page_names import is_page_name
from refseg.apps.annotate.services.scoring import count
from refseg.apps.annotate.services.seen import pass_on
from refseg.apps.annotate.services.sentences import are_near, count_warning, kind_of, same_key
from refseg.apps.annotate.services.suggesting import suggested_text
from refseg.apps.annotate.states import LIVE, MOVES

FLAGS = ("irrelevant", "names_present", "count_mismatch", "easy_no_target")
"""What may be noted at a sample for administrators; validators never see it."""


@dataclass(frozen=True)
class Submission:
    """What an annotator sends; see the API."""

    lease_id: str
    client_key: str
    text: str
    targets: Sequence[int]
    no_target: bool
    suggestion_id: str | None = None
    keep: bool = False


@dataclass(frozen=True)
class Report:
    """What the rules say about a sentence: its kind, why it is refused (None: it is not), and warnings."""

    kind: str
    refusal: GameError | None
    warnings: list[dict[str, Any]] = field(default_factory=list)


def submit(session: Session, game: Game, person_id: int, given: Submission) -> tuple[GameSample, Lease | None, bool]:
    """Take in a sentence: the sample, the lease if the annotator stays on the picture, and whether it was there before.

    Raises `GameError`: "invalid", "lease_lost", "duplicate", "near_duplicate", "key_reused", "slow_down".
    """
    content = fingerprint(given.text, sorted(given.targets), given.no_target, given.suggestion_id)
    mine = select(GameSample).where(GameSample.author_id == person_id, GameSample.client_key == given.client_key)
    before = replayed(session, mine, content, "sentence")
    if before is not None:
        return before, _lease_again(session, game, person_id, before, given), True
    check_rate(session, game.clock(), f"write:{person_id}", 60, game.settings.writes_per_minute)
    picture: Picture = lock_held(session, person_id, "write", given.lease_id)
    text = checked_text(game, given.text)
    targets = checked_targets(session, picture.id, given.targets, given.no_target)
    report = examine(session, game, picture, text, targets)
    if report.refusal is not None:
        raise report.refusal
    now = game.clock()
    sample = GameSample(
        picture_id=picture.id, split=picture.split, author_id=person_id, text=text, no_target=not targets,
        target_count=len(targets), kind=report.kind,
        state=MOVES["submit"].targets[None], flags=[item["code"] for item in report.warnings],
        warnings=report.warnings, suggestion=suggested_text(session, picture, given.suggestion_id),
        client_key=given.client_key, client_hash=content, draw=game.rng.random(), queued_at=now, created_at=now,
        updated_at=now, round=1, reason="",
    )  # fmt: skip
    session.add(sample)
    session.flush()
    session.add_all(SampleTarget(sample_id=sample.id, object_id=target) for target in targets)
    pass_on(session, sample)
    picture.samples = Picture.samples + 1  # type: ignore[assignment]
    record(session, game, person_id, "sample", sample.id, "submit", None, sample.state)
    count(session, game, person_id, written=1)
    drop(session, person_id, "write", picture.id)
    lease = None
    if given.keep:
        picture.lease_until = now + game.settings.lease_seconds
        lease = Lease(given.lease_id, "write", picture.id, picture.lease_until, game.settings.lease_seconds)
    else:
        free(picture)
    session.flush()
    return sample, lease, False


def examine(session: Session, game: Game, picture: Picture, text: str, targets: Sequence[int]) -> Report:
    """What the rules say about a sentence on a picture; nothing is changed.

    Raises `GameError` "invalid" for one that is nothing but what the page calls its objects.
    """
    there = select(Object.id, Object.category).where(Object.picture_id == picture.id, Object.active)
    categories = session.execute(there).all()
    nouns = all_nouns(session, game)
    if is_page_name(text, [category for _, category in categories], nouns.names({name for _, name in categories})):
        raise GameError(
            "invalid", "numbers and names of this page mean nothing to others: say what the objects are", "text"
        )
    kind = kind_of(text, frozenset(nouns.find(text)))
    warnings: list[dict[str, Any]] = []
    if targets:
        odd = count_warning(text, len(targets))
        if odd is not None:
            warnings.append({"code": "count_mismatch", "message": odd, "details": {"selected": len(targets)}})
    else:
        remarks = no_target_remarks(text, nouns, {category for _, category in categories})
        warnings += [{"code": code, "message": message, "details": {}} for code, message in remarks]
    return Report(kind, _earlier(session, picture, text), warnings)


def checked_text(game: Game, text: str) -> str:
    """The sentence as it is kept; raises `GameError` "invalid" for one that is empty or too long."""
    hidden = hidden_letters(text)
    if hidden:
        raise GameError(
            "invalid", f"the sentence holds letters that nobody sees ({', '.join(hidden)}): write it anew", "text"
        )
    cleaned = clean(text)
    mixed = mixed_words(cleaned)
    if mixed:
        raise GameError("invalid", f"{mixed[0]!r} mixes letters of two scripts that look alike: write it anew", "text")
    if not any(sign.isalpha() for sign in cleaned):
        raise GameError("invalid", "write a sentence first", "text")
    if len(cleaned) > game.settings.max_text:
        raise GameError(
            "invalid", f"the sentence has {len(cleaned)} characters; at most {game.settings.max_text} are taken", "text"
        )
    return cleaned


def checked_targets(session: Session, picture_id: int, targets: Sequence[int], no_target: bool) -> list[int]:
    """The selected objects in order; raises `GameError` "invalid" for another picture's, or where none is not said."""
    chosen = sorted(set(targets))
    if no_target and chosen:
        raise GameError("invalid", "either objects are selected or there is no target, not both", "targets")
    if not no_target and not chosen:
        raise GameError("invalid", "select an object, or say that there is no target", "targets")
    there = session.scalars(
        select(Object.id).where(Object.picture_id == picture_id, Object.active, Object.id.in_(chosen))
    ).all()
    if len(there) != len(chosen):
        raise GameError("invalid", "an object that is not on this picture was selected", "targets")
    return chosen


def all_nouns(session: Session, game: Game) -> Nouns:
    """The words for all categories of the database, read again after a minute (an import may have brought new ones)."""
    now = time.monotonic()
    if game.categories is None or now - game.categories[0] > 60:
        game.categories = (now, frozenset(session.scalars(select(Object.category).distinct())))
    return nouns_of(game.categories[1])


def _earlier(session: Session, picture: Picture, text: str) -> GameError | None:
    """The refusal of a sentence that the picture has already, or nearly; it shows the earlier one."""
    live = select(GameSample.text, GameSample.id).where(GameSample.picture_id == picture.id, GameSample.state.in_(LIVE))
    rows = session.execute(live.order_by(GameSample.id))
    known: list[tuple[str, int | None]] = [(row[0], row[1]) for row in rows]
    imported = select(Imported.text).where(Imported.picture_id == picture.id).order_by(Imported.id)
    known += [(kept, None) for kept in session.scalars(imported)]
    key = same_key(text)
    same = next((one for one in known if same_key(one[0]) == key), None)
    near = next((one for one in known if are_near(one[0], text)), None) if same is None else None
    earlier = same or near
    if earlier is None:
        return None
    code, nearly = ("duplicate", "") if same else ("near_duplicate", "nearly ")
    message = f'the picture has {nearly}this sentence already: "{earlier[0]}"'
    source = "imported" if earlier[1] is None else "sample"
    error = GameError(code, message, "text", earlier={"text": earlier[0], "source": source})
    error.shown_sample = earlier[1]
    return error


def _lease_again(session: Session, game: Game, person_id: int, sample: GameSample, given: Submission) -> Lease | None:
    """The lease for a repeated request that asked to stay on the picture, if it is still held."""
    if not given.keep:
        return None
    lease = held_lease(session, game, person_id, "write")
    return lease if lease is not None and (lease.id, lease.item_id) == (given.lease_id, sample.picture_id) else None
