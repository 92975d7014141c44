"""How fast a data set opens, first and again, in what memory, and how many samples a second one worker delivers.

Opening is measured in a process of its own with a cache folder of its own, by processor time and by the clock; peak
memory is the whole process's. `write_refcoco` makes up a data set of RefCOCO's size where the real one is not at hand.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from refseg.data.sample import Instance, Sample
from refseg.errors import DataError
from refseg.files import replacing

__all__ = ["FULL", "MadeUp", "Opening", "Rate", "measure_opening", "measure_rate", "noise_samples", "write_refcoco"]

BATCH = 32  # samples of one picture in one batch share its decoding, as in training
WORDS = "the red ball on the left"

_OPENING = """
import json, sys, time
began, worked = time.perf_counter(), time.process_time()
from refseg.data import open_dataset
names = json.loads(sys.argv[2])
dataset = open_dataset(sys.argv[1], **names)
clock, processor = time.perf_counter() - began, time.process_time() - worked
dataset.by_picture(), dataset.texts(), dataset[len(dataset) - 1]
try:  # getrusage would count the parent's memory before exec as well
    with open("/proc/self/status") as status:
        peak = next(1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM"))
except OSError:
    peak = 0
print(json.dumps([len(dataset), processor, clock, peak, "torch" in sys.modules]))
"""


@dataclass(frozen=True)
class MadeUp:
    """How many of what a made-up data set has; two or three expressions a referent."""

    pictures: int
    objects: int
    referents: int
    sentences: int

    def __post_init__(self) -> None:
        if not (self.pictures <= self.objects and self.referents <= self.objects):
            raise DataError("a made-up data set has at least one object a picture and a referent")
        if not 2 * self.referents <= self.sentences <= 3 * self.referents:
            raise DataError("a made-up data set has two or three expressions a referent")


FULL = MadeUp(pictures=19_994, objects=196_771, referents=50_000, sentences=142_209)
"""RefCOCO's numbers."""


@dataclass(frozen=True)
class Opening:
    """One opening: expressions, seconds of processor and clock, peak memory in bytes, and whether torch was loaded."""

    sentences: int
    processor: float
    clock: float
    peak: int
    torch: bool


@dataclass(frozen=True)
class Rate:
    """Samples loaded, and the seconds of processor and clock that it took on one thread."""

    samples: int
    processor: float
    clock: float
    size: int
    kilobytes: float = 0.0

    @property
    def a_second(self) -> float:
        """Samples a processor second: what one core delivers that does nothing else."""
        return self.samples / max(self.processor, 1e-9)


def measure_opening(root: Path, **names: str | None) -> tuple[Opening, Opening]:
    """The first opening of a data set and the second, from the index that the first one left.

    names: `dataset`, `split`, `split_by` of `refseg.data.open_dataset`. Raises `DataError` when it cannot be opened.
    """
    with tempfile.TemporaryDirectory(prefix="refseg-speed-") as cache:
        openings = []
        for _ in range(2):
            command = [sys.executable, "-c", _OPENING, str(root), json.dumps(names)]
            result = subprocess.run(
                command, env={**os.environ, "REFSEG_CACHE": cache}, capture_output=True, text=True, check=False
            )
            if result.returncode:
                last = result.stderr.strip().splitlines()[-1:] or ["no reason given"]
                raise DataError(f"{root}: cannot be opened ({last[0].removeprefix('refseg.errors.DataError: ')})")
            openings.append(Opening(*json.loads(result.stdout)))
    return openings[0], openings[1]


def measure_rate(samples: Sequence[Sample], size: int = 480) -> Rate:
    """Load samples as a training worker does, on one thread: picture, mask, words, at network input `size`."""
    import torch

    from refseg.data.batches import load_batch
    from refseg.geometry import InputConfig
    from refseg.types import Tokens

    def tokens(texts: list[str]) -> Tokens:
        ids = torch.tensor(
            [[len(word) for word in text.split()[:20]] + [0] * (20 - len(text.split())) for text in texts]
        )
        return Tokens(ids, ids > 0)

    if not samples:
        raise DataError("there is no sample to load")
    config = InputConfig(size=size)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        load_batch(samples[:4], tokens, config)  # the first call loads modules
        clock, processor = time.perf_counter(), time.process_time()
        for start in range(0, len(samples), BATCH):
            load_batch(samples[start : start + BATCH], tokens, config)
        processor, clock = time.process_time() - processor, time.perf_counter() - clock
    finally:
        torch.set_num_threads(threads)
    files = {sample.image_path for sample in samples if sample.image_path is not None}
    weight = sum(path.stat().st_size for path in files) / max(len(files), 1) / 1024
    return Rate(len(samples), processor, clock, size, weight)


def noise_samples(folder: Path, count: int = 64) -> list[Sample]:
    """Samples with pictures as large as COCO's and as hard to decode, 640 x 480 and about 160 kB, one object each."""
    random = np.random.default_rng(0)
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    outline = [(np.array([300.0, 240.0]) + 90 * np.stack([np.cos(angles), np.sin(angles)], 1)).reshape(-1)]
    folder.mkdir(parents=True, exist_ok=True)
    samples = []
    for number in range(count):
        noise = Image.fromarray(random.integers(0, 256, (480, 640, 3), dtype=np.uint8))
        path = folder / f"{number}.jpg"
        with replacing(path) as temporary:
            noise.filter(ImageFilter.GaussianBlur(0.9)).save(temporary, "JPEG", quality=92)
        item = Instance(number, "ball", (210.0, 150.0, 390.0, 330.0), outline)
        samples.append(Sample(f"{number}_0", WORDS, number, (480, 640), (item,), image_path=path))
    return samples


def write_refcoco(root: Path, numbers: MadeUp = FULL) -> None:
    """A data set in RefCOCO's format with as many records, outlines as long as COCO's; its pictures are empty files."""
    random = np.random.default_rng(0)
    home, folder = root / "refcoco", root / "images" / "train2014"
    home.mkdir(parents=True)
    folder.mkdir(parents=True)
    ids = np.sort(random.choice(581_929, numbers.pictures, replace=False)) + 1
    more = random.integers(0, numbers.pictures, numbers.objects - numbers.pictures)
    owner = ids[np.concatenate([np.arange(numbers.pictures), more])].tolist()
    images = []
    for key in ids.tolist():
        (folder / f"COCO_train2014_{key:012d}.jpg").touch()
        images.append({"id": key, "file_name": f"COCO_train2014_{key:012d}.jpg", "height": 480, "width": 640})
    annotations = [_annotation(number + 1, owner[number], random) for number in range(numbers.objects)]
    table = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "thing"}]}
    (home / "instances.json").write_text(json.dumps(table))
    refs: list[dict[str, object]] = []
    sent_id = 0
    for number, target in enumerate(random.permutation(numbers.objects)[: numbers.referents].tolist()):
        expressions = []
        for _ in range(3 if number < numbers.sentences - 2 * numbers.referents else 2):
            words = [f"word{word}" for word in random.integers(0, 9000, random.integers(1, 8))]
            expressions.append({"sent_id": sent_id, "raw": " ".join(words), "sent": " ".join(words), "tokens": words})
            sent_id += 1
        record = {"ref_id": number, "image_id": owner[target], "ann_id": target + 1, "split": "train"}
        refs.append({**record, "sentences": expressions})
    (home / "refs(unc).p").write_bytes(pickle.dumps(refs, protocol=0))


def _annotation(key: int, picture: int, random: np.random.Generator) -> dict[str, object]:
    points = int(random.integers(12, 70))
    angles, radius = np.sort(random.random(points)) * 2 * np.pi, random.uniform(20, 90)
    centre = random.uniform([100, 100], [540, 380])
    outline = (centre + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)).round(2).reshape(-1)
    left, top = (centre - radius).round(2).tolist()
    box = [left, top, round(2 * radius, 2), round(2 * radius, 2)]
    about = {"id": key, "image_id": picture, "category_id": 1, "iscrowd": 0, "bbox": box, "area": radius * radius}
    return {**about, "segmentation": [outline.tolist()]}
