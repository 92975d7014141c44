"""Generated expressions as the records of gRefCOCO's own files (Liu et al., GRES, CVPR 2023).

A record: {ref_id, image_id, file_name, split, ann_id, category_id, no_target, sent_ids, sentences}; each sentence
carries its kind besides.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from refseg.generation.language import forms
from refseg.generation.language.expressions import Expression

Record = dict[str, Any]


def by_targets(expressions: Iterable[Expression]) -> list[tuple[tuple[int, ...], list[Record]]]:
    """The expressions of each set of targets; a deceptive one stands alone with its paraphrases."""
    groups: dict[tuple[tuple[int, ...], forms.Form | None], list[Record]] = {}
    for item in expressions:
        words = item.text.replace(",", "")
        expression = {"raw": item.text, "sent": words, "tokens": words.split(), "kind": item.kind}
        groups.setdefault((item.targets, None if item.targets else item.form), []).append(expression)
    return [(targets, expressions) for (targets, _), expressions in groups.items()]


def add_ref(
    refs: list[Record],
    image_id: int,
    file_name: str,
    split: str,
    ann_ids: Sequence[int],
    category_ids: Sequence[int],
    expressions: Sequence[Record],
) -> None:
    """Append the record of one set of targets (none: no target), numbered after those that are there."""
    first = refs[-1]["sent_ids"][-1] + 1 if refs else 0
    refs.append(
        {
            "ref_id": len(refs),
            "image_id": image_id,
            "file_name": file_name,
            "split": split,
            "ann_id": list(ann_ids) or [-1],
            "category_id": list(category_ids) or [-1],
            "no_target": not ann_ids,
            "sent_ids": list(range(first, first + len(expressions))),
            "sentences": [{**expression, "sent_id": first + place} for place, expression in enumerate(expressions)],
        }
    )


def count_kinds(refs: Iterable[Record]) -> dict[str, dict[str, int]]:
    """The number of expressions by split and kind."""
    counts: dict[str, dict[str, int]] = {}
    for ref in refs:
        split = counts.setdefault(ref["split"], {})
        for expression in ref["sentences"]:
            split[expression["kind"]] = split.get(expression["kind"], 0) + 1
    return counts
