"""Mattes of answers: how much of each pixel is the target, and the target's own colour in mixed pixels.

    probabilities, mask -> trimap: sure inside, sure outside, an unknown band along the edge
        -> closed-form matting in the band (Levin, Lischinski, Weiss, TPAMI 2008), at a capped size
        -> joint upsampling by local linear models of colour (He, Sun, Tang, "Guided Image Filtering", TPAMI 2013),
           where the band was made smaller
        -> foreground colours (Germer et al., "Fast Multi-Level Foreground Estimation", ICPR 2020)

Matting and foreground estimation are PyMatting's (extra `matte`); it compiles itself at its first import, which takes
a minute or so once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Gt, Lt
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from scipy import ndimage

from refseg.config import Config, PositiveInt
from refseg.errors import RefsegError
from refseg.inference.segmentation import Segmentation

__all__ = ["Matte", "MattingConfig", "matte", "trimap"]

UNKNOWN = 128


@dataclass(frozen=True)
class MattingConfig(Config):
    """Where the edge is looked for, and how finely."""

    band: Annotated[float, Gt(0)] = 0.02
    """Half width of the unknown band, in square roots of the target's area."""
    least_band: Annotated[float, Ge(1)] = 2.0
    """Half width of the band in pixels, at least."""
    most_band: Annotated[float, Ge(1)] = 40.0
    """And at most."""
    certain: Annotated[float, Gt(0.5), Lt(1)] = 0.95
    """Where the probability of being the target lies between one minus this and this, a pixel is unknown, up to twice
    the band's half width from the edge."""
    most_unknown: PositiveInt = 60_000
    """Unknown pixels of the equations; where there are more, they are solved on a smaller picture."""
    epsilon: Annotated[float, Gt(0)] = 1e-5
    """Regularisation of the colour lines (Levin et al.'s epsilon): larger is smoother."""


@dataclass(frozen=True, eq=False)
class Matte:
    """`alpha` (H, W) 0 to 1: how much of a pixel is the target. `foreground` (H, W, 3): its colour there without the
    background's share; beyond the target it means nothing."""

    alpha: Float[np.ndarray, "H W"]
    foreground: UInt8[np.ndarray, "H W 3"]

    def to_image(self) -> Image.Image:
        """The cut-out as RGBA."""
        alpha = (self.alpha * 255).round().astype(np.uint8)
        return Image.fromarray(np.dstack([np.where(alpha[..., None] > 0, self.foreground, 0).astype(np.uint8), alpha]))


def matte(image: Image.Image, answer: Segmentation, config: MattingConfig | None = None) -> Matte:
    """The matte of all targets of an answer; an answer of none gives alpha 0 everywhere.

    `answer.probabilities`, where they were asked for, say where the edge is uncertain. Raises `RefsegError` where the
    sizes differ, and without PyMatting.
    """
    config = config or MattingConfig()
    if (image.height, image.width) != answer.mask.shape:
        raise RefsegError(
            f"the answer is for a picture of {answer.mask.shape[1]} x {answer.mask.shape[0]} pixels, "
            f"this one is {image.width} x {image.height}"
        )
    pymatting = _import_pymatting()
    pixels = np.asarray(image.convert("RGB"))
    alpha = np.zeros(answer.mask.shape, dtype=np.float32)
    foreground = pixels.copy()
    if not answer.mask.any():
        return Matte(alpha, foreground)
    known = trimap(answer, config)
    window = _window(known != 0, margin=4)
    part, known = pixels[window], known[window]
    if not (known == 255).any() or not (known == 0).any():
        # Nothing to learn the edge from: the mask is the answer.
        alpha[window] = answer.mask[window]
        return Matte(alpha, foreground)
    alpha[window] = _solve(pymatting, part, known, config)
    colours = pymatting.estimate_foreground_ml(part / 255.0, alpha[window].astype(np.float64))
    foreground[window] = (colours.clip(0, 1) * 255).round().astype(np.uint8)
    return Matte(alpha, foreground)


def trimap(answer: Segmentation, config: MattingConfig | None = None) -> UInt8[np.ndarray, "H W"]:
    """255 where a pixel surely is the target, 0 where it surely is not, 128 along the edge of the mask.

    The band's half width is `band` square roots of the area; of a part thinner than that the inner half stays sure.
    """
    config = config or MattingConfig()
    mask = answer.mask
    if not mask.any():
        return np.zeros(mask.shape, dtype=np.uint8)
    radius = float(np.clip(config.band * np.sqrt(mask.sum()), config.least_band, config.most_band))
    inside, outside = _distance(mask), _distance(~mask)
    deep = inside > radius
    parts, count = ndimage.label(mask)
    if count:
        # A thin part would have no sure pixel: there the deepest half of it is sure.
        depth = np.concatenate([[np.inf], np.atleast_1d(ndimage.maximum(inside, parts, np.arange(1, count + 1)))])
        deep |= mask & (inside > np.minimum(radius, depth[parts] / 2))
    far = outside > radius
    chance = answer.probabilities
    if chance is not None:
        unsure = (chance > 1 - config.certain) & (chance < config.certain)
        deep &= ~(unsure & (inside <= 2 * radius))
        far &= ~(unsure & (outside <= 2 * radius))
    known = np.full(mask.shape, UNKNOWN, dtype=np.uint8)
    known[deep], known[far & ~mask] = 255, 0
    return known


