from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco

from refseg.data import rle
from refseg.errors import DataError

MASKS = st.tuples(st.integers(1, 30), st.integers(1, 30)).flatmap(lambda size: arrays(bool, size))


@given(MASKS)
def test_round_trip(mask: np.ndarray) -> None:
    encoded = rle.encode(mask)
    assert rle.validate(encoded, mask.shape) == mask.shape
    assert (rle.decode(encoded) == mask).all()


@given(MASKS)
def test_is_what_pycocotools_decodes(mask: np.ndarray) -> None:
    encoded = rle.encode(mask)
    np.testing.assert_array_equal(rle.decode(encoded), coco.decode(rle.compressed(encoded)).astype(bool))
    runs = coco.decode(coco.frPyObjects({"size": list(mask.shape), "counts": _runs(mask)}, *mask.shape)).astype(bool)
    np.testing.assert_array_equal(rle.decode({"size": list(mask.shape), "counts": _runs(mask)}), runs)


def _runs(mask: np.ndarray) -> list[int]:
    runs, colour = [0], False
    for value in mask.T.reshape(-1):
        if value != colour:
            runs.append(0)
            colour = value
        runs[-1] += 1
    return runs


@given(MASKS, st.integers(0, 10**6), st.integers(0, 127))
def test_a_changed_character_is_decoded_to_the_right_size_or_refused(mask: np.ndarray, place: int, value: int) -> None:
    encoded = rle.encode(mask)
    counts = bytearray(encoded["counts"].encode())
    counts[place % len(counts)] = value
    try:
        decoded = rle.decode({**encoded, "counts": bytes(counts).decode("ascii")})
    except DataError:
        return
    assert decoded.shape == mask.shape


def test_a_column_by_hand() -> None:
    mask = np.array([[False, True], [True, True], [True, False]])
    assert rle.decode({"size": [3, 2], "counts": [1, 4, 1]}).tolist() == mask.tolist()
    assert rle.encode(mask) == {"size": [3, 2], "counts": "141"}


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ("", "add up to 0"),
        ("14", "add up to 5"),
        ("P", "middle of a number"),
        ("1 4", "not its own"),
        ("PPPPPPPP1", "too large"),
        ("O", "negative run"),
        ([1, 4, 2], "add up to 7"),
        ([1.0, 4, 1], "integers"),
        (None, "not NoneType"),
    ],
)
def test_damaged_encodings(counts: object, words: str) -> None:
    with pytest.raises(DataError, match=words):
        rle.decode({"size": [3, 2], "counts": counts})


@pytest.mark.parametrize("size", [None, [3], [3, 0], ["3", 2], 6])
def test_damaged_sizes(size: object) -> None:
    with pytest.raises(DataError, match="two positive integers"):
        rle.decode({"size": size, "counts": [6]})
    with pytest.raises(DataError, match="but the picture is 3 x 2"):
        rle.decode({"size": [2, 3], "counts": [6]}, (3, 2))
