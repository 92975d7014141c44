"""Pictures out of request bodies, and the memory that requests may take. Sizes are known before pixels are decoded."""

from __future__ import annotations

import base64
import binascii
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

from PIL import Image

from refseg.apps.serve.errors import ServeError
from refseg.apps.serve.metrics import Metrics
from refseg.data.images import quiet, read_image
from refseg.errors import ImageError


class Budget:
    """Memory of all requests in work, in bytes. What would go beyond is refused with 429, not waited for."""

    def __init__(self, most: int, metrics: Metrics) -> None:
        self.most, self.metrics = most, metrics
        self.used = 0
        self._lock = threading.Lock()

    @contextmanager
    def taking(self) -> Iterator[Share]:
        """A share that is given back when the block ends."""
        share = Share(self)
        try:
            yield share
        finally:
            share.take(-share.held)


class Share:
    """What one request has taken of a `Budget`."""

    def __init__(self, budget: Budget) -> None:
        self.budget, self.held = budget, 0

    def take(self, count: int) -> None:
        """Take so many bytes more (less, where negative). Raises `ServeError` where there are not so many."""
        budget = self.budget
        with budget._lock:
            # One request alone may go beyond: its own limits bound it, and it could never be answered otherwise.
            if count > 0 and budget.used + count > budget.most and budget.used > self.held:
                budget.metrics.refused.labels("memory").inc()
                raise ServeError("busy", "the requests in work take all memory that is set aside for them", seconds=2)
            budget.used += count
            self.held += count
            budget.metrics.request_bytes.set(budget.used)


def picture_size(data: bytes, max_pixels: int) -> tuple[int, int] | None:
    """(width, height) of an encoded picture from its header; None where it has none that can be read.

    Raises `ServeError` (413) for one of more than `max_pixels` pixels.
    """
    try:
        with quiet(), Image.open(BytesIO(data)) as image:
            width, height = image.size
    except Image.DecompressionBombError:
        raise ServeError("too_large", f"the picture has more than {max_pixels:,} pixels", limit=max_pixels) from None
    except Exception:  # `read_image` says what is wrong with it
        return None
    if width * height > max_pixels:
        raise ServeError(
            "too_large", f"a picture of {width} x {height} has more than {max_pixels:,} pixels", limit=max_pixels
        )
    return width, height


def decode_picture(data: bytes, max_pixels: int, share: Share) -> Image.Image:
    """The upright RGB picture in `data`; its memory is taken from `share`.

    Raises `ServeError`: 413 for too many pixels, 422 for what is no picture or a damaged one, 429 for want of memory.
    """
    size = picture_size(data, max_pixels)
    if size is not None:
        share.take(3 * size[0] * size[1])
    try:
        return read_image(data, max_pixels=max_pixels)
    except ImageError as error:
        raise ServeError("invalid", str(error)) from error


def decode_base64(text: str) -> bytes:
    """The bytes of base64 text, also of a `data:` address. Raises `ServeError` for other text and other addresses."""
    if text[:5].lower() == "data:":
        head, comma, text = text.partition(",")
        if not comma or not head.lower().endswith(";base64"):
            raise ServeError("invalid", "a data: address holds ';base64,' before the picture")
    elif "://" in text[:20]:
        raise ServeError("invalid", "pictures are not fetched from the network; send the picture itself")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ServeError("invalid", f"the picture is not base64 ({error})") from error
