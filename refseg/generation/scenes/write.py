"""Drawn scenes as files in gRefCOCO's own format, so that every loader of that data set reads them.

    OUT/scenes/grefs(scenes).json   refs: {ref_id, image_id, ann_id, category_id, no_target, split, sentences, ...}
    OUT/scenes/instances.json       images, objects with run-length encoded masks, categories (COCO)
    OUT/scenes/settings.json        what they were drawn from
    OUT/images/train2014/COCO_train2014_000900000000.jpg ...

Each expression carries its kind. Numbers of images start beyond COCO's, so that both can lie in one folder. Work is
done in chunks of scenes by several processes; a chunk's records are kept until all are there, so that a run that was
stopped goes on where it was. What is written depends on the settings alone, not on how many processes wrote it.
"""

from __future__ import annotations

import io
import json
import multiprocessing
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from refseg.data import rle
from refseg.errors import DataError
from refseg.files import locked, write_bytes, write_text
from refseg.generation.grefcoco import add_ref, by_targets, count_kinds
from refseg.generation.scenes.scene import SPLITS, Scene, generate
from refseg.generation.scenes.world import CATEGORIES

FIRST_IMAGE_ID = 900_000_000
_SPLIT_ROOM = 10_000_000  # image numbers a split may use
_CHUNK = 20
_CATEGORY_IDS = {name: number for number, name in enumerate(CATEGORIES, 1)}


@dataclass(frozen=True)
class SceneSettings:
    """What a folder of drawn scenes is made from. `counts` is scenes by split; `picture` "jpg" or "png" (lossless)."""

    seed: int
    counts: dict[str, int]
    size: int = 320
    sentences: int = 16
    plus: bool = False
    picture: str = "jpg"
    close_up: bool = False

    def __post_init__(self) -> None:
        if set(self.counts) - set(SPLITS) or any(not 0 <= count <= _SPLIT_ROOM for count in self.counts.values()):
            raise DataError(f"counts of scenes are 0 to {_SPLIT_ROOM} for {', '.join(SPLITS)}, not {self.counts}")
        if not any(self.counts.values()):
            raise DataError("no scenes are asked for; say how many with --train, --val or --test")
        if not 64 <= self.size <= 2048:
            raise DataError(f"--size is 64 to 2048 pixels, not {self.size}")
        if not 1 <= self.sentences <= 64:
            raise DataError(f"--sentences is 1 to 64, not {self.sentences}")
        if self.picture not in ("jpg", "png"):
            raise DataError(f"pictures are jpg or png, not {self.picture!r}")


@dataclass(frozen=True)
class _Chunk:
    """Some scenes of a split, a piece of work for one process."""

    split: str
    start: int
    stop: int

    @property
    def name(self) -> str:
        return f"{self.split}-{self.start:07d}-{self.stop:07d}.json"


def write_scenes(
    folder: Path, settings: SceneSettings, workers: int = 1, progress: Callable[[int], None] | None = None
) -> dict[str, dict[str, int]]:
    """Draw the scenes and write them under `folder`; returns the number of expressions by split and kind.

    `progress` is called with the number of scenes just finished. A folder that already holds these scenes is left as it
    is. Raises `DataError` when the folder holds scenes of other settings, `RefsegError` while another process draws
    into it.
    """
    report = progress or (lambda count: None)
    found = _written(folder, settings)  # before the lock: such a folder may be one that nobody can write to
    if found is None:
        busy = f"{folder}: process {{}} is drawing scenes there; wait for it, or choose another folder"
        with locked(folder / "scenes" / ".lock", busy):
            found = _written(folder, settings)  # by another process, between the two lines above
            if found is None:
                return _write_scenes(folder, settings, workers, report)
    report(sum(settings.counts.values()))
    return found


def _written(folder: Path, settings: SceneSettings) -> dict[str, dict[str, int]] | None:
    """The expressions by split and kind where all scenes are there. Raises `DataError` for other settings' scenes."""
    home, meta = folder / "scenes", asdict(settings)
    if (home / "settings.json").exists():
        found = {"close_up": False, **_read(home / "settings.json")}  # older folders do not say so
        if found != meta:
            other = sorted(name for name in meta.keys() | found.keys() if found.get(name) != meta.get(name))
            raise DataError(
                f"{home}: holds scenes of other settings ({', '.join(other)}); choose another folder or delete it"
            )
        if (home / "grefs(scenes).json").exists() and (home / "instances.json").exists():
            return count_kinds(_read(home / "grefs(scenes).json"))
    return None


