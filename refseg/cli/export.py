"""`refseg export MODEL -o DIR --to onnx|openvino|web`: a model as graphs for other runtimes, or as a page."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from refseg.cli import options
from refseg.cli.app import App
from refseg.cli.options import arg, at_least, flag, opt
from refseg.cli.tables import print_table
from refseg.errors import RefsegError

if TYPE_CHECKING:
    from refseg.inference.export.parity import Parity
    from refseg.inference.predictor import ImageLike, Segmenter

app = App()

CHECK = options.COUNTING


@app.command("export")
def export(
    model: Annotated[str, arg("MODEL", "packaged weights, model folder or hub id", names=options.model_names)],
    output: Annotated[Path, options.output("folder for the graphs, or for the page")],
    to: Annotated[
        Literal["onnx", "openvino", "web"],
        opt("onnx|openvino|web", "for ONNX Runtime, for OpenVINO, or a page without a server", "--to"),
    ] = "onnx",
    int8: Annotated[bool, flag("--int8", "masks (or the picture encoder) in eight bits; says what that costs")] = False,
    images: Annotated[
        Path | None,
        opt("DIR", "pictures that are compared and measured on (default: drawn scenes)", "--images", group=CHECK),
    ] = None,
    text: Annotated[
        list[str] | None, opt("EXPRESSION", "an expression to compare answers on", "-t", "--text", group=CHECK)
    ] = None,
    count: Annotated[int, opt("N", "pictures to compare on", "--count", group=CHECK, check=at_least(1))] = 4,
    ort: Annotated[
        Path | None,
        opt("DIR", "where onnxruntime-web lies (--to web; default: node_modules, else npm fetches it)", "--ort"),
    ] = None,
) -> None:
    """Write a model for another runtime, and check that it answers as torch does."""
    from refseg.inference.predictor import load

    check_target(output)
    if ort is not None and to != "web":
        raise RefsegError("--ort is for --to web")
    pictures, texts = examples(images, text or [], count)
    segmenter = load(model, device="cpu", runtime="torch")
    if to == "web":
        _page(segmenter, output, ort, int8, pictures)
        return
    from refseg.inference.export.write import export as write

    report = write(segmenter, output, to, int8, pictures, texts, say=_say)
    print_table(
        (
            "expressions at once",
            "answers",
            "pixels that differ",
            "decisions",
            "largest difference of p(none)",
            "mean IoU",
        ),
        [_row(entry) for entry in report.parity],
    )
    runtime = "openvino" if to == "openvino" else "onnxruntime"
    print(f"{sum(report.files.values()) / 1e6:.1f} MB in {output}; refseg.load({str(output)!r}, runtime={runtime!r})")


def check_target(output: Path) -> None:
    """Raises `RefsegError` where -o would replace something that refseg export did not write."""
    options.check_folder(output)
    mine = (output / "export.json").is_file() or (output / "model" / "model.json").is_file()
    if output.is_dir() and any(output.iterdir()) and not mine:
        raise RefsegError(f"{output} is not empty and no exported model; choose another folder for -o")


def examples(folder: Path | None, texts: list[str], count: int) -> tuple[list[ImageLike], list[str]]:
    """Pictures and expressions to compare on: those of a folder, or drawn scenes with their own expressions."""
    from refseg.data.images import read_image

    if folder is not None:
        options.check_images(folder)
        suffixes = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in suffixes)[:count]
        if not paths:
            raise RefsegError(f"{folder}: no pictures in it ({', '.join(suffixes)} are read)")
        return [read_image(path) for path in paths], texts or ["the person on the left", "all cars", "the red thing"]
    from refseg.generation.scenes import generate

    scenes = [generate(1, number, size=320) for number in range(count)]
    said = [expression.text for scene in scenes for expression in scene.expressions[:2]]
    return [scene.image for scene in scenes], texts or said[:8]


def _page(segmenter: Segmenter, output: Path, ort: Path | None, int8: bool, pictures: list[ImageLike]) -> None:
    from refseg.inference.export.web import export_web

    sizes = export_web(segmenter, output, ort, int8, pictures, say=_say)
    print(f"{sum(sizes.values()) / 1e6:.1f} MB in {output}; python -m http.server -d {output} shows it on your machine")


def _row(entry: Parity) -> tuple[str, ...]:
    return (
        str(entry.batch),
        str(entry.answers),
        f"{entry.pixels:,} of {entry.of_pixels:,}",
        str(entry.decisions),
        f"{entry.score:.1e}",
        f"{entry.iou:.4f}",
    )


def _say(line: str) -> None:
    print(line, file=sys.stderr)
