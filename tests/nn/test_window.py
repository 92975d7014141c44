"""Window attention against a loop over single tokens, written from the Swin paper's section 3.2."""

import math

import pytest
import torch

from refseg.nn.window import MASKED, WindowAttention, window_layout


def looped(layer: WindowAttention, tokens: torch.Tensor, height: int, width: int, shift: int) -> torch.Tensor:
    """Every token asks every other of its window, one at a time."""
    window, heads = layer.window[0], layer.heads
    padded_height, padded_width = -(-height // window) * window, -(-width // window) * window
    channels = tokens.shape[-1] // heads
    result = torch.zeros_like(tokens)

    def place(row: int, column: int) -> tuple[int, int]:
        """Where a token stands after the map was rolled up and left by the shift."""
        return (row - shift) % padded_height, (column - shift) % padded_width

    def tile(row: int, column: int) -> tuple[int, int]:
        return row // window, column // window

    def region(position: int, length: int) -> int:
        if not shift or position < length - window:
            return 0
        return 1 if position < length - shift else 2

    def qkv(row: int, column: int) -> torch.Tensor:
        inside = row < height and column < width
        token = tokens[row * width + column] if inside else torch.zeros_like(tokens[0])
        return (layer.qkv.weight @ token + layer.qkv.bias).view(3, heads, channels)

    everything = [(row, column) for row in range(padded_height) for column in range(padded_width)]
    for row, column in everything:
        if row >= height or column >= width:
            continue
        here = place(row, column)
        neighbours = [other for other in everything if tile(*place(*other)) == tile(*here)]
        for head in range(heads):
            scores, values = [], []
            for other in neighbours:
                there = place(*other)
                down, right = (here[axis] % window - there[axis] % window + window - 1 for axis in (0, 1))
                bias = layer.relative_position_bias_table[down * (2 * window - 1) + right, head]
                query, key = qkv(row, column)[0, head], qkv(*other)[1, head]
                score = query @ key / math.sqrt(channels) + bias
                here_regions = (region(here[0], padded_height), region(here[1], padded_width))
                if here_regions != (region(there[0], padded_height), region(there[1], padded_width)):
                    score = score + MASKED
                scores.append(score)
                values.append(qkv(*other)[2, head])
            weights = torch.stack(scores).softmax(0)
            result[row * width + column, head * channels : (head + 1) * channels] = weights @ torch.stack(values)
    return result @ layer.proj.weight.T + layer.proj.bias


@pytest.mark.parametrize(("height", "width"), [(6, 6), (4, 7), (2, 2)])
@pytest.mark.parametrize("shift", [0, 1])
def test_equals_the_loop(height, width, shift):
    layer = WindowAttention(width=8, heads=2, window=(3, 3))
    torch.nn.init.normal_(layer.relative_position_bias_table)
    tokens = torch.randn(2, height * width, 8)
    layout = window_layout((height, width), (3, 3), (shift, shift), 2, tokens.device)
    with torch.no_grad():
        attended = layer(tokens, layout)
        for picture, expected in zip(tokens, attended, strict=True):
            torch.testing.assert_close(looped(layer, picture, height, width, shift), expected, rtol=1e-4, atol=1e-5)


def test_chunks_change_nothing(monkeypatch):
    layer = WindowAttention(width=8, heads=2, window=(3, 3))
    tokens = torch.randn(2, 81, 8)
    layout = window_layout((9, 9), (3, 3), (1, 1), 2, tokens.device)
    whole = layer(tokens, layout)
    monkeypatch.setattr("refseg.nn.window.CHUNK_BYTES", 1)
    with torch.inference_mode():
        torch.testing.assert_close(layer(tokens, layout), whole)


def test_windows_of_one_kind_are_worked_on_together():
    layout = window_layout((20, 20), (5, 5), (2, 2), 3, torch.device("cpu"))
    assert sorted(kind.windows for kind in layout.kinds) == [1, 3, 3, 9]
    assert not layout.padded
    assert len(layout.gather) == 3 * len(layout.scatter) == 3 * 3 * 400


def test_padding_asks_nothing():
    layout = window_layout((7, 10), (5, 5), (2, 2), 1, torch.device("cpu"))
    asking = sum(kind.windows * (25 if kind.queries is None else len(kind.queries)) for kind in layout.kinds)
    assert asking == len(layout.scatter) == 70
    assert layout.padded
    assert int(layout.gather.max()) == 70 * 3 + 2  # the padding's value
