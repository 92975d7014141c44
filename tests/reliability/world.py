"""The files of the campaign: one good one of each kind, and many bad ones."""

from __future__ import annotations

import json
import pickle
import shutil
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors.numpy import load_file, save_file

from refseg.config import to_toml
from refseg.data import open_dataset, rle
from refseg.data.convert import WRITERS
from tests.support.published_files import annotation, referent, sentence, square, write_dataset, write_pictures
from tests.support.tiny_model import write_model_folder

DEEP = 100_000
"""Brackets in one another: more than any reader's stack."""


def make_world(root: Path) -> Path:
    """All files; returns `root`."""
    write_data(root / "data")
    WRITERS["jsonl"](open_dataset(root / "data"), root / "jsonl")
    write_model_folder(root / "model")
    _pictures(root)
    _models(root)
    _data(root)
    _tables(root)
    _recipes(root)
    return root


def write_data(root: Path) -> Path:
    """A small gRefCOCO: one, several and no target."""
    write_pictures(root, [1, 2])
    said = [
        referent(0, 1, [100], "train", [sentence(0, "left ball")]),
        referent(1, 1, [100, 101], "train", [sentence(1, "two balls")]),
        referent(2, 1, [-1], "val", [sentence(2, "the blue cat")]),
        referent(3, 2, [103], "val", [sentence(3, "the ball")]),
    ]
    objects = [annotation(100, 1), annotation(101, 1, left=30), annotation(103, 2, segmentation=[square(2, 2, 8)])]
    write_dataset(root, "grefcoco", "grefs(unc).json", said, objects)
    return root


