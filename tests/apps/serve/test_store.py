"""Pictures that are kept: which are forgotten, and when."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from refseg.apps.serve.errors import ServeError
from refseg.apps.serve.metrics import Metrics
from refseg.apps.serve.pictures import Budget, decode_base64, decode_picture, picture_size
from refseg.apps.serve.store import Store, size_of
from tests.apps.serve.conftest import bomb, encoded, segmenter

PICTURE = Image.new("RGB", (100, 100))  # 30,000 bytes


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def make(most: int = 100_000, seconds: float = 60.0, **given: object) -> tuple[Store, Clock]:
    clock = Clock()
    return Store(most, seconds, Metrics(), clock=clock, **given), clock  # type: ignore[arg-type]


def test_the_least_recently_used_goes_first() -> None:
    store, _ = make()
    first, second, third = (store.add(PICTURE.copy()) for _ in range(3))
    assert store.get(first.id) is first
    fourth = store.add(PICTURE.copy())
    assert store.get(second.id) is None
    assert [store.get(kept.id) for kept in (first, third, fourth)] == [first, third, fourth]
    assert store.bytes == 90_000


def test_a_picture_larger_than_the_bound_is_kept_alone() -> None:
    store, _ = make(most=10_000)
    store.add(PICTURE.copy())
    large = store.add(PICTURE.copy())
    assert store.get(large.id) is large
    assert len(store) == 1


def test_time_counts_from_the_last_use() -> None:
    store, clock = make()
    kept = store.add(PICTURE.copy())
    clock.now += 59
    assert store.get(kept.id) is kept
    clock.now += 59
    assert store.get(kept.id) is kept
    clock.now += 61
    assert store.get(kept.id) is None
    assert store.bytes == 0


def test_what_a_model_keeps_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    store, _ = make()
    kept = store.add(PICTURE.copy())
    kept.encoded["m"] = {"features": torch.zeros(10, 10), "more": [np.zeros(50, np.uint8)]}  # type: ignore[assignment]
    store.measure(kept)
    assert store.bytes == 30_000 + 400 + 50


def test_the_size_of_a_real_encoded_picture_is_its_tensors_and_not_the_model() -> None:
    picture = segmenter().encode(np.zeros((60, 80, 3), np.uint8))
    weights = sum(value.nbytes for value in segmenter().model.parameters())
    assert 3 * 60 * 80 < size_of(picture) < weights


def test_another_worker_finds_the_bytes(tmp_path: Path) -> None:
    one, clock = make(spool=tmp_path)
    other, _ = make(spool=tmp_path)
    kept = one.add(PICTURE.copy(), b"data")
    assert other.get(kept.id) is None
    os.utime(tmp_path / kept.id, (clock.now, clock.now))
    assert other.spooled(kept.id) == b"data"
    os.utime(tmp_path / kept.id, (clock.now - 61, clock.now - 61))
    assert other.spooled(kept.id) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("id", ["../secret", "a/b", "", ".", "x" * 22 + "/..", "/etc/passwd"])
def test_no_id_leads_out_of_the_folder(tmp_path: Path, id: str) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    folder = tmp_path / "spool"
    folder.mkdir()
    store, _ = make(spool=folder)
    assert store.spooled(id) is None
    assert not store.remove(id)


def test_the_shared_folder_is_bounded(tmp_path: Path) -> None:
    store, _ = make(spool=tmp_path, spool_most=250)
    kept = [store.add(PICTURE.copy(), bytes(100)) for _ in range(4)]
    assert len(list(tmp_path.iterdir())) == 2
    assert store.remove(kept[-1].id)
    assert not (tmp_path / kept[-1].id).exists()


def test_a_full_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: object, content: bytes) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("refseg.apps.serve.store.write_bytes", full)
    store, _ = make(spool=tmp_path)
    kept = store.add(PICTURE.copy(), b"data")
    assert store.get(kept.id) is kept
    assert list(tmp_path.iterdir()) == []


def test_the_size_is_known_before_the_pixels() -> None:
    with pytest.raises(ServeError) as refused:
        picture_size(bomb(), 50_000_000)
    assert refused.value.status == 413
    assert picture_size(encoded(Image.new("RGB", (30, 20))), 600) == (30, 20)
    with pytest.raises(ServeError):
        picture_size(encoded(Image.new("RGB", (30, 20))), 599)
    assert picture_size(b"\x7fELF program", 600) is None


def test_memory_of_requests_is_bounded_and_given_back() -> None:
    budget = Budget(5000, Metrics())  # of pictures of 2700 bytes, one
    data = encoded(Image.new("RGB", (30, 30)))
    with budget.taking() as one:
        decode_picture(data, 10_000, one)
        assert budget.used == 2700
        with budget.taking() as other:
            with pytest.raises(ServeError) as refused:
                decode_picture(data, 10_000, other)
            assert refused.value.status == 429
            assert budget.used == 2700
    assert budget.used == 0
    with budget.taking() as alone:  # a request that could never be answered otherwise
        alone.take(6000)
    assert budget.used == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("http://127.0.0.1/secret.jpg", "not fetched"),
        ("file:///etc/passwd", "not fetched"),
        ("data:image/png,abc", "base64"),
        ("not base64!", "base64"),
    ],
)
def test_nothing_but_base64_is_taken(text: str, said: str) -> None:
    with pytest.raises(ServeError, match=said) as refused:
        decode_base64(text)
    assert refused.value.status == 422


def test_data_addresses_are_read() -> None:
    assert decode_base64("data:image/png;base64,aGk=") == decode_base64("aGk=") == b"hi"
