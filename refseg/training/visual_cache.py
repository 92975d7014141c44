"""Feature maps of a frozen vision encoder, computed once for every picture and read by each step of every run.

A file of fixed rows, one a picture, in 16 bits, and a byte beside each that says whether the row is there:

    pictures -> encoder, once -> rows on disk -> {stride: map} of a batch's pictures -> the rest of the model

Rows are a function of the picture, of how it is placed, and of the encoder's weights; a digest of the last two is kept,
so that nobody reads another encoder's maps. Reading is of a memory map: what several runs read stands in memory once.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor, nn

from refseg.config import to_dict
from refseg.data.batches import collate
from refseg.encoders.text.tokenizer import Tokenizer
from refseg.errors import ConfigError, RefsegError
from refseg.files import full_disk, locked, write_text
from refseg.geometry import InputConfig
from refseg.models.mattnet.config import MAttNetConfig
from refseg.training.monitor import time_text
from refseg.training.recipe import Recipe
from refseg.training.sampling import Pictures
from refseg.types import Batch, VisionEncoder, VisualFeatures

__all__ = ["PictureCache", "VisualCache", "check_cached", "digest", "lending", "pictures_of"]

ROWS, DONE, ABOUT = "maps.bin", "done.bin", "maps.json"
_AT_ONCE = 16
_BUSY = "process {} encodes pictures there"
_WAIT = 2.0
"""Seconds between looks at whether it is done."""


def check_cached(recipe: Recipe, count: int | None) -> None:
    """Raises `ConfigError`, with the remedy, for a recipe whose pictures or encoder change while it is trained."""
    data = recipe.data
    if count is None:
        raise ConfigError("data.feature_cache: endless pictures cannot be kept; give data.pool, or data.root")
    if data.augment:
        raise ConfigError("data.feature_cache: pictures that data.augment changes have no maps there; leave one out")
    if data.unit != "picture" or data.frames > 1:
        raise ConfigError('data.feature_cache: maps are of pictures; use data.unit = "picture" and data.frames = 1')
    frozen = isinstance(recipe.model_config(), MAttNetConfig)  # whatever the recipe says
    if not frozen and not any("vision.*" in rule.names and not rule.train for rule in recipe.optimizer.groups):
        raise ConfigError(
            "data.feature_cache: the encoder must stay as it is; add to the recipe [[optimizer.groups]] "
            'names = ["vision.*"], train = false'
        )


@contextmanager
def lending(vision: nn.Module, maps: VisualFeatures) -> Iterator[None]:
    """Within it `vision(images)` gives `maps` and computes nothing.

    A vision transformer is also given which patches are of the image: all of them, or the maps would be others. Raises
    `ConfigError` where they are not.
    """

    def lend(images: Tensor, mask: Tensor | None = None) -> VisualFeatures:
        if mask is not None and not mask.all():
            raise ConfigError(
                "data.feature_cache: a vision transformer's maps know of no padding; use input.resize=warp"
            )
        return maps

    # The module's own attribute stands before its class's method: names of weights stay what they are.
    vision.forward = lend
    try:
        yield
    finally:
        del vision.forward


class PictureCache:
    """A folder that keeps what is computed once for each picture, and a file that says which pictures are there.

    Filling can be stopped at any point and goes on from there; another process that fills it is waited for.
    """

    about, what = "cache.json", "entries"
    """The file that says what the cache is of, and what it holds, for messages."""
    folder: Path

    def join(self, batch: Batch, numbers: Sequence[int]) -> Batch:
        """The batch with what is kept of its pictures, which have these numbers."""
        raise NotImplementedError

    def fill(
        self, pictures: Pictures, tokenizer: Tokenizer, on_progress: Callable[[str], None] = lambda text: None
    ) -> None:
        """Compute what is not there yet, or wait until the process that is at it has done so."""
        waiting = False
        while len(self._missing()):
            try:
                with locked(self.folder / ".lock", _BUSY), full_disk(self.folder):
                    self._fill(pictures, tokenizer, on_progress)
            except RefsegError as error:
                if not str(error).startswith(_BUSY.partition("{")[0]):
                    raise
                if not waiting:
                    on_progress(f"{self.folder}: {error}; waiting for it")
                waiting = True
                time.sleep(_WAIT)

    def _fill(self, pictures: Pictures, tokenizer: Tokenizer, on_progress: Callable[[str], None]) -> None:
        missing = self._missing()
        began = said = time.monotonic()
        with ExitStack() as stack:
            rows, done = (stack.enter_context((self.folder / name).open("r+b")) for name in self._sizes())
            for start in range(0, len(missing), _AT_ONCE):
                numbers = [int(number) for number in missing[start : start + _AT_ONCE]]
                self._encode(numbers, pictures, tokenizer, rows, done)
                count, now = start + len(numbers), time.monotonic()
                if now - said > 10 or count == len(missing):
                    left = (now - began) / count * (len(missing) - count)
                    on_progress(
                        f"{self.folder}: {self.what} of {count} of {len(missing)} pictures, {time_text(left)} left"
                    )
                    said = now

    def _sizes(self) -> dict[str, tuple[int, int | None]]:
        """The two files, what is kept and which pictures are there -> bytes at least, and at most where they are
        known."""
        raise NotImplementedError

    def _missing(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Numbers of the pictures that are not there."""
        raise NotImplementedError

    def _encode(
        self, numbers: list[int], pictures: Pictures, tokenizer: Tokenizer, rows: BinaryIO, done: BinaryIO
    ) -> None:
        """Compute and write what is kept of these pictures."""
        raise NotImplementedError

    def _prepare(self, meta: dict[str, Any]) -> None:
        """Make the folder, or see that it is of `meta` and whole; raises `ConfigError` otherwise."""
        stored = self.folder / self.about
        if stored.exists():
            try:
                found = dict(json.loads(stored.read_text(encoding="utf-8")))
            except (OSError, ValueError, TypeError, RecursionError) as error:
                raise ConfigError(f"{stored}: cannot be read ({error}); delete its folder") from error
            other = sorted(name for name in meta if found.get(name) != meta[name])
            if other:
                raise ConfigError(
                    f"data.feature_cache: {self.folder} holds {self.what} made otherwise ({', '.join(other)}); delete "
                    "it or choose another folder"
                )
            for name, (least, most) in self._sizes().items():
                path = self.folder / name
                size = path.stat().st_size if path.exists() else -1
                if size < least or (most is not None and size > most):
                    raise ConfigError(f"data.feature_cache: {path} is not whole; delete its folder")
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for name, (size, _) in self._sizes().items():
                with (self.folder / name).open("ab") as handle:
                    handle.truncate(size)
        except OSError as error:
            raise ConfigError(f"data.feature_cache: {self.folder} cannot be made ({error.strerror})") from error
        write_text(stored, json.dumps(meta, indent=1) + "\n")


