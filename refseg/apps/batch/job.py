"""`refseg batch`: a folder of Parquet files that is filled shard by shard, whatever is killed meanwhile.

The folder holds `job.json` (what is asked, and of which model), `plan.jsonl` (which pictures make which part; only ever
added to) and `part-NNNNN.parquet`, each of which is there whole or not at all. As a part's pictures are fixed before it
is made, a part that is made twice is the same, and every row is there once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refseg.apps.batch.execute import Cluster, Shard, Work, map_shards
from refseg.apps.batch.rows import Row, need_pyarrow, rows_of, table_of
from refseg.errors import RefsegError
from refseg.files import replacing, write_text
from refseg.inference import DEFAULT_MODEL
from refseg.precision import Precision

if TYPE_CHECKING:
    from refseg.inference.predictor import Segmenter

__all__ = ["Settings", "Totals", "run_batch"]

JOB, PLAN = "job.json", "plan.jsonl"
FORMAT = 1


@dataclass(frozen=True)
class Settings:
    """What is asked, and how: the answers of a folder are all of the same. `texts` are expressions as `clean_text`
    leaves them; thresholds of None are the model's."""

    texts: tuple[str, ...]
    model: str = DEFAULT_MODEL
    threshold: float | None = None
    no_target_threshold: float | None = None
    precision: Precision = "float32"


@dataclass(frozen=True)
class Totals:
    """What a folder holds: `rows`, of which `errors` tell why there is no answer, and how many were made just now."""

    rows: int
    errors: int
    new: int


def run_batch(
    pictures: Sequence[str | PathLike[str]],
    settings: Settings,
    output: str | PathLike[str],
    *,
    workers: int = 1,
    cluster: Cluster | None = None,
    device: str = "auto",
    batch_size: int = 16,
    part_size: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> Totals:
    """Answer `settings.texts` about `pictures` into the folder `output`; what is there already is not done again.

    A row for each picture and expression, errors among them. Pictures that the folder's plan lacks are added to it,
    `part_size` a part; parts of the plan that are not there are made. `progress` gets pictures done and in all.

    Raises `RefsegError` where the folder holds another job, is being written by another process, or cannot be written,
    and as `map_shards` does.
    """
    need_pyarrow()
    folder = Path(output)
    with _locked(folder):
        _check_job(folder, settings)
        plan = _planned(folder, [str(Path(each).absolute()) for each in pictures], part_size)
        for left in folder.glob(".part-*.part"):  # of writers that were killed
            left.unlink(missing_ok=True)
        missing = [shard for shard in plan if not (folder / shard["part"]).is_file()]
        total = sum(len(shard["images"]) for shard in plan)
        done = before = total - sum(len(shard["images"]) for shard in missing)
        make = partial(answering, settings, str(folder.absolute()), device, batch_size)
        if progress is not None:
            progress(done, total)
        for result in map_shards(make, missing, workers=workers, cluster=cluster):
            done += result["images"]
            if progress is not None:
                progress(done, total)
    rows, errors = _count(folder)
    return Totals(rows, errors, (total - before) * len(settings.texts))


def answering(settings: Settings, folder: str, device: str, batch_size: int) -> Work:
    """A worker: loads the model, and writes the part of each shard that it is given."""
    from refseg.inference.predictor import load

    return partial(write_part, load(settings.model, device, settings.precision), settings, Path(folder), batch_size)


def write_part(segmenter: Segmenter, settings: Settings, folder: Path, batch_size: int, shard: Shard) -> Shard:
    """Answer the pictures of a shard and write its file, unless it is there."""
    target = folder / shard["part"]
    if not target.is_file():
        from pyarrow.parquet import write_table

        images, errors = shard["images"], 0
        answers = segmenter.stream(
            images,
            settings.texts,
            threshold=settings.threshold,
            no_target_threshold=settings.no_target_threshold,
            batch_size=batch_size,
        )
        rows: list[Row] = []
        for image, found in zip(images, answers, strict=True):
            rows += rows_of(_text(image), settings.texts, found)
            errors += len(settings.texts) * isinstance(found, Exception)
        table = table_of(rows)
        about = {**(table.schema.metadata or {}), "refseg.errors": str(errors)}
        with _writing(folder), replacing(target) as temporary:
            write_table(table.replace_schema_metadata(about), temporary, compression="zstd")
    return {"images": len(shard["images"])}


def _text(path: str) -> str:
    """Bytes of a path that are no UTF-8 as escapes."""
    return path.encode("utf-8", "backslashreplace").decode()


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RefsegError(f"{folder}: cannot write there ({error.strerror or error})") from error


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process at a time plans the parts of a folder; the lock goes with the process that holds it."""
    try:
        import fcntl
    except ImportError:  # not on Windows
        folder.mkdir(parents=True, exist_ok=True)
        yield
        return
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / ".lock").open("w")
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RefsegError(f"{folder}: another refseg batch is writing there") from error
        yield


def _check_job(folder: Path, settings: Settings) -> None:
    """Write what is asked down; raises `RefsegError` where the folder holds answers to something else."""
    path = folder / JOB
    wanted: dict[str, Any] = {"format": FORMAT, **asdict(settings), "texts": list(settings.texts)}
    if not path.is_file():
        others = [each.name for each in folder.iterdir() if not each.name.startswith(".")]
        if others:
            raise RefsegError(f"{folder} is not empty ({others[0]}, ...) and no job of refseg batch; choose another -o")
        write_text(path, json.dumps(wanted, indent=1, ensure_ascii=False) + "\n")
        return
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RefsegError(f"{path}: cannot be read ({error}); choose another -o") from error
    differ = [key for key in wanted if not isinstance(found, dict) or found.get(key) != wanted[key]]
    if differ:
        raise RefsegError(f"{folder} holds a job with another {' and '.join(differ)} ({path}); choose another -o")


def _planned(folder: Path, images: Sequence[str], part_size: int) -> list[Shard]:
    """The plan, with what is new in `images` added to it."""
    path = folder / PLAN
    plan: list[Shard] = []
    try:
        if path.is_file():
            plan = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        known = {image for shard in plan for image in shard["images"]}
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise RefsegError(f"{path}: damaged ({error}); choose another -o") from error
    new = [image for image in dict.fromkeys(images) if image not in known]
    for start in range(0, len(new), part_size):
        plan.append({"part": f"part-{len(plan):05}.parquet", "images": new[start : start + part_size]})
    if new:
        # JSON keeps bytes of paths that are no UTF-8 as lone surrogates, in ASCII.
        write_text(path, "".join(json.dumps(shard) + "\n" for shard in plan))
    return plan


def _count(folder: Path) -> tuple[int, int]:
    from pyarrow.parquet import read_metadata

    rows = errors = 0
    for part in folder.glob("part-*.parquet"):
        about = read_metadata(part)
        rows += about.num_rows
        errors += int((about.metadata or {}).get(b"refseg.errors", b"0"))
    return rows, errors
