"""`refseg label IMAGE... --phrases FILE`: every phrase of a list on every picture, as maps and COCO annotations."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

from refseg.cli import options
from refseg.cli.app import App
from refseg.cli.options import arg, opt
from refseg.errors import ImageError, RefsegError
from refseg.files import replacing, write_bytes, write_text
from refseg.inference import DEFAULT_MODEL

if TYPE_CHECKING:
    import numpy as np

    from refseg.apps.label.labels import LabelledImage
    from refseg.apps.label.scoring import SemanticScore

MAPS = ("semantic", "instances")

app = App()


@app.command("label")
def label_pictures(
    images: Annotated[list[str], arg("IMAGE...", "pictures, folders of them, or patterns such as 'photos/**/*.jpg'")],
    phrases: Annotated[Path | None, opt("FILE", "what to look for, a phrase a line", "--phrases")] = None,
    coco: Annotated[
        Path | None, opt("FILE", "COCO file: look for its categories, and score the maps by its masks", "--coco")
    ] = None,
    output: Annotated[Path, options.output("folder for the results")] = Path("out"),
    template: Annotated[str, opt("TEXT", "what is asked for a phrase, which stands at {}", "--template")] = "all {}",
    least_score: Annotated[
        float, opt("P", "leave out instances of lower scores", "--least-score", check=options.probability)
    ] = 0.0,
    model: options.Model = DEFAULT_MODEL,
    threshold: options.Threshold = None,
    no_target_threshold: options.NoTargetThreshold = None,
    device: options.Device = "auto",
) -> int:
    """Label pictures with the phrases of a list: instances and regions without overlaps.

    Writes annotations.json (COCO), semantic/NAME.png (numbers of phrases, 0 is none) and instances/NAME.png (numbers of
    a picture's instances). Pictures that cannot be read are passed over and told in errors.jsonl; exit code 1. With
    --coco also iou.json: the IoU of each category over all pictures, and their mean.
    """
    from refseg.apps.label.labels import LabelConfig, label, read_phrases
    from refseg.apps.label.scoring import SemanticScore, read_category_maps
    from refseg.data.images import find_pictures
    from refseg.inference.predictor import load
    from refseg.progress import progress

    if (phrases is None) == (coco is None):
        raise RefsegError("what to look for is given by --phrases FILE or by --coco FILE, one of them")
    truth = None if coco is None else read_category_maps(coco)
    names = list(truth.names) if truth is not None else read_phrases(phrases or Path())
    score = SemanticScore(names)
    config = LabelConfig(template=template, least_score=least_score)
    options.check_folder(output)
    paths = find_pictures(images, leave_out=output)
    keys = [None] * len(paths) if truth is None else [truth.find(path) for path in paths]
    if truth is not None:
        paths, keys = _annotated(paths, keys, truth.instances.path)
    segmenter = load(model, device)
    counts: Counter[int] = Counter()
    errors: list[str] = []
    with progress("pictures", lines=True) as update, _annotations(output / "annotations.json", names) as add:
        for done, (path, name, key) in enumerate(zip(paths, _names(paths), keys, strict=True)):
            update(done, len(paths))
            try:
                found = label(
                    segmenter, path, names, config, threshold=threshold, no_target_threshold=no_target_threshold
                )
                if truth is not None and key is not None:
                    score.add(found.semantic_map(), truth.map_of(key))
            except ImageError as error:
                errors.append(json.dumps({"image": _text(path), "error": str(error)}, ensure_ascii=False) + "\n")
                continue
            write_bytes(output / "semantic" / f"{name}.png", _png(found.semantic_map(), len(names)))
            write_bytes(output / "instances" / f"{name}.png", _png(found.instance_map(), len(found.instances)))
            add(path, name, found)
            counts.update(entry.phrase for entry in found.instances)
        if len(errors) == len(paths):
            raise ImageError("; ".join(json.loads(line)["error"] for line in errors[:3]))
    (output / "errors.jsonl").unlink(missing_ok=True)
    if errors:
        write_text(output / "errors.jsonl", "".join(errors))
    _print(names, counts, len(paths) - len(errors), output)
    if truth is not None:
        _write_score(score, output / "iou.json")
    if errors:
        print(f"refseg label: {len(errors)} of {len(paths)} pictures: see {output / 'errors.jsonl'}", file=sys.stderr)
    return 1 if errors else 0


class _Add:
    """Writes pictures and annotations one by one; a file of COCO's form is whole at the end only."""

    def __init__(self, images: IO[str], annotations: IO[str]) -> None:
        self.images, self.annotations = images, annotations
        self.count, self.next_id = 0, 1

    def __call__(self, path: Path, name: str, found: LabelledImage) -> None:
        height, width = found.size
        self.count += 1
        record = {"id": self.count, "file_name": _text(path), "height": height, "width": width}
        maps = {f"{kind}_map": f"{kind}/{name}.png" for kind in MAPS}
        self._line(self.images, {**record, **maps}, self.count == 1)
        for entry in found.to_coco(self.count, self.next_id):
            self._line(self.annotations, entry, self.next_id == 1)
            self.next_id += 1

    @staticmethod
    def _line(file: IO[str], record: dict[str, object], first: bool) -> None:
        file.write(("" if first else ",\n") + json.dumps(record, ensure_ascii=False))


@contextmanager
def _annotations(path: Path, phrases: Sequence[str]) -> Iterator[_Add]:
    """The COCO file, of which no more than a picture is held in memory."""
    import shutil
    import tempfile

    try:
        with (
            replacing(path) as temporary,
            tempfile.TemporaryFile("w+", encoding="utf-8", dir=path.parent) as rows,
            temporary.open("w", encoding="utf-8") as file,
        ):
            listed = [{"id": number, "name": phrase} for number, phrase in enumerate(phrases, start=1)]
            file.write(f'{{"categories": {json.dumps(listed, ensure_ascii=False)},\n"images": [\n')
            yield _Add(file, rows)
            file.write('],\n"annotations": [\n')
            rows.seek(0)
            shutil.copyfileobj(rows, file)
            file.write("]}\n")
    except OSError as error:
        raise RefsegError(f"{path}: cannot be written ({error.strerror or error})") from error


def _png(values: np.ndarray, largest: int) -> bytes:
    """Numbers as a picture: a palette of 8 bits where they fit, else 16 bits."""
    import numpy as np
    from PIL import Image

    from refseg.apps.label.labels import palette_of

    if largest <= 255:
        picture = Image.fromarray(values.astype(np.uint8), mode="P")
        picture.putpalette(palette_of(255))
    else:
        picture = Image.fromarray(values.astype(np.uint16))
    buffer = BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


def _names(paths: Sequence[Path]) -> list[str]:
    """What the maps are called: the pictures' names without suffix, with a number where two are the same."""
    taken: Counter[str] = Counter()
    used: set[str] = set()
    names = []
    for path in paths:
        name = path.stem
        while name.casefold() in used:
            taken[path.stem.casefold()] += 1
            name = f"{path.stem}-{taken[path.stem.casefold()] + 1}"
        used.add(name.casefold())
        names.append(name)
    return names


def _annotated(paths: Sequence[Path], keys: Sequence[int | None], coco: Path) -> tuple[list[Path], list[int | None]]:
    """The pictures that the COCO file has a record of, with their ids."""
    known = [place for place, key in enumerate(keys) if key is not None]
    if not known:
        raise RefsegError(f"{coco}: no record of {paths[0].name}, nor of any other picture that was given")
    if len(known) < len(paths):
        left = len(paths) - len(known)
        print(f"refseg label: {left} of {len(paths)} pictures have no record in {coco}: left out", file=sys.stderr)
    return [paths[place] for place in known], [keys[place] for place in known]


def _write_score(score: SemanticScore, path: Path) -> None:
    content = score.to_dict()
    write_text(path, json.dumps(content, ensure_ascii=False, indent=1) + "\n")
    if not content["categories"]:
        print(f"none of the categories occurs in the pictures: {path}")
        return
    print(
        f"mean IoU {content['mean_iou']:.3f} over the {content['categories']} categories that occur in "
        f"{content['pictures']} pictures; with ground {content['mean_iou_with_ground']:.3f}: {path}"
    )


def _text(path: Path) -> str:
    return str(path).encode("utf-8", "replace").decode()


def _print(phrases: Sequence[str], counts: Counter[int], pictures: int, folder: Path) -> None:
    from refseg.cli.tables import print_table

    rows = [(phrases[place], str(count)) for place, count in counts.most_common(30)]
    print_table(("phrase", "instances"), rows)
    missing = len(phrases) - len(counts)
    print(
        f"{pictures} pictures, {sum(counts.values())} instances; "
        f"{missing} of {len(phrases)} phrases were found nowhere: {folder / 'annotations.json'}",
        file=sys.stderr,
    )
