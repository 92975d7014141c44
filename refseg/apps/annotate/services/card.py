"""The data card of an export: how many of what, how well people agreed, how it was made."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from refseg.apps.annotate.database.tables import GameSample, Verdict
from refseg.apps.annotate.game import Game
from refseg.apps.annotate.services.overview import agreement, sample_states
from refseg.apps.annotate.states import REASONS
from refseg.data.stats import words_of


def make_card(session: Session, game: Game, split: str | None = None, single: bool = False) -> dict[str, Any]:
    """The card's numbers; the same database gives the same card.

    With `single` they are of the accepted samples with exactly one target, and `left_out` counts the others.
    """
    chosen = [] if split is None else [GameSample.split == split]
    accepted = [GameSample.state == "accepted", *chosen]
    left_out = {"none": 0, "several": 0}
    if single:
        for size, number in _grouped(session, GameSample.target_count, accepted).items():
            if size != 1:
                left_out["several" if size else "none"] += number
        accepted.append(GameSample.target_count == 1)
    states = sample_states(session, *chosen)

    def different(column: Any) -> int:
        wanted = select(func.count(func.distinct(column))).select_from(GameSample).where(*accepted)
        if column.class_ is Verdict:
            wanted = wanted.join(Verdict, Verdict.sample_id == GameSample.id)
        return session.scalar(wanted) or 0

    targets: dict[str, int] = {"none": 0, "one": 0, "several": 0}
    sizes = _grouped(session, GameSample.target_count, accepted)
    for size, number in sizes.items():
        targets["none" if not size else "one" if size == 1 else "several"] += number
    texts = list(session.scalars(select(GameSample.text).where(*accepted)))
    lengths = [len(words_of(text)) for text in texts]
    rejections = (
        select(Verdict.reason, func.count())
        .join(GameSample, GameSample.id == Verdict.sample_id)
        .where(Verdict.result == "rejected", Verdict.reason.is_not(None), *chosen)
        .group_by(Verdict.reason)
    )
    return {
        "name": game.settings.name,
        "split": split,
        "accepted": sum(sizes.values()),
        "left_out": left_out,
        "states": states,
        "targets": targets,
        "objects": sum(size * number for size, number in sizes.items()),
        "pictures": different(GameSample.picture_id),
        "annotators": different(GameSample.author_id),
        "validators": different(Verdict.validator_id),
        "splits": _grouped(session, GameSample.split, accepted),
        "kinds": _grouped(session, GameSample.kind, accepted),
        "words": {
            "mean": round(sum(lengths) / len(lengths), 3) if lengths else None,
            "longest": max(lengths, default=0),
            "vocabulary": len({word for text in texts for word in words_of(text)}),
        },
        "agreement": agreement(session, split),
        "rejections": dict.fromkeys(REASONS, 0) | {row[0]: row[1] for row in session.execute(rejections)},
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
        *_left_out(card["left_out"]),
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


def _left_out(counts: dict[str, int]) -> list[str]:
    if not any(counts.values()):
        return []
    return [f"| accepted, and not in this form: without target, several | {counts['none']:,}, {counts['several']:,} |"]


def _grouped(session: Session, column: Any, conditions: list[Any]) -> dict[Any, int]:
    rows = session.execute(select(column, func.count()).where(*conditions).group_by(column)).all()
    return dict(sorted(((row[0], row[1]) for row in rows), key=lambda row: (-row[1], row[0])))
