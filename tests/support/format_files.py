"""Writes small data sets in every published format other than RefCOCO's, laid out as their authors do."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from refseg.data import rle
from tests.support.published_files import SIZE, square


def picture(path: Path, seed: int, size: tuple[int, int] = SIZE) -> None:
    """A noise picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, quality=95)


def picture_bytes(seed: int) -> bytes:
    """A noise picture as PNG."""
    stream = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def block(top: int, left: int, height: int = 10, width: int = 10) -> np.ndarray:
    """A (40, 60) mask with one rectangle."""
    mask = np.zeros(SIZE, dtype=bool)
    mask[top : top + height, left : left + width] = True
    return mask


def text(path: Path, content: str) -> None:
    """A text file, its folder made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


def table(path: Path, content: Any) -> None:
    """A JSON file, its folder made."""
    text(path, json.dumps(content))


def write_flickr30k(root: Path) -> Path:
    home = root / "flickr30k"
    text(
        home / "Sentences" / "36979.txt",
        "[/EN#1/people A group of friends] playing [/EN#2/other cards] and trying to bluff "
        "[/EN#0/notvisual each other] .\n"
        "[/EN#1/people/clothing Several men in hats] play outside [/EN#3/scene a bar] .\n",
    )
    text(home / "Sentences" / "65567.txt", "[/EN#7/people A bearded man] waits .\n")
    box = "<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>"
    size = "<size><width>60</width><height>40</height><depth>3</depth></size>"
    objects = (
        f"<object><name>1</name>{box.format(1, 1, 11, 21)}</object>"
        f"<object><name>1</name><name>2</name>{box.format(21, 6, 31, 16)}</object>"
        "<object><name>3</name><scene>1</scene><nobndbox>0</nobndbox></object>"
    )
    text(home / "Annotations" / "36979.xml", f"<annotation><filename>36979.jpg</filename>{size}{objects}</annotation>")
    hidden = "<object><name>7</name><scene>0</scene><nobndbox>1</nobndbox></object>"
    text(home / "Annotations" / "65567.xml", f"<annotation>{size}{hidden}</annotation>")
    text(home / "train.txt", "36979\n")
    text(home / "val.txt", "65567\n")
    text(home / "UNRELATED_CAPTIONS", "# format: <imageID> <sentence number>\n36979 2\n")
    picture(home / "flickr30k-images" / "36979.jpg", 1)
    picture(home / "flickr30k-images" / "65567.jpg", 2)
    return home


def write_visual_genome(root: Path) -> Path:
    home = root / "visual-genome"
    region = {"image_id": 5, "synsets": []}
    regions = [
        {**region, "region_id": 100, "x": 4, "y": 4, "width": 10, "height": 10, "phrase": "a red ball"},
        {**region, "region_id": 101, "x": 55, "y": 35, "width": 20, "height": 20, "phrase": "the corner "},
    ]
    table(home / "region_descriptions.json", [{"id": 5, "regions": regions}, {"id": 6, "regions": []}])
    about = {"width": 60, "height": 40, "url": "http://x/5.jpg"}
    table(
        home / "image_data.json",
        [
            {**about, "image_id": 5, "coco_id": 1, "flickr_id": 36979},
            {**about, "image_id": 6, "coco_id": None, "flickr_id": None},
        ],
    )
    picture(home / "VG_100K" / "5.jpg", 1)
    return home


def write_phrasecut(root: Path) -> Path:
    home = root / "phrasecut"
    polygon = [[4, 4], [14, 4], [14, 14], [4, 14]]
    structure = {"name": "ball", "attributes": ["red"], "relation_ids": [], "relation_descriptions": []}
    task = {
        "task_id": "5__7", "image_id": 5, "ann_ids": [7, 8], "phrase": "red balls",
        "instance_boxes": [[4, 4, 10, 10], [30, 20, 10, 10]],
        "Polygons": [[polygon], [[[30, 20], [40, 20], [40, 30]], [[36, 22], [40, 30], [30, 30]]]],
        "phrase_structure": {**structure, "type": "attribute"},
    }  # fmt: skip
    table(home / "refer_val.json", [task])
    table(home / "refer_miniv.json", [{**task, "task_id": "5__9", "phrase": "ball"}])
    about = {"image_id": 5, "coco_id": 1, "flickr_id": 36979, "width": 60, "height": 40, "url": "", "split": "val"}
    table(home / "image_data_split3000.json", [about])
    picture(home / "images" / "5.jpg", 1)
    return home


def write_referit(root: Path) -> Path:
    from scipy.io import savemat

    home = root / "referit"
    table(home / "referit_query_train.json", {"25_1": ["the tree", "big tree left"]})
    table(home / "referit_query_trainval.json", {"25_1": ["the tree", "big tree left"], "26_2": ["sky"]})
    table(home / "referit_query_test.json", {"26_2": ["sky"]})
    table(home / "referit_bbox.json", {"25_1": [4, 4, 13, 13], "26_2": [30, 20, 39, 29]})
    table(home / "referit_imsize.json", {"25.jpg": [60, 40], "26.jpg": [60, 40]})
    (home / "mask").mkdir()
    savemat(
        home / "mask" / "25_1.mat", {"segimg_t": np.where(block(4, 4), 0, -1).astype(np.int16)}, do_compression=True
    )
    savemat(home / "mask" / "26_2.mat", {"segimg_t": np.where(block(20, 30), 0, 255).astype(np.uint8)})
    picture(home / "images" / "25.jpg", 1)
    picture(home / "images" / "26.jpg", 2)
    return home


def write_mdetr(root: Path) -> Path:
    home = root / "mdetr"
    image = {"file_name": "COCO_train2014_000000000001.jpg", "height": 40, "width": 60, "original_id": 1}
    image |= {"dataset_name": "refcoco", "tokens_negative": [[0, 3]]}
    box = {"area": 100.0, "iscrowd": 0, "category_id": 3, "bbox": [4, 4, 10, 10], "tokens_positive": [[4, 8]]}
    tables = {"info": {}, "licenses": [], "categories": [{"id": 3, "name": "ball", "supercategory": "toy"}]}
    val = {
        **tables,
        "images": [{**image, "id": 10, "caption": "the ball"}, {**image, "id": 11, "caption": "red one"}],
        "annotations": [
            {**box, "image_id": 10, "id": 50, "original_id": 700},
            {**box, "image_id": 11, "id": 51, "original_id": 700, "segmentation": [square(4, 4, 10)]},
        ],
    }
    table(home / "finetune_refcoco_val.json", val)
    table(home / "finetune_grefcoco_val.json", {**val, "annotations": val["annotations"][:1]})
    phrase = {**image, "file_name": "36979.jpg", "original_id": 36979, "dataset_name": "flickr", "sentence_id": 0}
    flickr = {
        **tables,
        "images": [{**phrase, "id": 0, "caption": "A man and a dog ."}],
        "annotations": [
            {**box, "image_id": 0, "id": 0, "tokens_positive": [[0, 5]]},
            {**box, "image_id": 0, "id": 1, "bbox": [20, 4, 5, 5], "tokens_positive": [[10, 15]]},
            {**box, "image_id": 0, "id": 2, "bbox": [30, 4, 5, 5], "tokens_positive": [[10, 15]]},
        ],
    }
    table(home / "final_flickr_separateGT_train.json", flickr)
    picture(home / "train2014" / "COCO_train2014_000000000001.jpg", 1)
    picture(home / "images" / "36979.jpg", 2)
    return home


def write_seqtr(root: Path) -> Path:
    home = root / "annotations" / "refcocoplus-unc"
    record = {"image_id": 1, "bbox": [4.0, 4.0, 10.0, 10.0], "height": 40, "width": 60, "category_id": 3, "ann_id": 9}
    table(
        home / "instances.json",
        {
            "train": [{**record, "expressions": ["the ball", "red one"], "mask": [square(4, 4, 10)]}],
            "val": [{**record, "expressions": ["round"], "mask": rle.encode(block(4, 4))}],
        },
    )
    picture(root / "images" / "mscoco" / "train2014" / "COCO_train2014_000000000001.jpg", 1)
    return root / "annotations"


def write_simrec(root: Path) -> Path:
    record = {"iid": 1, "bbox": [4.0, 4.0, 10.0, 10.0], "cat_id": 32, "mask_id": 77}
    content = {"train": [{**record, "refs": ["the ball", "red one"]}], "testA": [{**record, "refs": ["round"]}]}
    table(root / "anns" / "refcoco.json", content)
    (root / "masks" / "refcoco").mkdir(parents=True)
    np.save(root / "masks" / "refcoco" / "77.npy", block(4, 4).astype(np.uint8))
    picture(root / "images" / "train2014" / "COCO_train2014_000000000001.jpg", 1)
    return root


def parquet(path: Path, rows: list[dict[str, Any]], row_group: int = 100) -> None:
    """Rows as Hugging Face writes them."""
    import pyarrow
    from pyarrow import parquet as files

    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=row_group)


def write_parquet(root: Path) -> Path:
    home = root / "refcoco"
    rows = [
        {
            "question_id": str(number), "image": {"bytes": picture_bytes(number), "path": "x.png"},
            "question": "describe", "answer": ["the ball", "red one"], "segmentation": square(4, 4, 10),
            "bbox": [4.0, 4.0, 10.0, 10.0], "iscrowd": 0, "file_name": f"COCO_train2014_{number:012d}_0.jpg",
        }
        for number in (1, 2, 3)
    ]  # fmt: skip
    parquet(home / "data" / "val-00000-of-00001.parquet", rows, row_group=2)
    return home


def palette_png(path: Path, labels: np.ndarray) -> None:
    """Object numbers as a palette PNG, as DAVIS and YouTube-VOS keep them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.frombytes("P", (labels.shape[1], labels.shape[0]), labels.astype(np.uint8).tobytes())
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0] + [7] * (256 * 3 - 9))
    image.save(path)


