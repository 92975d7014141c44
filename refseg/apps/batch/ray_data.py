"""A model for `map_batches` of Ray Data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from refseg.apps.batch.rows import Row, rows_of, table_of
from refseg.errors import RefsegError, did_you_mean
from refseg.inference import DEFAULT_MODEL
from refseg.precision import Precision

if TYPE_CHECKING:
    import pyarrow

__all__ = ["Segment"]

COLUMNS = ("path", "bytes", "image")
"""Where a picture is looked for, the first that there is."""


class Segment:
    """Answers of a model, a row a picture and expression: the callable class for `ray.data.Dataset.map_batches`.

    >>> paths = ray.data.from_items([{"path": "a.jpg"}, {"path": "b.jpg"}])
    >>> answers = paths.map_batches(
    ...     refseg.ray.Segment,
    ...     fn_constructor_kwargs={"texts": ["the dog on the left"], "model": "instances"},
    ...     batch_size=16,
    ...     compute=ray.data.ActorPoolStrategy(size=4),
    ... )
    >>> answers.write_parquet("answers")

    A row's picture is its `path`, its encoded `bytes` or its `image` (an array, as `ray.data.read_images` gives it).
    Columns that come out are those of `refseg.apps.batch.rows.schema`; their `image` is the row's path. A picture that
    cannot be read gives rows with an `error`.
    """

    def __init__(
        self,
        texts: Sequence[str] | None = None,
        model: str = DEFAULT_MODEL,
        *,
        device: str = "auto",
        precision: Precision = "float32",
        threshold: float | None = None,
        no_target_threshold: float | None = None,
        batch_size: int = 16,
        threads: int | None = None,
    ) -> None:
        """`texts` are asked about every picture; without them each row has its own, in the column `expression`.

        The rest is as for `refseg.load` and `refseg.Segmenter`; `threads` are torch's on the CPU. Raises `RefsegError`
        as those do.
        """
        import torch

        from refseg.inference.predictor import clean_text, load

        if threads is not None:
            torch.set_num_threads(threads)
        self.texts = None if texts is None else [clean_text(text) for text in texts]
        self.segmenter = load(model, device, precision)
        self.threshold, self.no_target_threshold = threshold, no_target_threshold
        self.batch_size = batch_size

    def __call__(self, batch: Mapping[str, NDArray[np.generic]]) -> pyarrow.Table:
        """The rows of a batch of pictures, in their order. Raises `RefsegError` for a batch without pictures."""
        column = next((name for name in COLUMNS if name in batch), None)
        if column is None:
            raise RefsegError(f"a column {', '.join(COLUMNS)} is wanted; there are {', '.join(batch)}")
        sources = list(batch[column])
        names = [str(path) for path in batch["path"]] if "path" in batch else [None] * len(sources)
        rows: list[Row] = []
        if self.texts is not None:
            for name, found in zip(names, self._answers(sources, self.texts), strict=True):
                rows += rows_of(name, self.texts, found)
        else:
            if "expression" not in batch:
                raise RefsegError(f"no texts were given, and {did_you_mean('expression', list(batch))}")
            for name, source, text in zip(names, sources, batch["expression"], strict=True):
                try:
                    (found,) = self._answers([source], [str(text)])
                except RefsegError as error:  # of the expression
                    found = error
                rows += rows_of(name, [str(text)], found)
        return table_of(rows)

    def _answers(self, sources: list, texts: list[str]) -> list:
        return list(
            self.segmenter.stream(
                sources,
                texts,
                threshold=self.threshold,
                no_target_threshold=self.no_target_threshold,
                batch_size=self.batch_size,
            )
        )
