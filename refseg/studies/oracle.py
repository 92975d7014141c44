"""Choosing alone: annotated objects stand in for a segmenter that finds everything of a name, and nothing else.

Each expression is answered twice from the same instances: by the system `instances` over them, and by all of them that
the noun of the expression names, as a person who types a noun into an open-vocabulary segmenter has it. What the first
loses against 1 is lost by reading and choosing; what it gains over the second is what they are good for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
from jaxtyping import Bool

from refseg.data.formats.coco import build_instance, read_instances
from refseg.data.images import FILENAME
from refseg.data.regions import things_of
from refseg.data.sample import Instance, ReferringDataset, Sample
from refseg.errors import ConfigError, DataError
from refseg.inference.detections import Detection, DetectionTable
from refseg.inference.predictor import Segmenter, load
from refseg.inference.proposals import over_proposals
from refseg.metrics import Row, breakdown, count_masks
from refseg.models.instances.concepts import ask, normal_category
from refseg.models.instances.model import Instances, is_spelled
from refseg.models.instances.words import Lexicon

__all__ = ["KINDS", "Measured", "answers_of", "measure", "table_of"]

CERTAIN = 0.5
"""Score at which a thing is as likely there as not, those of annotated things being 1: open-vocabulary segmenters'."""
KINDS = {"ordinal": "order", "location": "place"}
"""Kinds of expressions that go by another name in the tables."""


@dataclass(frozen=True)
class Measured:
    """Rows of both answers to each expression, in one order."""

    chosen: list[Row]
    everything: list[Row]

    def table(self) -> list[tuple[str, int, dict[str, float | int], dict[str, float | int]]]:
        """(kind, expressions, metrics of choosing, metrics of everything), all kinds together last."""
        parts = [breakdown(rows, "kind", "native") for rows in (self.chosen, self.everything)]
        kinds = [(name, parts[0][name], parts[1][name]) for name in parts[0]]
        whole = [_whole(rows) for rows in (self.chosen, self.everything)]
        return [
            (KINDS.get(name, name), int(first["sentences"]), first, second)
            for name, first, second in [*kinds, ("all", whole[0], whole[1])]
        ]


def _whole(rows: Sequence[Row]) -> dict[str, float | int]:
    return breakdown([replace(row, kind="all") for row in rows], "kind", "native").get("all", {"sentences": 0})


def table_of(dataset: ReferringDataset, model: Instances) -> tuple[DetectionTable, bool]:
    """The annotated objects of a data set's pictures as detections, and whether they are all objects of the pictures
    (otherwise those that some expression is about)."""
    annotated = _annotated(dataset)
    pictures: dict[str, list[Detection]] = {}
    whole = annotated is not None
    for number, indices in dataset.by_picture().items():
        samples = [dataset[index] for index in indices]
        things = things_of(samples) if annotated is None else annotated.get(number, [])
        whole = whole or any(sample.surroundings for sample in samples)
        pictures[f"#{number}"] = [
            Detection(normal_category(thing.category), thing.bbox, thing.segmentation, also=_also(thing))
            for thing in things
            if not thing.crowd and normal_category(thing.category)
        ]
    return DetectionTable(
        "the annotated objects", pictures, cast(Lexicon, model.chooser.means), least_score=CERTAIN
    ), whole


def _also(thing: Instance) -> tuple[str, ...]:
    return tuple(filter(None, map(normal_category, thing.tags)))


def _annotated(dataset: ReferringDataset) -> Mapping[int, list[Instance]] | None:
    """All objects of each picture, where the data set has an instances.json."""
    root = dataset.root or Path("nowhere")
    path = next((path for path in (root / dataset.name, root) if (path / "instances.json").is_file()), None)
    if path is None:
        return None
    known = read_instances(path / "instances.json")
    found: dict[int, list[Instance]] = {}
    for record in known.annotations.values():
        if record["image_id"] in known.pictures:
            thing = build_instance(known, record)[0]
            group = known.supercategories.get(record.get("category_id", -1), "")
            found.setdefault(record["image_id"], []).append(replace(thing, tags=(*thing.tags, group)))
    return found


def answers_of(table: DetectionTable, encoded: object, text: str, size: tuple[int, int]) -> Bool[np.ndarray, "H W"]:
    """Everything that an expression's nouns name, what they stand to left out."""
    names = ask(text, table.means, is_spelled, table.categories).targets
    mask = np.zeros(size, dtype=bool)
    for found in table.propose(encoded, names):
        if found.masks is not None:
            mask |= found.masks.numpy().any(0)
    return mask


def measure(
    dataset: ReferringDataset,
    model: str = "instances",
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Measured, bool]:
    """Both answers to each expression of a data set, and whether every object of its pictures was known.

    Raises `RefsegError` for another system's model, and `DataError` where nothing is annotated.
    """
    base = load(model, device="cpu")
    if not isinstance(base.model, Instances):
        raise ConfigError(f"{model}: does not choose among instances; take `instances`, or a folder trained from it")
    table, whole = table_of(dataset, base.model)
    segmenter = Segmenter(over_proposals(base.model, table), base.tokenizer, base.info, device="cpu")
    measured = Measured([], [])
    groups = list(dataset.by_picture().values())
    for done, indices in enumerate(groups):
        samples = [dataset[index] for index in indices]
        picture = samples[0].read_image()
        picture.info[FILENAME] = str(samples[0].image_id)
        answers = segmenter.encode(picture).ask([sample.text for sample in samples])
        encoded = table.encode_picture(picture)
        for sample, answer in zip(samples, answers, strict=True):
            everything = answers_of(table, encoded, sample.text, sample.size)
            measured.chosen.append(_row(sample, answer.mask, answer.no_target))
            measured.everything.append(_row(sample, everything, not everything.any()))
        if progress is not None:
            progress(done + 1, len(groups))
    if not measured.chosen:
        raise DataError("no expression of the data set could be measured")
    return measured, whole


def _row(sample: Sample, mask: Bool[np.ndarray, "H W"], none: bool) -> Row:
    return Row(
        id=sample.id,
        no_target=sample.no_target,
        predicted_no_target=none,
        picture=str(sample.image_id),
        text=sample.text,
        kind=sample.kind or "other",
        targets=len(sample.objects),
        **count_masks(mask, sample.mask()),
    )
