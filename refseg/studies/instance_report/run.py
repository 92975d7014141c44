"""The sets of a report, measured one after the other; what is kept in the folder is not measured again.

Only pictures of the halves that are asked for are looked at.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from refseg.data.formats.coco import read_instances
from refseg.data.sample import ReferringDataset, Sample
from refseg.generation.scenes.write import SceneSettings, write_scenes
from refseg.inference.predictor import Segmenter, load
from refseg.metrics import breakdown
from refseg.studies.instance_report import boxes, names
from refseg.studies.instance_report.expressions import Examiner
from refseg.studies.instance_report.kept import HALVES, KeptLines, KeptProposals, boxes_made_by, half_of, made_by
from refseg.studies.instance_report.sets import (
    PhotographSet,
    Settings,
    file_of,
    key_of,
    number_of,
    open_splits,
    read_photographs,
)
from refseg.studies.instance_report.summary import (
    interval,
    mean_interval,
    recalibrated,
    referring_numbers,
    reliability,
)
from refseg.studies.oracle import measure as measure_objects
from refseg.studies.photographs import ScoredSet
from refseg.training.instances.annotated import AnnotatedPicture

__all__ = ["Report", "Update"]

Record = dict[str, Any]
"""Plain JSON values by name."""
Update = Callable[[int, int, str], None]
"""Called with what is done, of how much, and what is being measured."""
_RESAMPLES = 200


class Report:
    """A model's report in a folder.

    Raises `ConfigError` where the model is not of the system `instances`, and what reading the sets raises.
    """

    def __init__(self, model: str, folder: Path, settings: Settings, update: Update | None = None) -> None:
        self.model_name = model
        self.folder = folder
        self.settings = settings
        self.update: Update = update or (lambda done, total, what: None)
        segmenter = load(model, device="cpu")
        self.examiner = Examiner(segmenter)
        self.made_by = made_by(segmenter)
        self.proposer = KeptProposals(self.examiner.model.proposer, folder)
        # Every answer goes through what is kept.
        self.examiner.model.proposer = self.proposer  # type: ignore[assignment]

    @property
    def segmenter(self) -> Segmenter:
        """The model that is measured."""
        return self.examiner.segmenter

    def document(self) -> dict[str, Any]:
        """Everything that is asked for, as plain JSON; None where nothing was there to count."""
        settings = self.settings
        referring, photographs = list(settings.referring), list(settings.photographs)
        if settings.scenes:
            drawn = self.folder / "scenes"
            write_scenes(drawn, SceneSettings(settings.seed, {"val": settings.scenes}, settings.size))
            referring.append(ScoredSet("scenes", str(drawn), split="val"))
            file, images = drawn / "scenes" / "instances.json", drawn / "images" / "train2014"
            photographs.append(PhotographSet("scenes", file, images))
        # Every set is opened before anything is measured.
        opened = [(scored, open_splits(scored)) for scored in referring]
        read = [(each, read_photographs(each)) for each in photographs]
        nouns = None if settings.nouns is None else names.read_nouns(settings.nouns)
        document: dict[str, Any] = {"model": self.model_name, "made_by": self.made_by, "half": settings.half}
        document["referring"] = {scored.name: self.referring(scored.name, data) for scored, data in opened}
        document["photographs"] = {each.name: self.photographs(each, pictures) for each, pictures in read}
        if nouns is not None:
            measured = names.measure_nouns(self.examiner.model, nouns)
            document["nouns"] = {half: measured[half] for half in HALVES if settings.half in ("both", half)}
        return cast(dict[str, Any], _without_nan(document))

    def referring(self, name: str, dataset: ReferringDataset) -> dict[str, Any]:
        """The numbers of a referring set, by half."""
        lines: KeptLines[list[Record]] = KeptLines(self.folder / "lines" / f"referring-{name}.jsonl", self.made_by)
        groups: dict[str, list[Sample]] = {}
        for indices in dataset.by_picture().values():
            samples = [dataset[index] for index in indices]
            if self.settings.takes(file_of(samples[0])):
                groups[key_of(samples)] = samples
        for done, (key, samples) in enumerate(groups.items(), 1):
            if key not in lines:
                lines.add(key, self.examiner.examine(samples))
            self.update(done, len(groups), name)
        result: dict[str, Any] = {}
        for half in self.settings.halves:
            keys = [key for key in groups if half in ("both", half_of(file_of(groups[key][0])))]
            result[half] = referring_numbers({key: lines.values[key] for key in keys})
        scores: dict[str, list[float]] = {half: [] for half in HALVES}
        truth: dict[str, list[bool]] = {half: [] for half in HALVES}
        for key, samples in groups.items():
            half = half_of(file_of(samples[0]))
            scores[half] += [record["none_score"] for record in lines.values[key]]
            truth[half] += [record["no_target"] for record in lines.values[key]]
        _mend(result, scores, truth)
        if self.settings.objects:
            for half, found in self._objects(name, dataset, groups).items():
                result[half]["annotated objects"] = found
        return result

    def _objects(
        self, name: str, dataset: ReferringDataset, groups: Mapping[str, Sequence[Sample]]
    ) -> dict[str, dict[str, Any]]:
        """Answers over the annotated objects, as `refseg oracle` has them: what choosing would reach if all that is
        annotated, and nothing else, were detected. Nothing where only boxes are annotated, or no categories."""
        every = [sample for samples in groups.values() for sample in samples]
        items = [item for sample in every for item in sample.objects]
        if not every or any(item.segmentation is None or not item.category for item in items):
            return {}
        lines: KeptLines[Record] = KeptLines(self.folder / "lines" / f"objects-{name}.jsonl", self.made_by)
        key = hashlib.sha256("\n".join(groups).encode()).hexdigest()[:16]
        if key not in lines:
            subset = ReferringDataset(every, name=dataset.name, split=dataset.split, root=dataset.root)
            what = f"{name}, annotated objects"
            measured, whole = measure_objects(
                subset, self.model_name, lambda done, total: self.update(done, total, what)
            )
            lines.add(key, {"whole": whole, "rows": [row.to_dict() for row in measured.chosen]})
        value = lines.values[key]
        pictures = {str(samples[0].image_id): file_of(samples[0]) for samples in groups.values()}
        result = {}
        for half in self.settings.halves:
            rows = [row for row in value["rows"] if half in ("both", half_of(pictures[row["picture"]]))]
            if rows:
                numbers = breakdown([{**row, "kind": "all"} for row in rows], "kind", "native")["all"]
                kept = {metric: numbers[metric] for metric in ("gIoU", "mIoU_target", "N_acc", "T_acc")}
                result[half] = {"whole": value["whole"], **kept}
        return result

    def photographs(self, each: PhotographSet, pictures: Sequence[AnnotatedPicture]) -> dict[str, Any]:
        """The numbers of photographs: boxes, masks, and names of categories; by half, and apart."""
        listed, there = names.categories_of(each.file) if each.names else ([], {})
        features = self.examiner.read([f"the {name}" for name in listed]) if listed else None
        taken = [picture for picture in pictures if self.settings.takes(picture.path.name)]
        kept = self.folder / "lines"
        found: KeptLines[Record] = KeptLines(kept / f"boxes-{each.name}.jsonl", boxes_made_by(self.proposer.inner))
        asked: KeptLines[Record] | None = None
        if listed:
            asked = KeptLines(kept / f"names-{each.name}.jsonl", self.made_by)
        for done, picture in enumerate(taken, 1):
            key = picture.key
            if key not in found or (asked is not None and key not in asked):
                view = self.examiner.view(Sample(key, "", 0, picture.size, image_path=picture.path))
                if key not in found:
                    rows = boxes.detected_boxes(self.proposer.inner, picture, view.state.proposals)
                    masks = boxes.masks_in_true_boxes(self.proposer.predict, picture)
                    found.add(key, {"boxes": rows, "masks": masks})
                if asked is not None and features is not None and key not in asked:
                    asked.add(key, names.ask_names(self.examiner.model, view, features, listed))
            self.update(done, len(taken), f"{each.name}, boxes, masks and names")
        extra = read_instances(each.file).pictures
        result: dict[str, Any] = {}
        for half in self.settings.halves:
            part = [picture for picture in taken if half in ("both", half_of(picture.path.name))]
            result[half] = self._photograph_numbers(part, found, asked, listed, there)
            if each.apart is not None:
                field, value = each.apart
                some = [picture for picture in part if str(extra[number_of(picture)].extra.get(field)) == value]
                result[half][f"{field} {value}"] = self._photograph_numbers(some, found, asked, listed, there)
        if asked is not None:
            scores: dict[str, list[float]] = {half: [] for half in HALVES}
            truth: dict[str, list[bool]] = {half: [] for half in HALVES}
            for picture in taken:
                half = half_of(picture.path.name)
                scores[half] += asked.values[picture.key]["none"]
                truth[half] += [name not in there[number_of(picture)] for name in listed]
            _mend(result, scores, truth)
        return result

    def _photograph_numbers(
        self,
        pictures: Sequence[AnnotatedPicture],
        found: KeptLines[Record],
        asked: KeptLines[Record] | None,
        listed: Sequence[str],
        there: Mapping[int, set[str]],
    ) -> dict[str, Any]:
        values = [found.values[picture.key] for picture in pictures]
        numbers: dict[str, Any] = {"pictures": len(pictures)}
        if not pictures:
            return numbers
        numbers["AP"] = boxes.precision([value["boxes"] for value in values], pictures)
        masks = [value["masks"] for value in values if value["masks"] is not None]
        numbers["objects"] = int(sum(mask[0] for mask in masks))
        for place, name in enumerate(("IoU", "boundary IoU", "ellipse", "box"), 1):
            # A picture's mean, once for each of its objects.
            numbers.setdefault("masks", {})[name] = mean_interval([[mask[place]] * int(mask[0]) for mask in masks])
        if asked is not None:
            truth = np.array([[name in there[number_of(picture)] for name in listed] for picture in pictures])
            none, seen = (np.array([asked.values[item.key][name] for item in pictures]) for name in ("none", "seen"))
            threshold = self.segmenter.thresholds.no_target
            numbers["names"] = _presence_intervals(names.Presence(1 - none, truth, none, threshold))
            numbers["names by the detector alone"] = _presence_intervals(names.Presence(seen, truth))
            numbers["none"] = reliability(none.ravel(), ~truth.ravel())
        return numbers


def _presence_intervals(presence: names.Presence) -> dict[str, Any]:
    drawn: dict[tuple[int, ...], dict[str, float]] = {}

    def numbers(rows: Sequence[int]) -> dict[str, float]:
        key = tuple(rows)
        if key not in drawn:  # the same draws serve every metric
            drawn[key] = names.presence_numbers(presence.select(rows))
        return drawn[key]

    count = len(presence.score)
    metrics = numbers(range(count))
    result: dict[str, Any] = {}
    for name, value in metrics.items():
        if name == "ranking AP":
            # Pictures that are drawn twice are ranked beside themselves, and all draws come out above the value.
            result[name] = [value, float("nan"), float("nan")]
            continue
        result[name] = interval(count, lambda rows, name=name: numbers(rows).get(name, float("nan")), _RESAMPLES)  # type: ignore[misc]
    return result


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(entry) for entry in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _mend(result: dict[str, Any], scores: Mapping[str, list[float]], truth: Mapping[str, list[bool]]) -> None:
    """Where both halves are measured: the calibration error of the test half after a map fitted on the other; `scores`
    and `truth` have the questions of each half."""
    if not all("none" in result.get(half, {}) for half in HALVES):
        return
    fitted = np.array(scores["val"]), np.array(truth["val"])
    mended = recalibrated(*fitted, np.array(scores["test"]))
    result["test"]["none"]["error after a map fitted on val"] = reliability(mended, np.array(truth["test"]))["error"]