def png(width: int, height: int, data: bytes = b"") -> bytes:
    """A PNG whose header promises that many pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def _pictures(root: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(root / "good.png")
    Image.fromarray(pixels).save(root / "whole.jpg")
    whole = (root / "good.png").read_bytes()
    bad = {
        "empty.png": b"",
        "text.jpg": b"this is no picture",
        "cut.png": whole[: len(whole) // 2],
        "head.png": whole[:30],
        "jpeg.jpg": (root / "whole.jpg").read_bytes()[:100],
        "bomb.png": png(60_000, 60_000),
        "zero.png": png(0, 5),
        "void.gif": b"GIF89a\x00\x00\x00\x00\x00\x00\x00;",
        "page.svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "tiff.tif": b"II*\x00\xff\xff\xff\xff",
        "noise.webp": bytes(np.random.default_rng(1).integers(0, 256, 500, dtype=np.uint8)),
    }
    for name, content in bad.items():
        (root / name).write_bytes(content)
        (root / "alone" / name).mkdir(parents=True)
        (root / "alone" / name / name).write_bytes(content)
    (root / "folder.png").mkdir()
    (root / "nothing").mkdir()


def _models(root: Path) -> None:
    whole = root / "model"
    config: dict[str, Any] = json.loads((whole / "config.json").read_text())

    def changed(name: str, content: Any = None, file: str = "config.json") -> Path:
        folder = root / "models" / name
        shutil.copytree(whole, folder)
        if content is not None:
            (folder / file).write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return folder

    changed("no-json", b"{")
    changed("binary", bytes(range(256)))
    changed("deep", b"[" * DEEP)
    changed("deep-table", b'{"model":' * DEEP)
    changed("list", [])
    changed("null", b"null")
    changed("empty-table", {})
    changed("nan", b'{"format": NaN}')
    changed("future", {**config, "format": 10**9})
    changed("other-system", {**config, "system": "nobody"})
    changed("system-number", {**config, "system": 5})
    (changed("no-config") / "config.json").unlink()
    (changed("config-folder") / "config.json").unlink()
    (root / "models" / "config-folder" / "config.json").mkdir()
    weights = (whole / "model.safetensors").read_bytes()
    changed("cut-weights", weights[: len(weights) // 2], "model.safetensors")
    changed("empty-weights", b"", "model.safetensors")
    changed("long-head", struct.pack("<Q", 2**60) + b"{}", "model.safetensors")
    changed("head-no-json", struct.pack("<Q", 8) + b"notjson!", "model.safetensors")
    flipped = bytearray(weights)
    flipped[-50] ^= 0x10
    changed("flipped", bytes(flipped), "model.safetensors")
    (changed("no-weights") / "model.safetensors").unlink()
    (changed("no-words") / "vocabulary.txt").unlink()
    changed("few-words", b"a\n", "vocabulary.txt")
    arrays = load_file(whole / "model.safetensors")
    strange = {
        name: value * np.float32("nan") if value.dtype == np.float32 else value for name, value in arrays.items()
    }
    plain = {key: value for key, value in config.items() if key != "sha256"}
    save_file(strange, changed("not-finite", plain) / "model.safetensors")
    save_file({"other": np.zeros(3, np.float32)}, changed("other-names", plain) / "model.safetensors")
    (root / "models" / "nothing").mkdir()
    (root / "models" / "file").write_text("x")


def _data(root: Path) -> None:
    record = json.loads((root / "jsonl" / "data.jsonl").read_text().splitlines()[0])
    bad = {
        "empty": b"",
        "no-json": b"{\n",
        "binary": bytes(range(256)),
        "deep": b"[" * DEEP,
        "list": b"[1, 2]\n",
        "number": b"5\n",
        "no-fields": b"{}\n",
        "surrogate": json.dumps({**record, "expression": "\ud800"}).encode(),
        "escaping": json.dumps({**record, "image": "../../../etc/passwd"}).encode(),
        "absolute": json.dumps({**record, "image": "/etc/passwd"}).encode(),
        "numbers": json.dumps(dict.fromkeys(record, 5)).encode(),
    }
    for name, content in bad.items():
        (root / "bad-jsonl" / name).mkdir(parents=True)
        (root / "bad-jsonl" / name / "data.jsonl").write_bytes(content)
    for name, content in {
        "no-json": b"{",
        "deep": b"[" * DEEP,
        "list": b"[]",
        "null": b"null",
        "no-pictures": b'{"images": [], "annotations": [], "categories": []}',
        "strings": b'{"images": "a", "annotations": "b", "categories": "c"}',
        "binary": bytes(range(256)),
    }.items():
        for file in ("instances.json", "grefs(unc).json"):
            folder = root / "bad-refs" / f"{name}-{file[0]}"
            shutil.copytree(root / "data", folder)
            (folder / "grefcoco" / file).write_bytes(content)
        (root / "bad-coco").mkdir(exist_ok=True)
        (root / "bad-coco" / f"{name}.json").write_bytes(content)
    shutil.copytree(root / "data", root / "no-pictures")
    shutil.rmtree(root / "no-pictures" / "images")


def _tables(root: Path) -> None:
    """Predictions, targets, lists, checkpoints of others."""
    mask = np.zeros((40, 60), dtype=bool)
    mask[4:14, 4:14] = True
    good = [{"id": str(number), "mask": rle.encode(mask), "no_target": False, "boxes": []} for number in range(3)]
    lines = {"targets": good, "predictions": good, "other-ids": [{**row, "id": row["id"] + "x"} for row in good]}
    lines["twice"] = good + good
    lines["no-mask"] = [{"id": "0"}]
    lines["other-size"] = [{**row, "mask": rle.encode(np.ones((3, 3), dtype=bool))} for row in good]
    lines["huge"] = [{**row, "mask": {"size": [10**6, 10**6], "counts": [10**12]}} for row in good]
    lines["text-mask"] = [{**row, "mask": "x"} for row in good]
    for name, rows in lines.items():
        (root / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, content in {"void": b"", "broken": b"{\n", "binary": bytes(range(256)), "deep": b"[" * DEEP}.items():
        (root / f"{name}.jsonl").write_bytes(content)
        (root / f"{name}.json").write_bytes(content)
        (root / f"{name}.txt").write_bytes(content)
        (root / f"{name}.pth").write_bytes(content)
        (root / f"{name}.zip").write_bytes(content)
    (root / "phrases.txt").write_text("ball\n")
    (root / "evil.pth").write_bytes(pickle.dumps(_Evil()))
    (root / "plain.pkl").write_bytes(pickle.dumps({"model": {}}))
    (root / "listed.pth").write_bytes(pickle.dumps([1, 2, 3]))
    (root / "bad.safetensors").write_bytes(struct.pack("<Q", 2**60))
    (root / "bad.npz").write_bytes(b"PK\x03\x04 no archive")
    (root / "bad.h5").write_bytes(b"\x89HDF\r\n\x1a\n no file")
    for name, content in {
        "void": "", "list": "[]", "broken": "{", "other": '{"format": 7}', "deep": "[" * DEEP, "words": '{"format": 1}',
    }.items():  # fmt: skip
        (root / "indexes" / name).mkdir(parents=True)
        (root / "indexes" / name / "index.json").write_text(content)


class _Evil:
    def __reduce__(self) -> Any:
        return exec, ("raise SystemExit(99)",)


RECIPE: dict[str, Any] = {
    "model": {"preset": "rela-mini"},
    "data": {"size": 64, "sentences": 2, "pictures_per_batch": 2, "sentences_per_picture": 1, "vocabulary_pictures": 2},
    "training": {"steps": 1},
    "output": {"tensorboard": False},
}


def _recipes(root: Path) -> None:
    (root / "recipe.toml").write_text(to_toml(RECIPE))
    folder = root / "recipes"
    folder.mkdir()
    for name, content in {
        "empty": b"",
        "no-toml": b"[model\n",
        "binary": bytes(range(256)),
        "deep": b"a = " + b"[" * DEEP,
        "tables": b"[" + b".".join([b"a"] * 5000) + b"]",
        "list": b"model = [1, 2]\n",
        "text": b"model = 'rela'\n",
        "unknown-table": b"[nothing]\na = 1\n",
        "unknown-field": b"[training]\nstepz = 1\n",
        "twice": b"[training]\nsteps = 1\nsteps = 2\n",
    }.items():
        (folder / f"{name}.toml").write_bytes(content)
    (folder / "folder.toml").mkdir()
