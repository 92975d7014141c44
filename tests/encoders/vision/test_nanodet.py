"""NanoDet-Plus: parity with the published layer graph, decoding and suppression against loops."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from refseg.encoders.vision.nanodet import (
    NanoDet,
    NanoDetConfig,
    decode,
    normalise,
    suppress,
)
from refseg.encoders.vision.nanodet_weights import from_nanodet
from refseg.errors import CheckpointError, ConfigError
from refseg.nn.boxes import pair_iou

GOLDEN = json.loads((Path(__file__).parents[2] / "golden/nanodet/plus_m_64.json").read_text())
TINY = NanoDetConfig(stem_width=4, widths=(8, 12, 16), depths=(1, 1, 1), pyramid=8, classes=3, side=64)


def published_state():
    """The rule of tests/golden: every tensor from its published name."""
    state = {}
    for name, shape in GOLDEN["keys"].items():
        z = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape).astype(np.float32)
        state[name] = torch.from_numpy(np.float32(z / np.sqrt(np.prod(shape[1:])) if len(shape) >= 2 else 0.1 * z))
    return state


@pytest.fixture(scope="module")
def published():
    rows, columns = np.mgrid[:64, :64]
    picture = np.stack([3 * rows + 5 * columns, 7 * rows + columns, rows * columns], axis=-1) % 256
    net = NanoDet().eval()
    net.load_state_dict(from_nanodet(published_state()))
    with torch.inference_mode():
        return net(normalise([picture.astype(np.uint8)], 64))


def test_outputs_are_those_of_the_published_graph(published):
    for level, out, maps in zip(GOLDEN["levels"], published.outputs, published.pyramid, strict=True):
        assert list(out.shape) == level["shape"]
        # Some 110 layers in single precision: relative to the largest value.
        tolerance = 1e-4 * level["absmax"]
        found = out.flatten()[level["index"]]
        torch.testing.assert_close(found, torch.tensor(level["value"]), rtol=0, atol=tolerance)
        pyramid = maps.flatten()[level["pyramid_index"]]
        torch.testing.assert_close(pyramid, torch.tensor(level["pyramid_value"]), rtol=0, atol=1e-4)


def test_best_boxes_are_those_of_the_published_formula(published):
    decoded = decode(published.outputs, 80)
    scores, labels = decoded.logits[0].sigmoid().max(dim=1)
    sizes = [each.shape[-1] for each in published.outputs]
    for best in GOLDEN["best"]:
        level = (8, 16, 32, 64).index(best["stride"])
        start = sum(size * size for size in sizes[:level])
        place = start + best["row"] * sizes[level] + best["column"]
        assert labels[place] == best["label"]
        assert float(scores[place]) == pytest.approx(best["score"], abs=1e-4)
        assert decoded.boxes[0, place].tolist() == pytest.approx(best["box"], abs=0.02)


def test_a_certain_distribution_puts_the_side_at_its_bin():
    out = torch.zeros(1, 1 + 4 * 8, 2, 3)
    for side, wanted in enumerate((1, 2, 3, 4)):
        out[0, 1 + side * 8 + wanted] = 50.0
    boxes = decode([out], classes=1).boxes[0].view(2, 3, 4)
    for row in range(2):
        for column in range(3):
            x, y = column * 8, row * 8
            torch.testing.assert_close(boxes[row, column], torch.tensor([x - 8.0, y - 16.0, x + 24.0, y + 32.0]))


def test_levels_follow_each_other_and_pictures_are_apart():
    outputs = [torch.randn(2, 3 + 4 * 8, side, side) for side in (4, 2, 1, 1)]
    both, second = decode(outputs, 3), decode([each[1:] for each in outputs], 3)
    assert both.boxes.shape == (2, 16 + 4 + 1 + 1, 4)
    torch.testing.assert_close(both.boxes[1:], second.boxes)
    torch.testing.assert_close(both.logits[0, 16:20], outputs[1][0, :3].flatten(1).T)


def test_suppression_against_a_loop():
    generator = torch.Generator().manual_seed(3)
    corner = torch.rand(60, 2, generator=generator) * 40
    boxes = torch.cat([corner, corner + 5 + torch.rand(60, 2, generator=generator) * 30], dim=1)
    scores, labels = torch.rand(60, generator=generator), torch.randint(0, 3, (60,), generator=generator)
    kept = []
    for index in sorted(range(60), key=lambda number: -float(scores[number])):
        rivals = [
            other
            for other in kept
            if labels[other] == labels[index] and float(pair_iou(boxes[[other]], boxes[[index]])) > 0.5
        ]
        if not rivals:
            kept.append(index)
    assert suppress(boxes, scores, labels, 0.5).tolist() == kept
    assert len(kept) < 60


def test_nothing_to_suppress():
    empty = suppress(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.long), 0.5)
    assert empty.shape == (0,)


def test_every_parameter_gets_a_gradient():
    net = NanoDet(TINY)
    maps = net(torch.randn(2, 3, 64, 64))
    sum(each.square().sum() for each in maps.outputs).backward()
    without = [name for name, parameter in net.named_parameters() if parameter.grad is None]
    assert without == []


def test_tensors_of_other_sizes_or_names_are_refused():
    state = published_state()
    with pytest.raises(CheckpointError, match="missing: 109"):
        from_nanodet({name: value for name, value in state.items() if not name.startswith("109")})
    with pytest.raises(CheckpointError, match="of these sizes"):
        from_nanodet(state, NanoDetConfig(classes=79))


@pytest.mark.parametrize("fields", [{"side": 400}, {"classes": 0}, {"bins": 1}, {"widths": (115, 232, 464)}])
def test_bad_sizes_are_named(fields):
    with pytest.raises(ConfigError):
        NanoDetConfig(**fields)


def test_normalise_takes_any_size_and_keeps_colours_in_order():
    red = np.zeros((10, 30, 3), np.uint8)
    red[..., 0] = 255
    pixels = normalise([red, red[:7, :5]], 64)
    assert pixels.shape == (2, 3, 64, 64)
    assert float(pixels[0, 0].mean()) == pytest.approx((255 - 123.675) / 58.395, rel=1e-5)
    assert float(pixels[1, 2].mean()) == pytest.approx(-103.53 / 57.375, rel=1e-5)
