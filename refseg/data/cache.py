"""A data set's index on disk, so that opening it again does not read its annotation files again.

The cached file is named by a hash over everything that it depends on: the annotation files' paths, sizes and times, the
picture folders' times, the options and this package's version. Changed files give another name; a damaged cache is
built anew. `REFSEG_CACHE` moves the folder (default: `~/.cache/refseg`), `REFSEG_CACHE=off` turns it off.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from refseg import __version__
from refseg.data.sample import Problem, Sample
from refseg.data.table import FORMAT, TableBuilder, load_table, save_table
from refseg.errors import DataError, RefsegError
from refseg.files import DAY, cache_folder, remove_leftovers

_LOG = logging.getLogger(__name__)

# Smaller annotation files are read again as quickly as a cache would be.
MIN_BYTES = 4_000_000


def cached(
    dataset: str,
    sources: Iterable[Path],
    folders: Iterable[Path],
    options: dict[str, Any],
    build: Callable[[list[Problem]], Iterable[Sample]],
) -> tuple[Sequence[Any], list[Problem]]:
    """The samples that `build` gives, from the cache when the same were built before.

    Args:
        dataset: the data set's name, for the samples and the file.
        sources: the annotation files; their paths, sizes and times are part of the key.
        folders: folders whose contents matter by name (pictures); their times are part of the key.
        options: whatever else the samples depend on.
        build: gives the samples and adds to the list of problems.

    Returns: a list of samples where the files are small; otherwise a `SampleTable`, cached unless that is turned off.
    """
    sources = list(sources)
    problems: list[Problem] = []
    if sum(path.stat().st_size for path in sources if path.is_file()) < MIN_BYTES:
        return list(build(problems)), problems
    path = _file(dataset, sources, folders, options)
    if path is not None and path.exists():
        try:
            return load_table(path)
        except DataError as error:
            _LOG.warning("the cached index is built anew: %s", error)
    builder = TableBuilder(dataset)
    for sample in build(problems):
        builder.add(sample)
    table = builder.finish()
    if path is not None and len(table):
        try:
            save_table(table, problems, path)
            remove_leftovers(path.parent, older_than=DAY)
        except (OSError, RefsegError) as error:
            _LOG.info("the index is not cached: %s", error)
    return table, problems


def _file(dataset: str, sources: Iterable[Path], folders: Iterable[Path], options: dict[str, Any]) -> Path | None:
    home = cache_folder()
    if home is None:
        return None
    key: list[Any] = [__version__, FORMAT, dataset, sorted(options.items())]
    for path in [*sources, *folders]:
        try:
            facts = path.stat()
        except OSError:
            continue
        # Pictures are remembered by the path as given, which may be relative. A folder's size says nothing; its time
        # changes with every name that comes or goes.
        key.append([str(path), str(path.resolve()), facts.st_size if path.is_file() else 0, facts.st_mtime_ns])
    digest = hashlib.sha256(json.dumps(key, default=str).encode()).hexdigest()[:24]
    name = "".join(letter if letter.isalnum() or letter in "+-" else "_" for letter in dataset)
    return home / "data" / f"{name}-{digest}.safetensors"
