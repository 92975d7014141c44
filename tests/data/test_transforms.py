from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from refseg.data import Instance, Sample, open_dataset
from refseg.data.transforms import place_boxes, place_image, place_mask, place_objects
from refseg.errors import ConfigError, DataError
from refseg.geometry import InputConfig, geometry_of

GOLDEN = Path(__file__).parent.parent / "golden" / "data"
CONFIGS = [
    InputConfig(size=64),
    InputConfig(size=64, resize="letterbox"),
    InputConfig(size=50, resize="longest", divisor=8),
    InputConfig(size=50, resize="longest", divisor=1),
]
SIZES = st.tuples(st.integers(1, 200), st.integers(1, 200))


def test_the_published_mapper_of_rela() -> None:
    """Warped pictures and masks at 480 x 480 against the stored results of ReLA's published mapper."""
    expected = np.load(GOLDEN / "mapper.npz")
    config = InputConfig()
    checked = set()
    for sample in open_dataset(GOLDEN, need_pictures=False):
        key = f"model_mask_ref{sample.ref_id}"
        if key in expected:
            masks = place_objects(sample.objects, geometry_of(sample.size, config), config)
            wanted = np.unpackbits(expected[key]).reshape(480, 480).astype(bool)
            assert (masks.any(dim=0).numpy() == wanted).all()
            checked.add(sample.ref_id)
        if sample.ref_id == 3:
            pixels, real, _ = place_image(sample.read_image(), config)
            colours = pixels * torch.tensor(config.std).view(3, 1, 1) + torch.tensor(config.mean).view(3, 1, 1)
            wanted = expected["image_388882_every_12th"].astype(float)
            # decoders of JPEG may differ by a level or two
            assert np.abs(colours.numpy()[:, ::12, ::12] - wanted).max() < 2.5
            assert real.all()
    assert checked == {0, 1, 3}


@given(SIZES, st.sampled_from(CONFIGS))
def test_geometry_and_its_inverse(size: tuple[int, int], config: InputConfig) -> None:
    geometry = geometry_of(size, config)
    points = np.random.default_rng(0).uniform(0, 1, (5, 2)) * size[::-1]
    placed = geometry.to_model(points)
    assert np.allclose(geometry.to_original(placed), points)
    top, left, bottom, right = geometry.content()
    assert (placed >= [left - 1e-6, top - 1e-6]).all()
    assert (placed <= [right + 1e-6, bottom + 1e-6]).all()
    assert bottom <= geometry.model_size[0]
    assert right <= geometry.model_size[1]
    assert geometry.model_size[0] % config.divisor == 0
    if config.resize != "warp":
        assert max(bottom - top, right - left) == config.size


@given(SIZES, st.sampled_from(CONFIGS))
def test_pictures_and_masks_land_on_the_same_pixels(size: tuple[int, int], config: InputConfig) -> None:
    mask = np.zeros(size, dtype=bool)
    mask[: (size[0] + 1) // 2] = True
    pixels, real, geometry = place_image(np.where(mask, 255, 0).astype(np.uint8), config)
    placed = place_mask(mask, geometry)
    assert pixels.shape[1:] == real.shape == placed.shape == geometry.model_size
    top, left, bottom, right = geometry.content()
    assert int(real.sum()) == (bottom - top) * (right - left)
    assert not (placed & ~real).any()
    bright = (pixels[0] * config.std[0] + config.mean[0] > 127.5) & real
    rows = (bright != placed).any(dim=1).sum()
    assert rows <= max(2, 2 * (bottom - top) // size[0] + 1)  # only where the edge is blurred


def test_padding_has_the_colour_asked_for() -> None:
    image = Image.new("RGB", (20, 10), (200, 0, 0))
    letterbox = InputConfig(size=32, resize="letterbox")
    pixels, real, geometry = place_image(image, letterbox)
    assert geometry.content() == (8, 0, 24, 32)
    assert (pixels[:, ~real] == 0).all()
    grey, _, _ = place_image(image, replace(letterbox, padding=(128.0, 128.0, 128.0)))
    assert torch.allclose(grey[0, ~real], torch.tensor((128 - 123.675) / 58.395))
    assert (grey[:, real] == pixels[:, real]).all()


def test_longest_pads_right_and_bottom_to_the_divisor() -> None:
    pixels, real, geometry = place_image(Image.new("RGB", (100, 30)), InputConfig(size=50, resize="longest", divisor=8))
    assert pixels.shape == (3, 16, 56)
    assert geometry.content() == (0, 0, 15, 50)
    assert real[:15, :50].all()
    assert int(real.sum()) == 750


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"size": 100}, "multiple of divisor 32; 96 is"),
        ({"size": 0}, "size=0: 8 or more"),
        ({"divisor": 0}, "divisor=0: 1 or more"),
        ({"std": (1.0, 0.0, 1.0)}, "std"),
        ({"padding": (0.0, 300.0, 0.0)}, "0 or more and 255 or less"),
    ],
)
def test_bad_configurations(change: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        InputConfig(**change)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [
        {"size": 32},
        {"resize": "warp"},
        {"resize": "longest"},
        {"interpolation": "bicubic"},
        {"mean": (0.0, 1.0, 2.0)},
        {"std": (1.0, 2.0, 3.0)},
        {"padding": (1.0, 2.0, 3.0)},
        {"rasterise": "original"},
    ],
)
def test_every_field_changes_pictures_or_targets(change: dict[str, object]) -> None:
    base = InputConfig(size=64, resize="letterbox")
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 47, 3), dtype=np.uint8))
    item = Instance(1, "ball", (0.0, 0.0, 9.0, 9.0), [np.array([1.2, 1.3, 40.4, 5.1, 20.7, 28.2])])

    def outcome(config: InputConfig) -> bytes:
        pixels, _, geometry = place_image(image, config)
        return pixels.numpy().tobytes() + place_objects([item], geometry, config).numpy().tobytes()

    assert outcome(base) != outcome(replace(base, **change))  # type: ignore[arg-type]


def test_the_divisor_changes_the_padding() -> None:
    image = Image.new("RGB", (100, 30))
    shapes = {place_image(image, InputConfig(size=50, resize="longest", divisor=d))[0].shape for d in (1, 8, 32)}
    assert len(shapes) == 3


def test_boxes_are_fractions_of_the_picture_without_padding() -> None:
    sample = Sample(
        "0_0", "x", 1, (40, 80), (Instance(1, "", (20.0, 10.0, 60.0, 30.0)), Instance(2, "", (-5.0, 0.0, 90.0, 40.0)))
    )
    for config in CONFIGS:
        boxes = place_boxes(sample, geometry_of(sample.size, config))
        assert torch.allclose(boxes, torch.tensor([[0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0]]))


def test_no_objects_and_wrong_masks() -> None:
    config = CONFIGS[0]
    geometry = geometry_of((10, 10), config)
    assert place_objects((), geometry, config).shape == (0, 64, 64)
    with pytest.raises(DataError, match="the picture is"):
        place_mask(np.zeros((3, 3), dtype=bool), geometry)
