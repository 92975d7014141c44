"""The data card of an export: how many of what, how well people agreed, how it was made."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from refseg.apps.annotate.game import Game
from refseg.apps.annotate.overview import agreement
from refseg.apps.annotate.states import REASONS, STATES
from refseg.apps.annotate.tables import GameSample, Verdict
from refseg.data.stats import words_of


def make_card(session: Session, game: Game, split: str | None = None) -> dict[str, Any]:
    """The card's numbers; the same database gives the same card."""
    chosen = [] if split is None else [GameSample.split == split]
    accepted = [GameSample.state == "accepted", *chosen]
    states = dict.fromkeys(STATES, 0)
    for state, number in session.execute(
        select(GameSample.state, func.count()).where(*chosen).group_by(GameSample.state)
    ):
        states[state] = number
    targets: dict[str, int] = {"none": 0, "one": 0, "several": 0}
    objects = 0
    counted = select(GameSample.target_count, func.count()).where(*accepted).group_by(GameSample.target_count)
    for size, number in session.execute(counted):
        targets["none" if not size else "one" if size == 1 else "several"] += number
        objects += size * number
    pictures = select(func.count(func.distinct(GameSample.picture_id))).where(*accepted)
    authors = select(func.count(func.distinct(GameSample.author_id))).where(*accepted)
    validators = (
        select(func.count(func.distinct(Verdict.validator_id)))
        .join(GameSample, GameSample.id == Verdict.sample_id)
        .where(*accepted)
    )
    texts = list(session.scalars(select(GameSample.text).where(*accepted)))
    lengths = [len(words_of(text)) for text in texts]
    rejections = (
        select(Verdict.reason, func.count())
        .join(GameSample, GameSample.id == Verdict.sample_id)
        .where(Verdict.result == "rejected", *chosen)
        .group_by(Verdict.reason)
    )
    reasons = dict.fromkeys(REASONS, 0)
    reasons |= {row[0]: row[1] for row in session.execute(rejections) if row[0] is not None}
    return {
        "name": game.settings.name,
        "split": split,
        "accepted": states["accepted"],
        "states": states,
        "targets": targets,
        "objects": objects,
        "pictures": session.scalar(pictures) or 0,
        "annotators": session.scalar(authors) or 0,
        "validators": session.scalar(validators) or 0,
        "splits": _grouped(session, GameSample.split, accepted),
        "kinds": _grouped(session, GameSample.kind, accepted),
        "words": {
            "mean": round(sum(lengths) / len(lengths), 3) if lengths else None,
            "longest": max(lengths, default=0),
            "vocabulary": len({word for text in texts for word in words_of(text)}),
        },
        "agreement": agreement(session, split),
        "rejections": reasons,
    }


def card_markdown(card: dict[str, Any]) -> str:
    """The card for people."""
    rate = card["agreement"]["rate"]
    first = card["agreement"]["first_rate"]
    targets = card["targets"]
    lines = [
        f"# {card['name']}" + (f", split {card['split']}" if card["split"] else ""),
        "",
        "Made with refseg's annotation game: one person wrote each sentence about a set of objects, another found the",
        "same set without seeing it; after two different answers a sentence was discarded.",
        "",
        "| | |",
        "|---|---|",
        f"| sentences | {card['accepted']:,} |",
        f"| with one target, several, none | {targets['one']:,}, {targets['several']:,}, {targets['none']:,} |",
        f"| pictures | {card['pictures']:,} |",
        f"| people who wrote, who validated | {card['annotators']}, {card['validators']} |",
        f"| words in a sentence, mean | {card['words']['mean']} |",
        f"| different words | {card['words']['vocabulary']:,} |",
        f"| selections that matched | {'none yet' if rate is None else f'{rate:.1%}'} |",
        f"| first selections that matched | {'none yet' if first is None else f'{first:.1%}'} |",
        "",
    ]
    for title, key in (("Split", "splits"), ("Kind", "kinds"), ("State", "states"), ("Rejected as", "rejections")):
        lines += [f"| {title} | samples |", "|---|---|"]
        lines += [f"| {name} | {number:,} |" for name, number in card[key].items()]
        lines.append("")
    return "\n".join(lines)


def _grouped(session: Session, column: Any, conditions: list[Any]) -> dict[str, int]:
    rows = session.execute(select(column, func.count()).where(*conditions).group_by(column)).all()
    return dict(sorted(((row[0], row[1]) for row in rows), key=lambda row: (-row[1], row[0])))
