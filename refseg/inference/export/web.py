"""A page without a server: `instances` in the browser, as a folder of static files.

The networks are ONNX files for onnxruntime-web (WASM); parser, chooser and everything between the networks are the
JavaScript modules of the folder `web` beside this file. Word lists, weights and sizes are written from the Python ones,
so that they stand in one place. onnxruntime-web itself (14 MB, MIT licence) comes from a folder of the npm package.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from torch.nn import functional as F

from refseg.encoders.text.minilm import MiniLM
from refseg.encoders.text.tokenizer import ByteTokenizer
from refseg.encoders.vision.nanodet import MEAN, STD
from refseg.errors import RefsegError
from refseg.files import replacing_folder
from refseg.inference.export.instances import graphs_of, pack_words
from refseg.inference.export.quantize import quantize_graph
from refseg.inference.export.trace import trace
from refseg.inference.export.write import example_feeds
from refseg.inference.predictor import ImageLike, Segmenter
from refseg.models.instances import vocabulary
from refseg.models.instances.classes import CLASSES, PART_OF, PEOPLE, SECOND
from refseg.models.instances.expression import MAX_WORDS
from refseg.models.instances.model import Instances
from refseg.models.instances.nouns import table
from refseg.models.instances.proposals import (
    class_columns,
    colour_table,
)
from refseg.models.instances.types import COLOURS
from refseg.models.instances.words import Lexicon

__all__ = ["ORT_FILES", "ORT_VERSION", "export_web", "fetch_ort", "find_ort"]

ORT_VERSION = "1.30.0"
"""Version of onnxruntime-web that the page was tested with."""
ORT_FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
"""What the page needs of it; they lie in dist/ of the npm package."""
PAGE = ("index.html", "page.js", "worker.js", "style.css")
MODULES = ("model.js", "chooser.js", "parse.js", "words.js", "proposals.js", "masks.js", "resize.js")


def export_web(
    segmenter: Segmenter,
    folder: str | os.PathLike[str],
    ort: str | os.PathLike[str] | None = None,
    int8: bool = False,
    images: Sequence[ImageLike] = (),
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, int]:
    """Write the page into `folder`; the sizes of its files.

    `ort` is a folder that holds onnxruntime-web (the npm package, a node_modules, or the files themselves); None looks
    where npm puts it and else fetches the package with `npm pack`. `int8` makes the network of masks eight bits
    wide, with ranges measured on `images`. Raises `RefsegError` for another system than `instances`, and where
    onnxruntime-web cannot be had; then nothing is written.
    """
    model = segmenter.model
    if not isinstance(model, Instances):
        raise RefsegError("--to web: the page runs the system instances; export others with --to onnx")
    if segmenter.device.type != "cpu" or segmenter.precision != "float32":
        raise RefsegError("a model is exported from the CPU in float32; load it with device='cpu'")
    with TemporaryDirectory() as scratch, replacing_folder(folder) as temporary:
        source = find_ort(ort) or fetch_ort(Path(scratch), say)
        (temporary / "ort").mkdir()
        for name in ORT_FILES:
            shutil.copyfile(source / name, temporary / "ort" / name)
        (temporary / "ort" / "LICENSE.txt").write_text(_ORT_LICENCE, encoding="utf-8")
        for name in (*PAGE, *MODULES):
            (temporary / name).write_bytes(files("refseg.inference.export").joinpath("web", name).read_bytes())
        data = temporary / "model"
        data.mkdir()
        for name, graph in graphs_of(model).items():
            say(f"tracing {name}")
            trace(graph, data / f"{name}.onnx")
        if model.text is not None:
            pack_words(data / "words.onnx", model.text)
        if int8:
            for name, feeds in example_feeds(segmenter, images, ()).items():
                say(f"measuring ranges of {name}")
                quantize_graph(data / f"{name}.onnx", feeds)
        _write_data(data, segmenter, model)
        return {
            str(path.relative_to(temporary)): path.stat().st_size
            for path in sorted(temporary.rglob("*"))
            if path.is_file()
        }


def find_ort(folder: str | os.PathLike[str] | None = None) -> Path | None:
    """The folder with `ORT_FILES` in or under `folder`, or where npm puts packages; None where it is in neither.

    Raises `RefsegError` where a `folder` that was named does not hold it.
    """
    named = folder is not None
    roots = [Path(folder)] if folder is not None else [Path(), *Path().resolve().parents]
    for root in roots:
        for place in ("", "dist", "package/dist", "onnxruntime-web/dist", "node_modules/onnxruntime-web/dist"):
            if all((root / place / name).is_file() for name in ORT_FILES):
                return root / place
    if named:
        raise RefsegError(f"{folder}: no onnxruntime-web there ({', '.join(ORT_FILES)} are wanted)")
    return None


def fetch_ort(folder: Path, say: Callable[[str], None] = lambda line: None) -> Path:
    """onnxruntime-web by `npm pack`, unpacked under `folder`. Raises `RefsegError` without npm or network."""
    package = f"onnxruntime-web@{ORT_VERSION}"
    say(f"fetching {package} with npm (31 MB)")
    remedy = f"give its folder: npm pack {package}, unpack it, and add --ort FOLDER"
    try:
        done = subprocess.run(
            ["npm", "pack", package, "--silent"], cwd=folder, capture_output=True, text=True, timeout=300, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RefsegError(f"npm does not run here ({type(error).__name__}); {remedy}") from error
    archives = list(folder.glob("onnxruntime-web-*.tgz"))
    if done.returncode or not archives:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
        raise RefsegError(f"npm cannot fetch {package} ({lines[-1][:160]}); {remedy}")
    with tarfile.open(archives[0]) as archive:
        for name in ORT_FILES:
            member = archive.extractfile(f"package/dist/{name}")
            if member is None:
                raise RefsegError(f"{package}: {name} is not in it; {remedy}")
            (folder / name).write_bytes(member.read())
    return folder


def _write_data(folder: Path, segmenter: Segmenter, model: Instances) -> None:
    config, text = model.config, model.text
    detector, chooser = config.detector, model.chooser
    means = chooser.means
    assert isinstance(means, Lexicon)
    language = None
    if isinstance(text, MiniLM) and model.anchors is not None and means.pieces is not None:
        language = {"maxWords": means.pieces.max_words}
        vectors = F.normalize(model.anchors.weight.float() * model.anchors.scale.float()[:, None], dim=-1)
        (folder / "anchors.bin").write_bytes(vectors.numpy().astype("<f4").tobytes())
        (folder / "wordpieces.txt").write_text("\n".join(means.pieces.pieces) + "\n", encoding="utf-8")
    (folder / "colours.bin").write_bytes(np.ascontiguousarray(colour_table().numpy(), "<f4").tobytes())
    tokenizer = segmenter.tokenizer
    document = {
        "input": {"size": config.input.size},
        "detector": {
            "side": detector.detector.side,
            "mean": MEAN,
            "std": STD,
            "proposals": {
                "min_score": detector.proposals.min_score,
                "candidates": detector.proposals.candidates,
                "overlap": detector.proposals.overlap,
                "merge_overlap": detector.proposals.merge_overlap,
                "most": detector.proposals.most,
            },
        },
        "crop": detector.masks.crop,
        "maxMasks": config.max_masks,
        "maxBytes": tokenizer.max_words if isinstance(tokenizer, ByteTokenizer) else 320,
        "thresholds": {"threshold": segmenter.thresholds.mask, "noTargetThreshold": segmenter.thresholds.no_target},
        "weights": dict(zip(chooser.names, chooser.weights.tolist(), strict=True)),
        "chooser": {
            name: getattr(config.chooser, name)
            for name in ("places", "relations", "colours", "relative", "least_score")
        },
        "language": language,
        "lexicon": {"temperature": means.temperature, "least": means.least},
        "words": word_lists(means),
    }
    (folder / "model.json").write_text(json.dumps(document, ensure_ascii=False) + "\n", encoding="utf-8")


def word_lists(means: Lexicon) -> dict[str, Any]:
    """Everything that the parser and the lexicon know of words, for JavaScript."""
    lists = {
        "strong": vocabulary.STRONG,
        "quantifiers": vocabulary.QUANTIFIERS,
        "picture": vocabulary.PICTURE,
        "pronouns": vocabulary.PRONOUNS,
        "partitives": vocabulary.PARTITIVES,
        "containers": vocabulary.CONTAINERS,
        "garments": vocabulary.GARMENTS,
        "parts": vocabulary.PARTS,
        "fillers": vocabulary.FILLERS,
        "actions": vocabulary.ACTIONS,
        "looks": vocabulary.LOOKS,
        "negations": vocabulary.NEGATIONS,
        "animate": vocabulary.ANIMATE,
        "attributive": vocabulary.ATTRIBUTIVE,
        "possessing": vocabulary.POSSESSING,
        "readAsWith": vocabulary.READ_AS_WITH,
        "pluralPeople": vocabulary.PLURAL_PEOPLE,
        "noPlural": vocabulary.NO_PLURAL,
        "notPlacesAfter": vocabulary.NOT_PLACES_AFTER,
        "bodySides": vocabulary.BODY_SIDES,
        "patterns": vocabulary.PATTERNS,
    }
    anchors = (
        []
        if means.anchors is None
        else [list(pair) for pair in zip(means.anchors.nouns, means.anchors.classes, strict=True)]
    )
    return {
        **{name: sorted(words) for name, words in lists.items()},
        "maxWords": MAX_WORDS,
        "sides": dict(vocabulary.SIDES),
        "sizes": dict(vocabulary.SIZES),
        "numbers": dict(vocabulary.NUMBERS),
        "ordinals": dict(vocabulary.ORDINALS),
        "colours": {word: dict(shares) for word, shares in vocabulary.COLOUR_WORDS.items()},
        "colourNames": list(COLOURS),
        "links": [list(pair) for pair in vocabulary.LINKS],
        "excluding": list(vocabulary.EXCLUDING),
        "known": list(vocabulary.known_words()),
        "frequentLinks": vocabulary.FREQUENT_LINKS.split(),
        "table": dict(table()),
        "anchors": anchors,
        "classes": list(CLASSES),
        "people": list(PEOPLE),
        "partClasses": sorted(PART_OF),
        "drawnOutputs": [number for number, name in enumerate(SECOND) if name.startswith("drawn ")],
        "secondColumns": class_columns().tolist(),
    }


_ORT_LICENCE = """\
onnxruntime-web: https://github.com/microsoft/onnxruntime

MIT License

Copyright (c) Microsoft Corporation

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
"""
