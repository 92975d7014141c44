"""Weights that ship with the package, scored on the test sets of the side-by-side study. Measured once, then kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from refseg.data.sample import ReferringDataset
from refseg.files import write_text
from refseg.metrics.bootstrap import confidence_interval
from refseg.metrics.counts import Row
from refseg.studies.photographs import Photographs, kept, open_test_sets, score_all
from refseg.studies.weighing import percent_metrics

__all__ = ["on_photographs", "on_scenes"]

PACKAGED = "packaged.json"


def on_scenes(
    name: str, folder: Path, scenes: ReferringDataset, metrics: Sequence[str], say: Callable[[str], None]
) -> dict[str, Any]:
    """`metrics` in percent, gIoU with its 95 % interval over pictures, and gIoU by kind of expression, 0 to 1."""
    known = _known(folder / PACKAGED)
    if name not in known:
        say(f"{name} on drawn scenes")
        scores, rows = _score(name, {"scenes": scenes})
        document = scores["scenes"].to_dict()
        interval = confidence_interval([Row.from_dict(row) for row in rows["scenes"]], "gIoU")
        result = kept(scores["scenes"], metrics) | {"gIoU_interval": [interval.low, interval.high]}
        known[name] = {
            "metrics": percent_metrics(result),
            "kinds": {
                kind: {key: row[key] for key in ("sentences", "gIoU")}
                for kind, row in document["breakdowns"].get("kind", {}).items()
            },
        }
        write_text(folder / PACKAGED, json.dumps(known, indent=1) + "\n")
    return dict(known[name])


def on_photographs(
    name: str, folder: Path, photographs: Photographs, metrics: Sequence[str], say: Callable[[str], None]
) -> dict[str, dict[str, Any]]:
    """Test set -> `metrics` as fractions, and how many expressions they are of."""
    known = _known(folder / PACKAGED)
    if set(known.get(name, {})) != {test.name for test in photographs.tests}:
        say(f"{name} on photographs")
        scores, _ = _score(name, open_test_sets(photographs))
        known[name] = {each: kept(score, metrics) for each, score in scores.items()}
        write_text(folder / PACKAGED, json.dumps(known, indent=1) + "\n")
    return dict(known[name])


def _known(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def _score(name: str, tests: Mapping[str, ReferringDataset]) -> Any:
    from refseg.evaluation.evaluate import native_protocol
    from refseg.inference.checkpoint import load_model

    model, tokenizer, info = load_model(name)
    return score_all(model, tokenizer, tests, native_protocol(info))
