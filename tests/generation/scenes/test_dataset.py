import itertools
import pickle

import numpy as np
import pytest

from refseg.errors import RefsegError
from refseg.generation.scenes import SceneDataset, SceneStream, drawn_samples, scene_samples


def test_dataset_is_a_picklable_sequence():
    data = pickle.loads(pickle.dumps(SceneDataset(1, 3, size=96, sentences=6)))
    assert len(data) == 3
    assert np.array_equal(data[-1].image, data[2].image)
    with pytest.raises(IndexError):
        data[3]
    with pytest.raises(RefsegError, match="-1 scenes"):
        SceneDataset(0, -1)


def test_streams_of_workers_share_out_the_scenes():
    whole = [scene.index for scene in itertools.islice(SceneStream(1, size=64, sentences=4), 4)]
    parts = [
        [scene.index for scene in itertools.islice(SceneStream(1, size=64, sentences=4, start=start, step=2), 2)]
        for start in (0, 1)
    ]
    assert whole == [0, 1, 2, 3]
    assert parts == [[0, 2], [1, 3]]


def test_samples_carry_picture_masks_and_kind():
    scene = SceneDataset(2, 1, size=96)[0]
    for sample, expression in zip(scene_samples(scene), scene.expressions, strict=True):
        assert sample.text == expression.text
        assert sample.kind == expression.kind
        assert sample.no_target == (not expression.targets)
        assert np.array_equal(sample.mask(), scene.mask(expression))
        assert [item.category for item in sample.objects] == [scene.things[i].category for i in expression.targets]
    assert scene_samples(scene)[0].read_image().size == (96, 96)


def test_drawn_samples_group_by_picture():
    data = drawn_samples(SceneDataset(2, 2, size=96, sentences=5))
    assert set(data.by_picture()) == {0, 1}
    assert len({sample.id for sample in data}) == len(data)