def write_youtube(root: Path) -> Path:
    home = root / "ref-youtube-vos"
    expressions = {"0": {"exp": "a dog runs", "obj_id": "1"}, "1": {"exp": "the cat", "obj_id": "2"}}
    frames = ["00000", "00005", "00010"]
    content = {"videos": {"abc": {"expressions": expressions, "frames": frames}}}
    table(home / "meta_expressions" / "train" / "meta_expressions.json", content)
    table(home / "meta_expressions" / "valid" / "meta_expressions.json", {"videos": {"xyz": {
        "expressions": {"0": {"exp": "a bird"}}, "frames": ["00000"]}}})  # fmt: skip
    objects = {"1": {"category": "dog", "frames": frames}, "2": {"category": "cat", "frames": frames}}
    table(home / "train" / "meta.json", {"videos": {"abc": {"objects": objects}}})
    for number, frame in enumerate(frames):
        picture(home / "train" / "JPEGImages" / "abc" / f"{frame}.jpg", number)
        labels = block(4, 4 + 10 * number) * 1 + (block(25, 30) * 2 if number else 0)
        palette_png(home / "train" / "Annotations" / "abc" / f"{frame}.png", labels)
    picture(home / "valid" / "JPEGImages" / "xyz" / "00000.jpg", 9)
    return home


