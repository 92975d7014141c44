"""`refseg oracle`: how well expressions are read and chosen by, apart from how well things are found."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from refseg.cli import options
from refseg.cli.app import App
from refseg.cli.options import opt
from refseg.cli.tables import print_table
from refseg.files import write_text
from refseg.inference import DEFAULT_MODEL

if TYPE_CHECKING:
    from refseg.data import ReferringDataset

app = App()


@app.command("oracle")
def oracle(
    data: options.OptionalData = None,
    dataset: options.Dataset = None,
    split: options.Split = None,
    limit: options.Limit = None,
    scenes: Annotated[
        int, opt("N", "without --data: drawn scenes", group=options.DATA, check=options.at_least(1))
    ] = 60,
    seed: Annotated[int, options.seed("of the drawn scenes")] = 0,
    model: options.Model = DEFAULT_MODEL,
    rows: Annotated[Path | None, opt("FILE.jsonl", "a line an expression", group=options.WRITING)] = None,
    json: Annotated[Path | None, options.json_file("the table")] = None,
) -> int:
    """Score choosing alone: annotated objects stand in for a segmenter that finds everything of a name.

    Beside the answers of `instances` over them stand those of a person who types the noun and takes everything.
    """
    options.check_file(json, "--json")
    from refseg.progress import progress
    from refseg.studies.oracle import measure

    samples = _dataset(data, dataset, split, limit, scenes, seed)
    with progress("pictures") as update:
        measured, whole = measure(samples, model, update)
    table = measured.table()
    headers = ("kind", "expressions", "gIoU", "Pr@0.5", "N_acc", "all of the noun: gIoU", "N_acc")
    cells = [
        (kind, f"{count:,}", *(_number(first, name) for name in ("gIoU", "Pr@0.5", "N_acc")),
         *(_number(second, name) for name in ("gIoU", "N_acc")))
        for kind, count, first, second in table
    ]  # fmt: skip
    print_table(headers, cells, title=f"{model} over annotated objects")
    if not whole:
        print("note: only objects that some expression is about are known here, so that there is less to confuse")
    if rows is not None:
        pairs = zip(measured.chosen, measured.everything, strict=True)
        lines = ({**one.to_dict(), "everything": other.to_dict()} for one, other in pairs)
        write_text(rows, "".join(json_format.dumps(line) + "\n" for line in lines))
    if json is not None:
        document = [{"kind": k, "expressions": n, "chosen": one, "everything": other} for k, n, one, other in table]
        write_text(json, json_format.dumps(document, indent=1) + "\n")
    return 0


def _number(metrics: dict[str, float | int], name: str) -> str:
    value = metrics.get(name)
    return "" if value is None or value != value else f"{value:.3f}"


def _dataset(
    data: Path | None, dataset: str | None, split: str | None, limit: int | None, scenes: int, seed: int
) -> ReferringDataset:
    if data is None:
        from refseg.generation.scenes import SceneDataset, drawn_samples

        samples = drawn_samples(SceneDataset(seed, scenes, split=split or "val"))
    else:
        from refseg.data import open_dataset

        samples = open_dataset(data, dataset, split)
    return samples if limit is None else samples[:limit]