def _distance(mask: Bool[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
    """Of each pixel of the mask from the nearest one outside (the picture's border is none), 0 outside."""
    if mask.all():
        return np.full(mask.shape, np.inf)
    return ndimage.distance_transform_edt(mask)


def _window(mask: Bool[np.ndarray, "H W"], margin: int) -> tuple[slice, slice]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return (
        slice(max(0, int(rows[0]) - margin), int(rows[-1]) + 1 + margin),
        slice(max(0, int(columns[0]) - margin), int(columns[-1]) + 1 + margin),
    )


def _solve(
    pymatting: Any, pixels: UInt8[np.ndarray, "H W 3"], known: UInt8[np.ndarray, "H W"], config: MattingConfig
) -> Float[np.ndarray, "H W"]:
    """Alpha of a window, exactly 0 and 1 where the trimap is sure."""
    unknown = known == UNKNOWN
    scale = min(1.0, float(np.sqrt(config.most_unknown / max(1, int(unknown.sum())))))
    if scale == 1.0:
        solved = _closed_form(pymatting, pixels / 255.0, known / 255.0, unknown, config)
    else:
        height, width = (max(2, round(side * scale)) for side in known.shape)
        picture = Image.fromarray(pixels).resize((width, height), Image.Resampling.BOX)
        small = np.asarray(picture) / 255.0
        planes = [Image.fromarray((known == value).astype(np.float32)) for value in (255, 0)]
        shares = [np.asarray(plane.resize((width, height), Image.Resampling.BOX)) for plane in planes]
        trimap_small = np.where(shares[0] > 0.999, 1.0, np.where(shares[1] > 0.999, 0.0, 0.5))
        alpha = _closed_form(pymatting, small, trimap_small, trimap_small == 0.5, config)
        solved = _upsampled(alpha, small, pixels / 255.0)
    return np.where(unknown, solved.clip(0, 1), known == 255).astype(np.float32)


def _closed_form(
    pymatting: Any,
    pixels: Float[np.ndarray, "H W 3"],
    known: Float[np.ndarray, "H W"],
    unknown: Bool[np.ndarray, "H W"],
    config: MattingConfig,
) -> Float[np.ndarray, "H W"]:
    if not unknown.any() or not (known == 1).any() or not (known == 0).any():
        return known
    try:
        return pymatting.estimate_alpha_cf(
            np.ascontiguousarray(pixels),
            np.where(unknown, 0.5, known),
            laplacian_kwargs={"epsilon": config.epsilon},
            cg_kwargs={"maxiter": 2000, "rtol": 1e-5},
        )
    except ValueError:  # the equations did not converge: as the trimap says, half and half in the band
        return np.where(unknown, 0.5, known)


def _upsampled(
    alpha: Float[np.ndarray, "h w"], small: Float[np.ndarray, "h w 3"], pixels: Float[np.ndarray, "H W 3"]
) -> Float[np.ndarray, "H W"]:
    """Alpha at the picture's size: alpha = a . colour + b, fitted in windows of 5 x 5 of the small picture."""

    def mean(values: np.ndarray) -> np.ndarray:
        size = (5, 5) + (1,) * (values.ndim - 2)
        return ndimage.uniform_filter(values, size=size, mode="nearest")

    colour, level = mean(small), mean(alpha)
    products = mean(small[..., :, None] * small[..., None, :]) - colour[..., :, None] * colour[..., None, :]
    covariance = mean(small * alpha[..., None]) - colour * level[..., None]
    slope = np.linalg.solve(products + 1e-4 * np.eye(3), covariance[..., None])[..., 0]
    offset = level - (slope * colour).sum(axis=-1)
    size = (pixels.shape[1], pixels.shape[0])
    planes = [mean(plane).astype(np.float32) for plane in (*np.moveaxis(slope, -1, 0), offset)]
    large = [np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.BILINEAR)) for plane in planes]
    return sum(large[channel] * pixels[..., channel] for channel in range(3)) + large[3]


def _import_pymatting() -> Any:
    try:
        import pymatting
    except ImportError as error:
        raise RefsegError("mattes need PyMatting: pip install 'refseg[matte]'") from error
    return pymatting