def _write_scenes(
    folder: Path, settings: SceneSettings, workers: int, report: Callable[[int], None]
) -> dict[str, dict[str, int]]:
    home = folder / "scenes"
    parts = home / ".parts"
    meta = asdict(settings)
    if not (home / "settings.json").exists():
        write_text(home / "settings.json", json.dumps(meta, indent=1) + "\n")
    refs_file, instances_file = home / "grefs(scenes).json", home / "instances.json"
    chunks = [
        _Chunk(split, start, min(start + _CHUNK, settings.counts.get(split, 0)))
        for split in SPLITS
        for start in range(0, settings.counts.get(split, 0), _CHUNK)
    ]
    todo = []
    for chunk in chunks:
        if (parts / chunk.name).exists():
            report(chunk.stop - chunk.start)
        else:
            todo.append(chunk)
    if workers <= 1 or len(todo) <= 1:
        for chunk in todo:
            _draw_chunk(folder, settings, chunk)
            report(chunk.stop - chunk.start)
    else:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(workers, len(todo)), mp_context=context) as pool:
            running = {pool.submit(_draw_chunk, folder, settings, chunk): chunk for chunk in todo}
            try:
                for future in as_completed(running):
                    future.result()
                    report(running[future].stop - running[future].start)
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
    refs = _assemble((parts / chunk.name for chunk in chunks), refs_file, instances_file)
    shutil.rmtree(parts)
    return count_kinds(refs)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read ({error}); delete the folder and draw again") from error


def _draw_chunk(folder: Path, settings: SceneSettings, chunk: _Chunk) -> None:
    """Write the images of a chunk, then its records."""
    records = []
    for index in range(chunk.start, chunk.stop):
        scene = generate(
            settings.seed, index, settings.size, settings.sentences, chunk.split, settings.plus, settings.close_up
        )
        image_id = FIRST_IMAGE_ID + SPLITS.index(chunk.split) * _SPLIT_ROOM + index
        name = f"COCO_train2014_{image_id:012d}.{settings.picture}"
        content = io.BytesIO()
        picture = Image.fromarray(scene.image)
        if settings.picture == "jpg":
            picture.save(content, "JPEG", quality=93, subsampling=0)
        else:
            picture.save(content, "PNG")
        write_bytes(folder / "images" / "train2014" / name, content.getvalue())
        records.append(_record(scene, image_id, name))
    write_text(folder / "scenes" / ".parts" / chunk.name, json.dumps(records))


def _record(scene: Scene, image_id: int, name: str) -> dict[str, Any]:
    """One scene's image, objects and referents; objects are numbered within the scene for now."""
    objects = []
    for thing, mask in zip(scene.things, scene.masks, strict=True):
        left, top, right, bottom = thing.box
        objects.append(
            {
                "category_id": _CATEGORY_IDS[thing.category],
                "iscrowd": 0,
                "bbox": [left, top, right - left, bottom - top],
                "area": thing.area,
                "segmentation": rle.encode(mask),
                "colour": thing.colour,
                "pattern": thing.pattern,
                "traits": list(thing.traits or ()),
            }
        )
    return {
        "image": {"id": image_id, "file_name": name, "height": scene.image.shape[0], "width": scene.image.shape[1]},
        "split": scene.split,
        "objects": objects,
        "referents": [[list(targets), expressions] for targets, expressions in by_targets(scene.expressions)],
    }


def _assemble(parts: Iterable[Path], refs_file: Path, instances_file: Path) -> list[dict[str, Any]]:
    """Number everything in order and write the two annotation files."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    refs: list[dict[str, Any]] = []
    for part in parts:
        for record in _read(part):
            image = record["image"]
            images.append(image)
            first = len(annotations) + 1
            for item in record["objects"]:
                annotations.append({"id": len(annotations) + 1, "image_id": image["id"], **item})
            for targets, expressions in record["referents"]:
                categories = [record["objects"][target]["category_id"] for target in targets]
                ann_ids = [first + target for target in targets]
                add_ref(refs, image["id"], image["file_name"], record["split"], ann_ids, categories, expressions)
    named = [
        {"id": number, "name": name, "supercategory": CATEGORIES[name].families[0]}
        for name, number in _CATEGORY_IDS.items()
    ]
    info = {"description": "drawn scenes of refseg"}
    content = {"info": info, "images": images, "annotations": annotations, "categories": named}
    write_text(instances_file, json.dumps(content))
    write_text(refs_file, json.dumps(refs))
    return refs
