"""J and F: the DAVIS tool's values, and a slow reference written from the definition."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from refseg.errors import DataError
from refseg.metrics.video import boundary_map, clip_statistics, contour_accuracy, dilated, region_similarity

GOLDEN = Path(__file__).parent.parent / "golden" / "metrics"


@pytest.fixture(scope="module")
def clip():
    data = np.load(GOLDEN / "davis_case0.npz")
    width = int(data["shape"][2])
    return [np.unpackbits(data[name], axis=-1)[..., :width].astype(bool) for name in ("prediction", "target")]


@pytest.fixture(scope="module")
def wanted():
    return json.loads((GOLDEN / "davis_case0.json").read_text())


def test_davis_golden(clip, wanted):
    region, contour = region_similarity(*clip), contour_accuracy(*clip)
    assert region == pytest.approx(wanted["J"], abs=1e-9)
    assert contour == pytest.approx(wanted["F"], abs=1e-9)
    for values, name in ((region, "J_stats"), (contour, "F_stats")):
        statistics = clip_statistics(values)
        assert [statistics.mean, statistics.recall, statistics.decay] == pytest.approx(wanted[name], abs=1e-9)


def test_davis_golden_with_an_emptied_target(clip, wanted):
    prediction, target = clip[0], clip[1].copy()
    target[3] = False
    assert region_similarity(prediction, target) == pytest.approx(wanted["J_empty_gt_frame3"], abs=1e-9)
    assert contour_accuracy(prediction, target) == pytest.approx(wanted["F_empty_gt_frame3"], abs=1e-9)


def slow_contour_accuracy(prediction, target, radius):
    """From the definition: contour pixels, and for each whether one of the other contour lies within the radius."""

    def contour(mask):
        height, width = mask.shape
        found = []
        for y in range(height):
            for x in range(width):
                neighbours = []
                if x + 1 < width:
                    neighbours.append((y, x + 1))
                if y + 1 < height:
                    neighbours.append((y + 1, x))
                if x + 1 < width and y + 1 < height:
                    neighbours.append((y + 1, x + 1))
                if any(mask[place] != mask[y, x] for place in neighbours):
                    found.append((y, x))
        return found

    def near(points, others):
        return sum(any(math.dist(p, q) <= radius for q in others) for p in points) / len(points)

    one, two = contour(prediction), contour(target)
    if not one or not two:
        return float(len(one) == len(two))
    precision, recall = near(one, two), near(two, one)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@pytest.mark.parametrize("radius", [1, 2, 3, 6])
def test_contour_accuracy_against_the_definition(radius):
    random = np.random.default_rng(radius)
    blocks = random.random((2, 6, 4, 5)) < 0.4
    blocks[0, 4] = blocks[1, 5] = False
    blocks[:, 3] = blocks[0, 3]
    prediction, target = np.kron(blocks, np.ones((4, 4))).astype(bool)
    found = contour_accuracy(prediction, target, tolerance=radius)
    assert found == pytest.approx(
        [slow_contour_accuracy(*pair, radius) for pair in zip(prediction, target, strict=True)]
    )


def test_the_tolerance_is_a_share_of_the_diagonal_rounded_up():
    target = np.zeros((1, 60, 80), dtype=bool)  # diagonal 100
    target[0, 20:40, 20:40] = True
    moved = np.roll(target, 2, axis=2)
    assert contour_accuracy(moved, target, tolerance=0.011)[0] == 1.0  # 1.1 pixels, rounded up to 2
    assert contour_accuracy(moved, target, tolerance=0.01)[0] < 1.0


@pytest.mark.parametrize("radius", [0, 1, 4])
def test_dilation_is_a_disk(radius):
    points = np.zeros((9, 12), dtype=bool)
    points[1, 2] = points[8, 11] = True
    rows, columns = np.indices(points.shape)
    wanted = np.zeros_like(points)
    for y, x in ((1, 2), (8, 11)):
        wanted |= (rows - y) ** 2 + (columns - x) ** 2 <= radius**2
    assert (dilated(points, radius) == wanted).all()
    assert not dilated(np.zeros_like(points), radius).any()


def test_boundary_map_leaves_the_last_corner():
    picture = np.zeros((3, 3), dtype=bool)
    picture[2, 2] = True
    assert boundary_map(picture).tolist() == [[False] * 3, [False, True, True], [False, True, False]]


def test_both_empty_is_perfect_and_void_pixels_do_not_count():
    nothing = np.zeros((1, 4, 4), dtype=bool)
    assert region_similarity(nothing, nothing)[0] == contour_accuracy(nothing, nothing)[0] == 1.0
    everything = ~nothing
    assert region_similarity(everything, nothing, void=everything)[0] == 1.0
    assert contour_accuracy(everything, nothing, void=everything)[0] == 1.0


def test_clips_of_other_shapes_and_short_clips_are_told():
    with pytest.raises(DataError, match="the clips differ"):
        region_similarity(np.zeros((1, 4, 4), dtype=bool), np.zeros((2, 4, 4), dtype=bool))
    with pytest.raises(DataError, match="none left"):
        clip_statistics(np.array([1.0, 1.0]))


def test_decay_of_a_long_clip_is_right():
    values = np.concatenate([np.ones(300), np.zeros(302)])
    assert clip_statistics(values).decay == 1.0
    assert clip_statistics(np.array([0.0, 0.3, 0.9, 0.0]), (0, 0)).mean == pytest.approx(0.3)
