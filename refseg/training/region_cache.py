"""What a frozen detector says in the cells of a picture's regions, computed once for every picture (MAttNet).

    pictures -> annotated regions, or the detector's proposals -> boxes and cells in 16 bits, one row a region
    a batch's regions -> the rows of the same boxes -> the rest of the model

Cells are a function of picture, boxes and frozen weights. Regions vary in number from picture to picture: rows are
appended, and an index says where a picture's rows begin and how many there are. What several runs read stands in memory
once. Maps of whole pictures (`refseg.training.visual_cache`) would take some hundred times as much room.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from refseg.config import to_dict
from refseg.data.batches import collate
from refseg.data.regions import annotated_regions
from refseg.encoders.text.tokenizer import Tokenizer
from refseg.errors import ConfigError
from refseg.geometry import InputConfig
from refseg.models.instances.classes import CLASSES
from refseg.models.mattnet.model import MAttNet
from refseg.models.mattnet.regions import grid_channels
from refseg.training.recipe import Recipe
from refseg.training.sampling import Pictures
from refseg.training.visual_cache import PictureCache, VisualCache, check_cached, digest, pictures_of
from refseg.types import Batch, Regions

__all__ = ["RegionCache", "open_cache"]

ROWS, INDEX, ABOUT = "regions.bin", "index.bin", "regions.json"
_ENTRY = np.dtype([("start", "<i8"), ("stop", "<i8")])
"""Of a picture: its rows, numbers from 1 on, so that zeros stand for a picture that is not there."""


def open_cache(recipe: Recipe, network: nn.Module, input_config: InputConfig, count: int | None) -> PictureCache:
    """The cache that `data.feature_cache` names, of what the network has frozen; raises as `check_cached` does, and
    `ConfigError` where the folder holds what was made otherwise."""
    if isinstance(network, MAttNet):
        check_cached(recipe, count)
        assert recipe.data.feature_cache is not None
        assert count is not None
        return RegionCache(Path(recipe.data.feature_cache), network, input_config, count, pictures_of(recipe))
    vision: Any = network.vision
    return VisualCache.of(recipe, vision, input_config, count)


class RegionCache(PictureCache):
    """The regions of pictures 0 to `count` and their cells by the frozen parts of `network`, in `folder`.

    Raises `ConfigError` where the folder holds those of another network, other pictures or another size.
    """

    about, what = ABOUT, "regions"

    def __init__(
        self, folder: Path, network: MAttNet, input_config: InputConfig, count: int, of: dict[str, Any]
    ) -> None:
        self.folder, self.input_config, self.count = folder, input_config, count
        self.network: MAttNet | None = network
        config = network.config
        self.detected = config.regions == "detected"
        self.cells, self.channels = config.grid**2, sum(grid_channels(network.proposer, network.vision))
        self.row = np.dtype([("box", "<f4", 4), ("group", "<i4"), ("cells", "<f2", (self.cells, self.channels))])
        self._rows: NDArray[Any] | None = None
        self._index: NDArray[Any] | None = None
        frozen = [part for part in (network.proposer, network.vision) if part is not None]
        self._prepare(
            {
                "count": count,
                "pictures": of,
                "input": to_dict(input_config),
                "regions": config.regions,
                "grid": config.grid,
                "detector": to_dict(config.detector),
                "vision": None if config.vision is None else to_dict(config.vision),
                "encoder": digest(*frozen),
            }
        )

    def join(self, batch: Batch, numbers: Sequence[int]) -> Batch:
        """The batch with cells in its regions; where the detector proposes them, with the regions themselves.

        Raises `ConfigError` for a region whose box is not among those of its picture that are kept.
        """
        found = [self._read(number) for number in numbers]
        cells = [torch.from_numpy(own["cells"].astype(np.float32)) for own in found]
        if self.detected:
            boxes = [torch.from_numpy(own["box"].copy()) for own in found]
            return replace(
                batch,
                regions=Regions(boxes, [[CLASSES[group] for group in own["group"]] for own in found], cells=cells),
            )
        assert batch.regions is not None
        kept = []
        for number, boxes_here, own, values in zip(numbers, batch.regions.boxes, found, cells, strict=True):
            place = {box.tobytes(): row for row, box in enumerate(own["box"])}
            rows = [place.get(box.numpy().astype("<f4").tobytes()) for box in boxes_here]
            if None in rows:
                raise ConfigError(
                    f"data.feature_cache: {self.folder} lacks a region of picture {number}: the pictures have changed; "
                    "delete it"
                )
            kept.append(values[rows])
        return replace(batch, regions=replace(batch.regions, cells=kept))

    def __getstate__(self) -> dict[str, Any]:
        # Workers map the files again, and encode nothing.
        return {**self.__dict__, "_rows": None, "_index": None, "network": None}

    def _read(self, number: int) -> NDArray[Any]:
        """The rows of a picture."""
        if self._index is None or self._rows is None:
            self._index = np.fromfile(self.folder / INDEX, _ENTRY)
            length = (self.folder / ROWS).stat().st_size // self.row.itemsize
            # An empty file cannot be mapped.
            self._rows = np.memmap(self.folder / ROWS, self.row, "r", shape=length) if length else np.empty(0, self.row)
        start, stop = self._index[number].tolist()
        return self._rows[start - 1 : stop - 1]

    @torch.no_grad()
    def _encode(
        self, numbers: list[int], pictures: Pictures, tokenizer: Tokenizer, rows: BinaryIO, done: BinaryIO
    ) -> None:
        network = self.network
        assert network is not None
        entries = np.fromfile(self.folder / INDEX, _ENTRY)
        next_row = max(1, int(entries["stop"].max(initial=0)))
        # What a killed run wrote and did not count is written over.
        rows.truncate((next_row - 1) * self.row.itemsize)
        rows.seek(0, os.SEEK_END)
        was = network.training
        network.train(True)  # frozen parts answer as ever, and no masks are made
        for number in numbers:
            samples = pictures.samples(number)
            regions = None if self.detected else annotated_regions(samples, [0] * len(samples))
            # One at a time: padding is no part of a picture.
            batch, _ = collate(samples[:1], tokenizer=tokenizer, input_config=self.input_config)
            (seen,) = network.look(batch.images, batch.pixel_mask, regions)
            cells = torch.cat([seen.low, seen.high], dim=2)
            if not bool((cells.abs() < 60_000).all()):
                raise ConfigError("data.feature_cache: what the detector says of regions does not fit 16 bits")
            found = np.zeros(len(cells), self.row)
            found["box"], found["group"] = seen.things.boxes.numpy(), seen.things.groups.numpy()
            found["cells"] = cells.half().numpy()
            rows.write(found.tobytes())
            entries[number] = (next_row, next_row + len(found))
            next_row += len(found)
        network.train(was)
        # A picture counts once its rows are written.
        rows.flush()
        for number in numbers:
            done.seek(number * _ENTRY.itemsize)
            done.write(entries[number].tobytes())
        done.flush()

    def _sizes(self) -> dict[str, tuple[int, int | None]]:
        index = self.folder / INDEX
        rows = 0
        if index.exists() and index.stat().st_size == self.count * _ENTRY.itemsize:
            rows = max(1, int(np.fromfile(index, _ENTRY)["stop"].max(initial=1))) - 1
        size = self.count * _ENTRY.itemsize
        return {ROWS: (rows * self.row.itemsize, None), INDEX: (size, size)}

    def _missing(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        return np.flatnonzero(np.fromfile(self.folder / INDEX, _ENTRY)["start"] == 0)
