"""`refseg index` and `refseg search`: collections of pictures, encoded once and asked as often as one likes."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from refseg.cli import options
from refseg.cli.app import App
from refseg.cli.options import BadValue, arg, flag, opt
from refseg.cli.tables import print_table, write_json
from refseg.errors import RefsegError

if TYPE_CHECKING:
    from PIL import Image

    from refseg.apps.search import Index, SearchResult

app = App()

SHOWN_BAD = 5
"""Bad pictures that are listed after indexing; all of them stand in the index."""


def _views(value: int) -> None:
    if not 1 <= value <= 4:
        raise BadValue(f"is from 1 to 4, not {value}")


@app.command("index")
def index(
    places: Annotated[
        list[str] | None,
        arg("DIR|LIST|BUCKET", "folders, pictures, patterns, .txt lists of paths, buckets (s3://...)"),
    ] = None,
    output: Annotated[Path, options.output("the index")] = Path("refseg.index"),
    prune: Annotated[bool, flag("--prune", "drop pictures below DIR that are gone")] = False,
    remove: Annotated[list[str] | None, opt("PATH...", "drop these pictures or folders from the index")] = None,
    check: Annotated[bool, flag("--check", "read the whole index, and compare it with its checksums")] = False,
    rebuild: Annotated[bool, flag("--rebuild", "throw the index away and begin anew")] = False,
    views: Annotated[int, opt("N", "looks at a picture for ranking, 1 to 4", check=_views)] = 4,
    model: Annotated[
        str | None,
        opt(
            "NAME",
            "packaged weights, model folder or hub id (default: instances, or the index's)",
            "--model",
            group=options.MODEL,
            names=options.model_names,
        ),
    ] = None,
    device: options.Device = "auto",
    workers: Annotated[int, opt("N", "processes that encode new pictures", check=options.at_least(1))] = 1,
    ray: options.Ray = None,
    actors: options.Actors = None,
    gpus: options.Gpus = 0.0,
    cpus: options.Cpus = 1.0,
    json: options.JsonOut = None,
) -> None:
    """Encode pictures into an index that `refseg search` answers from; again, to bring it up to date."""
    _need_lancedb()
    from refseg.apps.batch.execute import Cluster
    from refseg.apps.search import INDEX_MODEL, Elsewhere, Index
    from refseg.progress import progress

    options.check_ray(ray, actors, gpus)
    if check and (places or remove or rebuild):
        raise RefsegError("--check looks at an index as it is; write: refseg index -o photos.index --check")
    if not places and not remove:
        if rebuild or not (output / "index.json").is_file():
            raise RefsegError("no picture is given; write: refseg index photos/ -o photos.index")
        opened = Index.open(output, model=model, device=device)
        if check:
            print(f"{output}: {opened.check():,} rows are as they were written", file=sys.stderr)
        _describe(opened, json)
        return
    if rebuild:
        _throw_away(output)
    if (output / "index.json").is_file():
        made = Index.open(output, model=model, device=device)
    elif remove:
        raise RefsegError(f"{output} is no index; there is nothing to remove")
    else:
        made = Index.create(output, model or INDEX_MODEL, device=device, views=views)
    removed = made.remove(remove) if remove else 0
    elsewhere = None
    if ray is not None or workers > 1:
        elsewhere = Elsewhere(workers, None if ray is None else Cluster(ray, actors, cpus, gpus), device)
    with progress("indexing") as update:
        report = made.add(places or [], prune=prune, elsewhere=elsewhere, advance=lambda done, path: update(done, None))
    document = {
        "index": str(output),
        "pictures": len(made),
        "added": report.added,
        "updated": report.updated,
        "unchanged": report.unchanged,
        "copied": report.copied,
        "removed": report.removed + removed,
        "bad": [{"path": path, "error": error} for path, error in report.bad],
    }
    if not write_json(json, document):
        print(
            f"{output}: {len(made):,} pictures; {report.added:,} added, {report.updated:,} updated, "
            f"{report.unchanged:,} unchanged, {report.removed + removed:,} removed"
        )
    _list_bad(report.bad)


@app.command("search")
def search(
    index: Annotated[Path, arg("INDEX", "what `refseg index` made")],
    expression: Annotated[str, arg("EXPRESSION", "what to look for")],
    top: Annotated[int, opt("N", "pictures at most", check=options.at_least(1))] = 20,
    reject: Annotated[
        float | None,
        opt("P", "leave out pictures that show it with a lower probability", check=options.probability),
    ] = None,
    exhaustive: Annotated[bool, flag("--exhaustive", "answer for every picture, however unlikely")] = False,
    sheet: Annotated[
        Path | None, opt("FILE", "draw the pictures with masks (.png, .jpg)", group=options.WRITING)
    ] = None,
    json: options.JsonOut = None,
    model: Annotated[
        str | None,
        opt("NAME", "the index's model, where it is somewhere else by now", "--model", group=options.MODEL),
    ] = None,
    device: options.Device = "auto",
) -> None:
    """Find the pictures of an index in which an expression means something, most probable first."""
    _need_lancedb()
    from refseg.apps.search import Index
    from refseg.inference.predictor import clean_text
    from refseg.progress import progress

    for stream in (sys.stdout, sys.stderr):  # a terminal that lacks a letter shows a question mark instead
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    expression = clean_text(expression)
    options.check_file(sheet, "--sheet")
    if sheet is not None and sheet.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise RefsegError(f"--sheet: {sheet} ends with neither .png nor .jpg")
    if json not in (None, "-"):
        options.check_file(Path(str(json)), "--json")
    opened = Index.open(index, model=model, device=device)
    with progress("looking") as update:
        found = opened.search(expression, top, reject=reject, exhaustive=exhaustive, advance=update)
    if sheet is not None and found.hits:
        _write_sheet(sheet, opened, found)
    if not write_json(json, found.to_dict()):
        _print(found)
    if sheet is not None and not found.hits:
        print(f"note: nothing to draw, {sheet} is not written", file=sys.stderr)


def _need_lancedb() -> None:
    if find_spec("lancedb") is None or find_spec("pyarrow") is None:
        raise RefsegError("searching needs lancedb: pip install 'refseg[search]'")


def _throw_away(folder: Path) -> None:
    """Remove an index, and nothing else."""
    from refseg.apps.search.table import DESCRIPTION, LOCK, TABLE, locked

    if not folder.exists():
        return
    names = {each.name for each in folder.iterdir()} if folder.is_dir() else {""}
    if not names <= {DESCRIPTION, LOCK, f"{TABLE}.lance"}:
        raise RefsegError(f"{folder} holds more than an index; --rebuild throws away nothing of it")
    with locked(folder):
        (folder / DESCRIPTION).unlink(missing_ok=True)
        shutil.rmtree(folder / f"{TABLE}.lance", ignore_errors=True)


def _describe(index: Index, json: str | None) -> None:
    bad = index.bad()
    document = {
        "pictures": len(index),
        "keeps": index.keeps,
        "bad": [{"path": path, "error": error} for path, error in bad],
    }
    if not write_json(json, document):
        print(f"{index!r}; rows keep {index.keeps}")
        for path, error in bad:
            print(f"bad: {_told(path, error)}")


def _list_bad(bad: Sequence[tuple[str, str]]) -> None:
    for path, error in bad[:SHOWN_BAD]:
        print(f"note: not indexed: {_told(path, error)}", file=sys.stderr)
    if len(bad) > SHOWN_BAD:
        print(f"note: and {len(bad) - SHOWN_BAD} more; `refseg index -o INDEX` lists them", file=sys.stderr)


def _told(path: str, error: str) -> str:
    """A reason with its path, which most have already."""
    return error if path in error else f"{path}: {error}"


def _print(found: SearchResult) -> None:
    if found.nothing:
        print(f"nothing found: “{found.text}” means nothing in {found.looked_at:,} pictures")
        return
    # Paths stand last and whole: they are what one copies.
    print_table(
        ("", "probability", "p(none)", "boxes", "picture"),
        [
            (str(place), f"{hit.score:.2f}", f"{hit.no_target_score:.2f}", str(len(hit.boxes)), hit.path)
            for place, hit in enumerate(found.hits, 1)
        ],
        left=5,
        lines=False,
    )
    print(f"{len(found.hits)} of {found.looked_at:,} pictures")
    if not found.complete:
        print(
            f"note: {found.answered:,} pictures were answered, and others may fit as well; --exhaustive answers all",
            file=sys.stderr,
        )


def _write_sheet(path: Path, index: Index, found: SearchResult) -> None:
    from io import BytesIO

    from refseg.files import write_bytes
    from refseg.inference.visualize import contact_sheet

    tiles = [_tile(index, hit.path, found.text) for hit in found.hits]
    buffer = BytesIO()
    drawn = contact_sheet(tiles, columns=min(len(tiles), 5))
    drawn.save(buffer, format="PNG" if path.suffix.lower() == ".png" else "JPEG")
    write_bytes(path, buffer.getvalue())


def _tile(index: Index, path: str, text: str) -> Image.Image:
    from PIL import Image

    from refseg.inference.visualize import overlay

    picture, answer = index.answer(path, text)
    if picture is None:
        # The file is gone, or another one by now: the row's own masks on gray.
        picture = Image.new("RGB", (answer.mask.shape[1], answer.mask.shape[0]), (128, 128, 128))
    return overlay(picture, answer)
