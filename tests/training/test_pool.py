"""Scenes kept on disk are the scenes that were drawn, drawn once, and drawn again when their record is damaged."""

import json
import pickle
from dataclasses import replace

import numpy as np
import pytest

from refseg.errors import ConfigError
from refseg.generation.scenes import scene_samples
from refseg.training.pool import INDEX, META, RECORDS, ScenePool
from refseg.training.recipe import DataRecipe
from tests.support.tiny_system import draw_scene


def drawn(index):
    return scene_samples(draw_scene(7, index))


class Drawer:
    def __init__(self):
        self.calls = []

    def __call__(self, index):
        self.calls.append(index)
        return drawn(index)


def open_pool(folder, drawer, **changes):
    return ScenePool(folder, 5, 32, {"seed": 7, **changes}, drawer)


def same(pooled, samples):
    assert pooled == samples  # everything but pixels
    for one, other in zip(pooled, samples, strict=True):
        assert np.array_equal(one.image, other.image)
        assert np.array_equal(one.mask(), other.mask())


def test_a_scene_is_drawn_once_and_read_back_whole(tmp_path):
    drawer = Drawer()
    pool = open_pool(tmp_path / "pool", drawer)
    for index in (3, 0, 3, 0):
        same(pool[index], drawn(index))
    assert drawer.calls == [3, 0]
    assert (len(pool), pool.drawn()) == (5, 2)
    same(open_pool(tmp_path / "pool", drawer)[3], drawn(3))
    assert drawer.calls == [3, 0]
    with pytest.raises(IndexError):
        pool[5]


def test_a_damaged_record_is_drawn_again(tmp_path):
    drawer = Drawer()
    pool = open_pool(tmp_path, drawer)
    pool[1]
    with (tmp_path / RECORDS).open("r+b") as handle:
        handle.seek(pool.capacity + 100)
        handle.write(b"\x99\x01\x99")
    same(pool[1], drawn(1))
    assert drawer.calls == [1, 1]


def test_a_length_longer_than_its_record_is_damage_too(tmp_path):
    drawer = Drawer()
    pool = open_pool(tmp_path, drawer)
    pool[0]
    np.memmap(tmp_path / INDEX, np.int64, "r+", shape=(5, 2))[0] = (-7, 3)
    same(pool[0], drawn(0))


@pytest.mark.parametrize("name", [RECORDS, INDEX])
def test_files_that_are_cut_short_while_they_are_open_are_damage_too(tmp_path, name):
    """A memory map of them would end the process."""
    pool = open_pool(tmp_path, Drawer())
    pool[4]
    with (tmp_path / name).open("r+b") as handle:
        handle.truncate(10)
    same(pool[4], drawn(4))
    same(pool[1], drawn(1))


def test_a_full_disk_costs_drawing_again_and_not_the_run(tmp_path, monkeypatch, caplog):
    drawer = Drawer()
    pool = open_pool(tmp_path, drawer)

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("refseg.training.pool._write", full)
    for _ in range(2):
        same(pool[2], drawn(2))
    assert drawer.calls == [2, 2]
    assert [record.message for record in caplog.records].count(caplog.records[0].message) == 1
    assert "No space left" in caplog.text


def test_a_pool_travels_to_workers_without_its_open_files(tmp_path):
    pool = open_pool(tmp_path, Drawer())
    pool[2]
    copy = pickle.loads(pickle.dumps(pool))
    same(copy[2], drawn(2))
    assert copy.draw.calls == [2]


def test_a_folder_of_other_scenes_is_refused_by_name(tmp_path):
    open_pool(tmp_path, Drawer())
    with pytest.raises(ConfigError, match=r"drawn otherwise \(seed\)"):
        open_pool(tmp_path, Drawer(), seed=8)
    (tmp_path / META).write_text("{")
    with pytest.raises(ConfigError, match="not a pool"):
        open_pool(tmp_path, Drawer())


def test_close_ups_are_a_pool_of_their_own(tmp_path):
    recipe = DataRecipe(size=64, sentences=4, pool=2, pool_folder=str(tmp_path))
    assert "close_up" not in json.loads((ScenePool.of(recipe).folder / META).read_text())
    near = replace(recipe, close_up=True)
    with pytest.raises(ConfigError, match="close_up"):
        ScenePool.of(near)
    pool = ScenePool.of(replace(near, pool_folder=str(tmp_path / "near")))
    same(pool[1], scene_samples(draw_scene(0, 1, 64, 4, close_up=True)))


def test_the_file_is_sparse_and_its_key_readable(tmp_path):
    open_pool(tmp_path, Drawer())
    stat = (tmp_path / RECORDS).stat()
    assert stat.st_blocks * 512 < stat.st_size / 10
    assert json.loads((tmp_path / META).read_text())["seed"] == 7