def write_mevis(root: Path) -> Path:
    home = root / "mevis"
    expressions = {
        "0": {"exp": "The birds flying away", "obj_id": [0, 1], "anno_id": [10, 11]},
        "1": {"exp": "the parrot that sleeps", "obj_id": [], "anno_id": []},
    }
    content = {"videos": {"v1": {"expressions": expressions, "vid_id": 0, "frames": ["00000", "00001"]}}}
    table(home / "valid_u" / "meta_expressions.json", content)
    masks = {"10": [rle.encode(block(4, 4)), None], "11": [rle.encode(block(20, 30)), rle.encode(block(20, 40))]}
    table(home / "valid_u" / "mask_dict.json", masks)
    for number in range(2):
        picture(home / "valid_u" / "JPEGImages" / "v1" / f"{number:05d}.jpg", number)
    return home


def write_davis(root: Path) -> Path:
    home = root / "ref-davis17"
    davis = home / "DAVIS"
    text(davis / "ImageSets" / "2017" / "train.txt", "bear\n")
    text(davis / "ImageSets" / "2017" / "val.txt", "classic-car\n")
    table(davis / "davis_semantics.json", {"bear": {"1": "bear"}, "classic-car": {"1": "car", "2": "person"}})
    for name, coding in (("1", "utf-8"), ("1_full_video", "utf-8"), ("2", "latin-1"), ("2_full_video", "latin-1")):
        path = home / "davis_text_annotations" / f"Davis17_annot{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = f'bear 1 "a bear walks {name}"\nclasic-car 1 "a car, café {name}"\nclassic-car 2 "the driver {name}"\n'
        path.write_bytes(lines.encode(coding))
    for video in ("bear", "classic-car"):
        for number in range(2):
            picture(davis / "JPEGImages" / "480p" / video / f"{number:05d}.jpg", number)
            labels = block(4, 4 + 10 * number) * 1 + block(25, 30) * 2
            palette_png(davis / "Annotations_unsupervised" / "480p" / video / f"{number:05d}.png", labels)
    return home


# format -> (writer, keyword arguments that open it, its annotation files by pattern)
FORMATS: dict[str, tuple[Callable[[Path], Path], dict[str, str], tuple[str, ...]]] = {
    "flickr30k": (write_flickr30k, {"dataset": "flickr30k"}, ("*.txt", "*.xml")),
    "visual-genome": (write_visual_genome, {}, ("*.json",)),
    "phrasecut": (write_phrasecut, {}, ("*.json",)),
    "referit": (write_referit, {}, ("*.json", "*.mat")),
    "mdetr": (write_mdetr, {"dataset": "refcoco"}, ("finetune_refcoco*.json",)),
    "seqtr": (write_seqtr, {}, ("*.json",)),
    "simrec": (write_simrec, {}, ("*.json", "*.npy")),
    "parquet": (write_parquet, {}, ("*.parquet",)),
    "youtube": (write_youtube, {}, ("*.json", "*.png")),
    "mevis": (write_mevis, {}, ("*.json",)),
    "davis": (write_davis, {}, ("*.txt", "*.json", "*.png")),
}
