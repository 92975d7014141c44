"""`refseg batch PATHS --texts FILE -o OUT`: expressions about many pictures, into Parquet files."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from refseg.cli import options
from refseg.cli.app import App
from refseg.cli.options import arg, opt
from refseg.errors import RefsegError
from refseg.inference import DEFAULT_MODEL

app = App()


@app.command("batch")
def batch(
    paths: Annotated[list[str], arg("PATH...", "pictures, folders, patterns, and .txt files with a path a line")],
    output: Annotated[Path, options.output("folder for the answers; a second start goes on in it")],
    texts: Annotated[Path | None, opt("FILE", "a file with an expression a line", "--texts")] = None,
    text: Annotated[list[str] | None, opt("EXPRESSION", "an expression", "-t", "--text")] = None,
    model: options.Model = DEFAULT_MODEL,
    threshold: options.Threshold = None,
    no_target_threshold: options.NoTargetThreshold = None,
    device: options.Device = "auto",
    precision: options.Precision = "float32",
    workers: options.Cores = options.CORES,
    batch_size: options.BatchSize = 16,
    part_size: Annotated[int, opt("N", "pictures a file", "--part-size", check=options.at_least(1))] = 64,
    ray: options.Ray = None,
    actors: options.Actors = None,
    gpus: options.Gpus = 0.0,
    cpus: options.Cpus = 1.0,
) -> int:
    """Ask expressions about many pictures, with a model a processor or on a Ray cluster.

    The folder gets Parquet files with a row for each picture and expression. A picture that cannot be read has rows
    that say why, and makes the exit code 1.
    """
    options.check_ray(ray, actors, gpus)
    options.check_folder(output)
    from refseg.apps.batch.execute import Cluster
    from refseg.apps.batch.job import Settings, run_batch
    from refseg.inference.checkpoint import check_model
    from refseg.inference.locate import full_name
    from refseg.inference.predictor import choose_device, clean_text
    from refseg.progress import progress

    expressions = list(dict.fromkeys(clean_text(line) for line in [*_lines(texts), *(text or [])]))
    if not expressions:
        raise RefsegError("no expression is given; --texts FILE has one a line, -t gives a single one")
    pictures = _pictures(paths, output)
    if not pictures:
        raise RefsegError(f"no picture is given; {', '.join(paths)} lists none")
    check_model(model)
    if ray is None:  # elsewhere it is the workers' affair
        choose_device(device)
    settings = Settings(
        tuple(expressions),
        full_name(model),
        threshold,
        no_target_threshold,
        precision,
    )
    cluster = None if ray is None else Cluster(ray, actors, cpus, gpus)
    with progress("pictures", lines=True) as update:
        try:
            totals = run_batch(
                pictures,
                settings,
                output,
                workers=workers,
                cluster=cluster,
                device=device,
                batch_size=batch_size,
                part_size=part_size,
                progress=update,
            )
        except KeyboardInterrupt:
            print("refseg batch: what is done is kept; the same command goes on", file=sys.stderr)
            raise
    print(f"{totals.rows:,} rows in {output}, {totals.new:,} of them new, {totals.errors:,} without an answer")
    return 1 if totals.errors else 0


def _lines(path: Path | None) -> list[str]:
    """The lines of a text file that are not blank. Raises `RefsegError` where it cannot be read."""
    if path is None:
        return []
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise RefsegError(f"{path}: cannot be read ({reason}); a file with a line each is wanted") from error
    return [line.strip() for line in lines if line.strip()]


def _pictures(words: Sequence[str], output: Path) -> list[Path]:
    """The pictures that the words name; those of a list are not looked for before it is their turn."""
    from refseg.data.images import find_pictures

    found: list[Path] = []
    for word in words:
        listed = Path(word).suffix.lower() == ".txt" and Path(word).is_file()
        found += map(Path, _lines(Path(word))) if listed else find_pictures([word], leave_out=output)
    return found
