"""Pictures edited by an answer: the rest blurred, another background, the thing taken away.

Mixed pixels take the target's own colour (`Matte.foreground`), and the blurred background takes none of it, so that no
halo is left. Taking away fills the hole with the smoothest surface between its borders (the membrane of Laplace's
equation) and the grain of what surrounds it: good on sky, walls, water and lawns, while lines and patterns end at the
hole. It is no generative inpainting.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image, ImageColor
from scipy import ndimage, sparse
from scipy.sparse.linalg import spsolve

from refseg.apps.cutout.matting import Matte
from refseg.errors import RefsegError
from refseg.inference.segmentation import Segmentation

__all__ = ["blur_background", "erase", "replace_background"]

MOST_UNKNOWN = 60_000
"""Pixels of a hole for which the equations are solved; larger ones are filled from a smaller picture."""


def blur_background(image: Image.Image, matte: Matte, radius: float | None = None) -> Image.Image:
    """The picture with everything but the targets blurred (a Gaussian of `radius` pixels; None is 2 % of the longer
    side)."""
    _check(image, matte)
    radius = 0.02 * max(image.size) if radius is None else radius
    if not radius > 0:
        raise RefsegError(f"radius is above 0, not {radius}")
    pixels = np.asarray(image.convert("RGB"), dtype=np.float32)
    rest = 1 - matte.alpha.astype(np.float32)
    weight = ndimage.gaussian_filter(rest, radius)
    blurred = np.dstack([ndimage.gaussian_filter(pixels[..., c] * rest, radius) for c in range(3)])
    return _composed(matte, np.where(weight[..., None] > 1e-4, blurred / np.maximum(weight, 1e-4)[..., None], pixels))


def replace_background(image: Image.Image, matte: Matte, background: str | Image.Image) -> Image.Image:
    """The targets on another background: a colour ("white", "#20a0ff") or a picture, which is scaled and cut to fill.

    Raises `RefsegError` for a colour that is none.
    """
    _check(image, matte)
    if isinstance(background, str):
        try:
            colour = ImageColor.getrgb(background)[:3]
        except ValueError as error:
            raise RefsegError(f"background {background!r} is no colour such as white or #20a0ff") from error
        return _composed(matte, np.broadcast_to(np.array(colour, dtype=np.float32), (*matte.alpha.shape, 3)))
    scale = max(image.width / background.width, image.height / background.height)
    size = (max(image.width, round(background.width * scale)), max(image.height, round(background.height * scale)))
    left, top = (size[0] - image.width) // 2, (size[1] - image.height) // 2
    filled = background.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    return _composed(matte, np.asarray(filled.crop((left, top, left + image.width, top + image.height)), np.float32))


def erase(image: Image.Image, answer: Segmentation, margin: int | None = None) -> Image.Image:
    """The picture without the targets; see the top of this file for what to expect.

    The hole is the mask with `margin` pixels around it (None: 1 % of the longer side, at least 3), for shadows and soft
    edges. Raises `RefsegError` where the sizes differ or the targets fill the picture.
    """
    if (image.height, image.width) != answer.mask.shape:
        raise RefsegError(f"the answer is not for this picture of {image.width} x {image.height} pixels")
    pixels = np.asarray(image.convert("RGB"))
    if not answer.mask.any():
        return Image.fromarray(pixels)
    margin = max(3, round(0.01 * max(image.size))) if margin is None else margin
    hole = answer.mask if margin < 1 else ndimage.distance_transform_edt(~answer.mask) <= margin
    if hole.all():
        raise RefsegError("the targets fill the picture: nothing is left to fill the hole with")
    smooth = ndimage.gaussian_filter(pixels.astype(np.float64), (1.5, 1.5, 0))
    filled = _membrane(smooth, hole)
    ring = (ndimage.distance_transform_edt(hole == 0) <= 12) & ~hole
    grain = (pixels - smooth)[ring]
    rng = np.random.default_rng(0)
    # Grain is drawn from what surrounds the hole, so that the filled part is not smoother than the rest.
    result = pixels.astype(np.float64)
    result[hole] = filled[hole] + grain[rng.integers(0, len(grain), int(hole.sum()))]
    return Image.fromarray(result.round().clip(0, 255).astype(np.uint8))


def _membrane(pixels: Float[np.ndarray, "H W 3"], hole: Bool[np.ndarray, "H W"]) -> Float[np.ndarray, "H W 3"]:
    """The pixels with the hole filled so that each is the mean of its neighbours in the picture."""
    scale = float(np.sqrt(MOST_UNKNOWN / int(hole.sum())))
    if scale < 1:
        height, width = (max(2, int(side * scale)) for side in hole.shape)
        # Only what is known is averaged; a cell with any hole in it is solved for.
        weight = Image.fromarray((~hole).astype(np.float32)).resize((width, height), Image.Resampling.BOX)
        share = np.asarray(weight)
        planes = [
            np.asarray(Image.fromarray(np.where(hole, 0, pixels[..., c]).astype(np.float32)).resize((width, height), 4))
            for c in range(3)
        ]
        small = np.dstack(planes) / np.maximum(share, 1e-6)[..., None]
        if not (share > 0.999).any():
            return np.where(hole[..., None], pixels[~hole].mean(axis=0), pixels)
        solved = _membrane(small.astype(np.float64), share <= 0.999)
        size = (hole.shape[1], hole.shape[0])
        large = [
            np.asarray(Image.fromarray(solved[..., c].astype(np.float32)).resize(size, Image.Resampling.BICUBIC))
            for c in range(3)
        ]
        return np.where(hole[..., None], np.dstack(large), pixels)
    height, width = hole.shape
    rows, columns = np.nonzero(hole)
    number = np.full(hole.shape, -1)
    number[rows, columns] = np.arange(len(rows))
    entries: list[tuple[np.ndarray, np.ndarray]] = []
    degree, right = np.zeros(len(rows)), np.zeros((len(rows), 3))
    for down, across in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        y, x = rows + down, columns + across
        valid = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        degree += valid
        own, y, x = np.flatnonzero(valid), y[valid], x[valid]
        inner = hole[y, x]
        entries.append((own[inner], number[y[inner], x[inner]]))
        np.add.at(right, own[~inner], pixels[y[~inner], x[~inner]])
    own = np.concatenate([entry[0] for entry in entries])
    other = np.concatenate([entry[1] for entry in entries])
    table = sparse.diags(degree) - sparse.coo_matrix((np.ones(len(own)), (own, other)), (len(rows),) * 2)
    result = pixels.copy()
    solution = spsolve(table.tocsc(), right)
    result[rows, columns] = np.asarray(solution).reshape(len(rows), 3)
    return result


def _composed(matte: Matte, background: Float[np.ndarray, "H W 3"]) -> Image.Image:
    alpha = matte.alpha[..., None].astype(np.float32)
    mixed = matte.foreground.astype(np.float32) * alpha + background * (1 - alpha)
    return Image.fromarray(mixed.round().clip(0, 255).astype(np.uint8))


def _check(image: Image.Image, matte: Matte) -> None:
    if (image.height, image.width) != matte.alpha.shape:
        raise RefsegError(f"the matte is not for this picture of {image.width} x {image.height} pixels")
