"""Rows of new pictures that other processes make: on this machine, or on a Ray cluster.

What a worker makes travels back as an Arrow stream, and only the process that holds the index's lock writes. So the
workers need to see the pictures, but not the index.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import pyarrow as pa

from refseg.apps.batch.execute import Cluster, Shard, Work, map_shards
from refseg.apps.search.answers import fingerprint
from refseg.apps.search.build import read_row
from refseg.apps.search.sources import Found, read_file
from refseg.apps.search.table import Description, Row
from refseg.errors import RefsegError
from refseg.inference.predictor import Segmenter, load

__all__ = ["Elsewhere"]

PART = 32
"""Pictures of a shard: what is encoded again when a worker dies."""


@dataclass(frozen=True)
class Elsewhere:
    """Workers that make rows: `workers` processes of this machine, or actors of a Ray `cluster`.

    `device` is a worker's; each loads the index's model from where its description says.
    """

    workers: int = 1
    cluster: Cluster | None = None
    device: str = "auto"

    def rows(self, description: Description, pictures: Sequence[Found]) -> Iterator[Row]:
        """A row for each picture, in any order. Raises `RefsegError` as `map_shards` does, and where a worker has other
        weights of the index's model."""
        shards = [
            {"pictures": [[each.path, each.size, each.changed] for each in pictures[start : start + PART]]}
            for start in range(0, len(pictures), PART)
        ]
        make = partial(_worker, asdict(description), self.device)
        for result in map_shards(make, shards, workers=self.workers, cluster=self.cluster):
            with pa.ipc.open_stream(base64.b64decode(result["rows"])) as stream:
                yield from stream.read_all().to_pylist()


def _worker(description: dict[str, Any], device: str) -> Work:
    known = Description(**description)
    segmenter = load(known.model, device)
    if fingerprint(segmenter) != known.fingerprint:
        raise RefsegError(f"a worker has other weights of {known.model} than the index was made with")
    return partial(_encode, segmenter, known)


def _encode(segmenter: Segmenter, description: Description, shard: Shard) -> Shard:
    rows = [
        read_row(Found(path, size, changed, _reader(path)), segmenter, description)
        for path, size, changed in shard["pictures"]
    ]
    sink = pa.BufferOutputStream()
    table = pa.Table.from_pylist(rows, schema=description.schema)
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return {"rows": base64.b64encode(sink.getvalue()).decode()}


def _reader(path: str) -> Callable[[], bytes]:
    return partial(read_file, path)