class VisualCache(PictureCache):
    """The maps of pictures 0 to `count` by one encoder, in `folder`.

    Raises `ConfigError` where the folder holds maps of another encoder, other pictures or another size.
    """

    about, what = ABOUT, "maps"

    def __init__(
        self, folder: Path, vision: VisionEncoder, input_config: InputConfig, count: int, of: dict[str, Any]
    ) -> None:
        self.folder, self.vision, self.input_config, self.count = folder, vision, input_config, count
        module: Any = vision
        self.shapes = self._measure()
        self.length = sum(math.prod(shape) for shape in self.shapes.values())
        self._rows: np.ndarray[Any, np.dtype[np.float16]] | None = None
        self._prepare(
            {
                "count": count,
                "pictures": of,
                "input": to_dict(input_config),
                "shapes": {str(stride): list(shape) for stride, shape in self.shapes.items()},
                "encoder": digest(module),
            }
        )

    @classmethod
    def of(cls, recipe: Recipe, vision: VisionEncoder, input_config: InputConfig, count: int | None) -> VisualCache:
        """The cache that `data.feature_cache` names, for the pictures of `[data]`."""
        check_cached(recipe, count)
        assert recipe.data.feature_cache is not None
        assert count is not None
        return cls(Path(recipe.data.feature_cache), vision, input_config, count, pictures_of(recipe))

    def join(self, batch: Batch, numbers: Sequence[int]) -> Batch:
        """The batch with the maps of its pictures in `features`."""
        return replace(batch, features=self.read(numbers))

    def read(self, numbers: Sequence[int]) -> VisualFeatures:
        """{stride: "N C h w"} of pictures with these numbers, float32, in the memory order that convolutions like."""
        if self._rows is None:
            shape = (self.count, self.length)
            self._rows = np.memmap(self.folder / ROWS, np.float16, "r", shape=shape)
        block = torch.from_numpy(self._rows[list(numbers)]).float()
        maps, start = {}, 0
        for stride, (channels, height, width) in self.shapes.items():
            stop = start + channels * height * width
            # A row has a place's channels together.
            part = block[:, start:stop].unflatten(1, (height, width, channels))
            maps[stride], start = part.permute(0, 3, 1, 2), stop
        return maps

    def __getstate__(self) -> dict[str, Any]:
        # Workers map the file again, and encode nothing.
        return {**self.__dict__, "_rows": None, "vision": None}

    @torch.inference_mode()
    def _measure(self) -> dict[int, tuple[int, int, int]]:
        module: Any = self.vision
        height, width = self.input_config.size, self.input_config.size
        was = module.training
        module.eval()
        maps = self.vision(torch.zeros(1, 3, height, width))
        module.train(was)
        return {stride: (each.shape[1], each.shape[2], each.shape[3]) for stride, each in maps.items()}

    @torch.inference_mode()
    def _encode(
        self, numbers: list[int], pictures: Pictures, tokenizer: Tokenizer, rows: BinaryIO, done: BinaryIO
    ) -> None:
        samples = [pictures.samples(number)[0] for number in numbers]
        batch, _ = collate(samples, tokenizer=tokenizer, input_config=self.input_config)
        module: Any = self.vision
        was = module.training
        module.eval()
        maps = self.vision(batch.images)
        module.train(was)
        if any(tuple(each.shape[1:]) != self.shapes[stride] for stride, each in maps.items()):
            raise ConfigError(
                "data.feature_cache: pictures of differing sizes have maps of differing sizes; use input.resize=warp "
                "or letterbox"
            )
        block = torch.cat([each.permute(0, 2, 3, 1).flatten(1) for each in maps.values()], dim=1)
        if not bool((block.abs() < 60_000).all()):
            raise ConfigError("data.feature_cache: the encoder's maps do not fit 16 bits")
        for number, row in zip(numbers, block.half().numpy(), strict=True):
            rows.seek(number * self.length * 2)
            rows.write(row.tobytes())
        # A row counts once it is written.
        rows.flush()
        for number in numbers:
            done.seek(number)
            done.write(b"\x01")
        done.flush()

    def _missing(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        return np.flatnonzero(np.frombuffer((self.folder / DONE).read_bytes(), np.uint8) == 0)

    def _sizes(self) -> dict[str, tuple[int, int | None]]:
        return {name: (size, size) for name, size in ((ROWS, self.count * self.length * 2), (DONE, self.count))}


def pictures_of(recipe: Recipe) -> dict[str, Any]:
    """What decides the pictures of `[data]`, as JSON gives it back."""
    names = ["root", "dataset", "split_by", "split", "seed", "size", "sentences", "plus", "pool", "exclude"]
    if recipe.data.close_up:  # left out otherwise, so that maps of before are still good
        names.append("close_up")
    return dict(json.loads(json.dumps({name: getattr(recipe.data, name) for name in names})))


def digest(*modules: nn.Module) -> str:
    """Of the modules' weights."""
    found = hashlib.sha256()
    for module in modules:
        for name, value in sorted(module.state_dict().items()):
            found.update(name.encode())
            found.update(np.ascontiguousarray(value.detach().cpu().numpy()).tobytes())
    return found.hexdigest()[:32]
