"""Small copies of the data sets that recipes name, and what makes a recipe's run a matter of a second.

`write_data` lays out every data set of `leaderboard.experiments.DATA` in one folder; `small(recipe)` gives the words
KEY=VALUE that shrink a recipe's model and its run, for `refseg train` and for `refseg tables --run`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.format_files import write_flickr30k, write_visual_genome
from tests.support.published_files import annotation, referent, sentence, write_dataset, write_pictures
from tests.support.small_video import write_davis, write_mevis, write_youtube

WORDS = ("ball", "red", "left", "right", "the", "small", "big", "round", "blue", "all", "a", "men", "bar", "in")
CHANNELS = 12
"""Of the word vectors."""
_SPLITS = {
    "refcoco": ("train", "val", "testA", "testB"),
    "refcoco+": ("train", "val", "testA", "testB"),
    "refcocog": ("train", "val", "test"),
    "grefcoco": ("train", "val", "testA", "testB"),
    "refclef": ("train", "val", "test"),
}
_MAKERS = {
    "refcoco": ("refs(unc).p",),
    "refcoco+": ("refs(unc).p",),
    "refcocog": ("refs(umd).p", "refs(google).p"),
    "grefcoco": ("grefs(unc).json",),
    "refclef": ("refs(berkeley).p",),
}

_DARKNET = [
    "pretrained.vision=none", "model.vision.widths=[4,8,8,8,16,16]", "model.vision.depths=[0,0,0,0,1]",
    'model.vision.freeze="none"', "pretrained.glove=vectors.txt", "model.text.embedding=12", "model.text.hidden=8",
]  # fmt: skip
_SWIN = [
    "pretrained.vision=none", "model.vision.embed_dim=8", "model.vision.depths=[1,1,1,1]",
    "model.vision.heads=[1,1,2,2]", "model.vision.window=3",
]  # fmt: skip
_BERT = [
    "data.tokenizer=pieces", "pretrained.text=none", "model.text.width=16", "model.text.layers=1", "model.text.heads=2",
    "model.text.feedforward=16", "optimizer.groups=[]",
]  # fmt: skip
_CLIP = [
    "pretrained.vision=none", "model.vision.width=4", "model.vision.depths=[1,1,1,1]", "model.vision.heads=2",
    "model.vision.output_width=12", "model.vision.grid=2",
]  # fmt: skip
_RESNET = [
    "pretrained.vision=none", 'model.vision.block="basic"', "model.vision.widths=[8,8,16,16]",
    "model.vision.depths=[1,1,1,1]", 'model.vision.norm="group"', "model.vision.norm_groups=2",
    "model.vision.stem_width=8",
]  # fmt: skip
_MODELS: dict[str, list[str]] = {
    "vlt": [
        "model.width=16", "model.transformer.heads=2", "model.transformer.head_width=8",
        "model.transformer.feedforward=16", "model.queries.channels=[8,6]", "model.mask_decoder.channels=8",
        "data.pictures_per_batch=6",
    ],
    "lts": ["model.width=16", "model.segmentation.width=8", "model.segmentation.rates=[1,2]"],
    "m3att": [
        "model.width=16", "model.heads=2", "model.feedforward=16", "model.decoder.attention.heads=1",
        "model.mask_decoder.width=8",
    ],
    "isfp": [
        "model.width=16", "model.grid=3", "model.branches.instance_width=12", "model.branches.segmentation_width=8",
        "model.branches.layers=2", "model.branches.rates=[1,2]", "model.refinement.width=4",
    ],
    "restr": [
        "pretrained.vision=none", "model.vision.width=16", "model.vision.layers=2", "model.vision.heads=2",
        "model.vision.feedforward=16", "model.text.width=12", "model.text.layers=1", "model.text.heads=2",
        "model.text.feedforward=16", "model.fusion.width=16", "model.fusion.heads=2", "model.fusion.feedforward=16",
        "model.vision.grid=4", "pretrained.glove=vectors.txt",
    ],
    "rela": [
        "model.width=16", "model.regions=3", "model.pixel_decoder.layers=1", "model.pixel_decoder.heads=2",
        "model.pixel_decoder.points=2", "model.pixel_decoder.feedforward=16", "model.pixel_decoder.groups=4",
    ],
    "lavt": ["model.width=8", "model.groups=2"],
    "reftr": [
        "model.width=32", "model.heads=2", "model.encoder_layers=1", "model.decoder_layers=1", "model.feedforward=16",
        "model.groups=4", "model.mask_groups=2",
    ],
    "cris": [
        "model.width=16", "model.neck=[8,16]", "model.decoder.heads=2", "model.decoder.feedforward=16",
        "model.decoder.layers=1",
    ],
    "mattnet": ["pretrained.detector=instances", "model.embed_dim=8"],
}  # fmt: skip
_RUN = [
    "model.input.size=64", "training.steps=2", "training.precision=float32", "data.workers=0",
    "data.pictures_per_batch=4", "evaluation.every=0", "evaluation.pictures=1", "evaluation.samples=0",
    "output.log_every=1", "output.tensorboard=false",
]  # fmt: skip


def small(recipe: str) -> list[str]:
    """KEY=VALUE that make a recipe of `recipes/` (its name) a run of two steps of a tiny model."""
    system = recipe.partition("-")[0]
    words = [*_RUN, *_MODELS[system]]
    if recipe.startswith("vlt-paper-video"):
        words += [*_SWIN, "model.vision.frames=2", "data.frames=3", *_BERT, "data.pictures_per_batch=8"]
        if recipe.endswith("davis17"):  # goes on from the other's weights
            return [word for word in words if not word.startswith(("data.tokenizer", "pretrained."))]
        return [*words, "evaluation.every=2"]
    if system in ("vlt", "lts", "m3att") and "swin" in recipe:
        words += [*_SWIN, *_BERT]
    elif system in ("vlt", "lts", "m3att", "isfp"):
        words += _DARKNET
    elif recipe == "cris-official-refcoco":
        words += [*_CLIP, *_BERT, "model.text.joint_width=12"]
    elif system in ("rela", "lavt", "cris"):
        words += [*_SWIN, *_BERT]
    elif system == "reftr":
        words += [*_RESNET, *_BERT]
        if recipe.endswith("-masks") or "genome" in recipe.split("-")[1]:
            # These go on from another run, with its weights and its word pieces.
            words = [word for word in words if not word.startswith(("data.tokenizer", "pretrained."))]
    if recipe.endswith("genome"):
        return [*words, "data.exclude=['genome.txt']"]
    if system == "reftr" and recipe.endswith("-refcoco"):
        words.append("evaluation.every=2")  # the second stage goes on from the best of the first
    return words


def write_data(root: Path) -> Path:
    """All data sets below `root`, and beside them word vectors, word pieces and a list of pictures to leave out."""
    pictures = list(range(1, 9))
    write_pictures(root, pictures)
    for name, splits in _SPLITS.items():
        for maker in _MAKERS[name]:
            write_dataset(root, name, maker, *_records(name, splits, pictures))
    _write_clef_pictures(root)
    write_flickr30k(root)
    write_visual_genome(root)
    write_youtube(root)
    write_mevis(root)
    write_davis(root)
    vectors = ((word, [f"{(3 * n + m) % 7 / 7:.2f}" for m in range(CHANNELS)]) for n, word in enumerate(WORDS))
    (root / "vectors.txt").write_text("".join(f"{word} {' '.join(values)}\n" for word, values in vectors))
    (root / "pieces").mkdir()
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *letters, *(f"##{letter}" for letter in letters)]
    (root / "pieces" / "vocab.txt").write_text("\n".join(pieces) + "\n")
    (root / "genome.txt").write_text("6\n")
    return root


def _records(name: str, splits: tuple[str, ...], pictures: list[int]) -> tuple[list[Any], list[dict[str, Any]]]:
    """Two things on every picture, each with two expressions; half of the pictures are learnt from."""
    refs, annotations = [], []
    for place, picture in enumerate(pictures):
        split = "train" if place < len(pictures) // 2 else splits[1:][place % (len(splits) - 1)]
        for thing in range(2):
            key = 10 * picture + thing
            annotations.append(annotation(key, picture, left=4 + 25 * thing, top=4 + 12 * thing, side=14))
            texts = (f"the {WORDS[1 + thing]} ball", f"{WORDS[2 + thing]} ball")
            said = [sentence(2 * key + number, text) for number, text in enumerate(texts)]
            refs.append(referent(key, picture, [key] if name == "grefcoco" else key, split, said))
        if name == "grefcoco":
            refs.append(referent(1000 + picture, picture, [-1], split, [sentence(9000 + picture, "the blue men")]))
    return refs, annotations


def _write_clef_pictures(root: Path) -> None:
    folder = root / "images" / "saiapr_tc-12"
    if not folder.exists():
        folder.symlink_to(root / "images" / "train2014", target_is_directory=True)
