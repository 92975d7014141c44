"""Small copies of the video data sets with clips of a few frames, and a VLT with a Video Swin of a few channels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from refseg.data import rle
from tests.support.format_files import block, palette_png, picture, table, text

FRAMES = ("00000", "00005", "00010", "00015")

TINY = (
    "model.input.size=64", "model.vision.embed_dim=8", "model.vision.depths=[1,1,1,1]", "model.vision.heads=[1,1,2,2]",
    "model.vision.frames=2", "model.vision.window=3", "model.text.width=16", "model.text.layers=1",
    "model.text.heads=2", "model.text.feedforward=16", "model.width=16", "model.transformer.heads=2",
    "model.transformer.head_width=8", "model.transformer.feedforward=16", "model.queries.number=4",
    "model.queries.channels=[8,6]", "model.mask_decoder.channels=8", "pretrained.vision=none", "pretrained.text=none",
)  # fmt: skip
"""KEY=VALUE that shrink the preset vlt-paper-video."""


def write_pieces(folder: Path) -> Path:
    """A WordPiece tokenizer that spells."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    text(folder / "vocab.txt", "\n".join(pieces) + "\n")
    return folder


def write_youtube(root: Path) -> Path:
    """Ref-YouTube-VOS: two videos with masks, and a hidden split that also lists a test video."""
    home = root / "ref-youtube-vos"
    said = {
        "abc": {"0": ("a dog runs", "1"), "1": ("the cat", "2"), "2": ("brown dog", "1")},
        "def": {"0": ("a bird", "1"), "1": ("the other bird", "2")},
    }
    videos = {
        name: {"expressions": {k: {"exp": exp, "obj_id": o} for k, (exp, o) in each.items()}, "frames": list(FRAMES)}
        for name, each in said.items()
    }
    table(home / "meta_expressions" / "train" / "meta_expressions.json", {"videos": videos})
    objects = {"objects": {"1": {"category": "animal"}, "2": {"category": "animal"}}}
    table(home / "train" / "meta.json", {"videos": dict.fromkeys(said, objects)})
    for start, name in enumerate(said):
        for number, frame in enumerate(FRAMES):
            picture(home / "train" / "JPEGImages" / name / f"{frame}.jpg", 10 * start + number)
            labels = block(4, 4 + 10 * number) * 1 + (block(25, 30) * 2 if number else 0)
            palette_png(home / "train" / "Annotations" / name / f"{frame}.png", labels)
    hidden = {"xyz": {"expressions": {"0": {"exp": "a fox"}, "1": {"exp": "the hen"}}, "frames": list(FRAMES[:2])}}
    tested = {"uvw": {"expressions": {"0": {"exp": "a fish"}}, "frames": list(FRAMES[:2])}}
    table(home / "meta_expressions" / "valid" / "meta_expressions.json", {"videos": hidden | tested})
    table(home / "meta_expressions" / "test" / "meta_expressions.json", {"videos": tested})
    for number, frame in enumerate(FRAMES[:2]):
        picture(home / "valid" / "JPEGImages" / "xyz" / f"{frame}.jpg", 90 + number)
    return home


def write_mevis(root: Path) -> Path:
    """MeViS: an expression about two objects, and one without target."""
    home = root / "mevis"
    frames = ["00000", "00001", "00002"]
    expressions = {
        "0": {"exp": "the birds flying away", "obj_id": [0, 1], "anno_id": [10, 11]},
        "1": {"exp": "the bird that sleeps", "obj_id": [], "anno_id": []},
    }
    masks = {
        "10": [rle.encode(block(4, 4)), None, rle.encode(block(9, 4))],
        "11": [rle.encode(block(20, 30)), rle.encode(block(20, 40)), None],
    }
    for split in ("train", "valid_u", "valid"):
        content = {"videos": {"v1": {"expressions": expressions, "vid_id": 0, "frames": frames}}}
        if split == "valid":
            content["videos"]["v1"]["expressions"] = {"0": {"exp": "the birds"}}
        table(home / split / "meta_expressions.json", content)
        if split != "valid":
            table(home / split / "mask_dict.json", masks)
        for number, frame in enumerate(frames):
            picture(home / split / "JPEGImages" / "v1" / f"{frame}.jpg", number)
    return home


def write_davis(root: Path, objects: int = 2) -> Path:
    """Ref-DAVIS17: two videos of four frames, with two objects, each with a sentence of all four annotators."""
    home = root / "ref-davis17"
    davis = home / "DAVIS"
    text(davis / "ImageSets" / "2017" / "train.txt", "bear\n")
    text(davis / "ImageSets" / "2017" / "val.txt", "car\n")
    for name in ("1", "1_full_video", "2", "2_full_video"):
        lines = "".join(
            f'{video} {number + 1} "{video} {"ab"[number]} {name[0]}"\n'
            for video in ("bear", "car")
            for number in range(objects)
        )
        text(home / "davis_text_annotations" / f"Davis17_annot{name}.txt", lines)
    for video in ("bear", "car"):
        for number in range(4):
            picture(davis / "JPEGImages" / "480p" / video / f"{number:05d}.jpg", number)
            palette_png(davis / "Annotations_unsupervised" / "480p" / video / f"{number:05d}.png", davis_labels(number))
    return home


def davis_labels(frame: int) -> np.ndarray:
    """The objects' numbers in a frame of `write_davis`."""
    return block(4, 4 + 10 * frame) * 1 + block(25, 30) * 2
