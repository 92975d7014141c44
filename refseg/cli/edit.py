"""`refseg edit PICTURE EXPRESSION`: the thing cut out, on another background, before a blurred one, or taken away."""

from __future__ import annotations

import sys
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from refseg.cli import options
from refseg.cli.app import App
from refseg.cli.options import arg, flag, opt
from refseg.errors import RefsegError, did_you_mean
from refseg.files import write_bytes
from refseg.inference import DEFAULT_MODEL

if TYPE_CHECKING:
    from PIL import Image

    from refseg.inference.segmentation import Segmentation

KINDS = {".png": "PNG", ".webp": "WEBP", ".jpg": "JPEG", ".jpeg": "JPEG"}
BACKGROUNDS = ("transparent", "blur", "white", "black")

app = App()


@app.command("edit")
def edit(
    picture: Annotated[Path, arg("PICTURE", "the picture to edit")],
    expression: Annotated[str, arg("EXPRESSION", "what to cut out or take away")],
    output: Annotated[Path, options.output("picture to write: .png, .webp or .jpg", "FILE")] = Path("edited.png"),
    background: Annotated[
        str,
        opt(
            "KIND",
            "transparent, blur, a colour, or a picture",
            "--background",
            names=lambda: BACKGROUNDS,
            group=options.WRITING,
        ),
    ] = "transparent",
    erase: Annotated[bool, flag("--erase", "take the thing away and fill the hole smoothly", options.WRITING)] = False,
    model: options.Model = DEFAULT_MODEL,
    threshold: options.Threshold = None,
    no_target_threshold: options.NoTargetThreshold = None,
    device: options.Device = "auto",
) -> int:
    """Cut out what an expression means, with soft edges, or put it before another background, or take it away.

    Nothing is written, and the exit code is 1, where the answer is none. Edges need PyMatting (the extra `matte`).
    """
    from refseg.data.images import read_image
    from refseg.inference.predictor import clean_text, load

    kind = KINDS.get(output.suffix.lower())
    if kind is None:
        raise RefsegError(f"{output}: -o ends with {', '.join(KINDS)}")
    if erase and background != "transparent":
        raise RefsegError("--erase and --background exclude each other: what is taken away has no background")
    if kind == "JPEG" and background == "transparent" and not erase:
        raise RefsegError(f"{output}: JPEG has no transparency; -o with .png, or --background")
    options.check_file(output, "-o")
    text = clean_text(expression)
    other = None if erase else _background(background)
    image = read_image(picture)
    answer = (
        load(model, device)
        .encode(image)
        .ask(text, threshold=threshold, no_target_threshold=no_target_threshold, probabilities=True)
    )
    for remark in answer.extra.get("remarks", []):
        print(f"note: {remark}", file=sys.stderr)
    if answer.no_target:
        print(f"refseg edit: none: “{text}” was not found (p(none) {answer.no_target_score:.2f})", file=sys.stderr)
        return 1
    buffer = BytesIO()
    _edited(image, answer, other, erase).save(buffer, format=kind)
    write_bytes(output, buffer.getvalue())
    print(output)
    return 0


def _background(value: str) -> str | Image.Image:
    """transparent, blur, a colour's name, or the picture of a file."""
    from PIL import ImageColor

    from refseg.data.images import read_image

    if value in ("transparent", "blur"):
        return value
    if Path(value).is_file():
        return read_image(value)
    try:
        ImageColor.getrgb(value)
    except ValueError as error:
        hint = did_you_mean(value, [*BACKGROUNDS, *ImageColor.colormap])
        hint = f"; {hint}" if hint.startswith("did you mean") else ""
        raise RefsegError(
            f"--background {value!r} is no file, no colour, and neither transparent nor blur{hint}"
        ) from error
    return value


def _edited(image: Image.Image, answer: Segmentation, background: str | Image.Image | None, erase: bool) -> Image.Image:
    from refseg.apps.cutout import editing
    from refseg.apps.cutout.matting import matte

    if erase or background is None:
        return editing.erase(image, answer)
    made = matte(image, answer)
    if background == "transparent":
        return made.to_image()
    if background == "blur":
        return editing.blur_background(image, made)
    return editing.replace_background(image, made, background)
