"""Where queries look, against a loop, and the mask head's sizes."""

from __future__ import annotations

import math

import pytest
import torch

from refseg.errors import ConfigError
from refseg.models.reftr.heads import AttentionMaps, MaskHead


@torch.no_grad()
def test_one_softmax_over_heads_and_pixels() -> None:
    looks = AttentionMaps(8, 2)
    queries, maps = torch.randn(2, 3, 8), torch.randn(2, 8, 2, 3)
    real = torch.ones(2, 2, 3, dtype=torch.bool)
    real[1, 1] = False
    found = looks(queries, maps, real)
    assert found.shape == (2, 3, 2, 2, 3)
    for picture in range(2):
        for query in range(3):
            asking = looks.query(queries[picture, query])
            weights = torch.zeros(2, 2, 3)
            for head in range(2):
                part = slice(4 * head, 4 * head + 4)
                for row in range(2):
                    for column in range(3):
                        if real[picture, row, column]:
                            key = looks.key(maps[picture, :, row, column])
                            weights[head, row, column] = math.exp(float(asking[part] @ key[part]) / math.sqrt(4))
            assert torch.allclose(found[picture, query], weights / weights.sum(), atol=1e-6)


def test_mask_head_doubles_to_the_sizes_of_the_skips() -> None:
    head = MaskHead(34, 32, {4: 5, 8: 6, 16: 7}, groups=2)
    maps = {16: torch.randn(2, 7, 3, 5), 8: torch.randn(2, 6, 5, 9), 4: torch.randn(2, 5, 10, 17)}
    skips = head.encode(maps)
    assert [tuple(skip.shape[1:]) for skip in skips] == [(16, 3, 5), (8, 5, 9), (4, 10, 17)]
    logits, features = head(torch.randn(2, 34, 2, 3), skips)
    assert tuple(logits.shape) == (2, 10, 17)
    assert tuple(features.shape) == (2, 2, 10, 17)
    assert not any(bias.any() for name, bias in head.named_parameters() if name.endswith("bias") and "norm" not in name)


def test_impossible_sizes() -> None:
    with pytest.raises(ConfigError, match="multiple of 16"):
        MaskHead(34, 24, {4: 5, 8: 6, 16: 7}, groups=2)
    with pytest.raises(ConfigError, match="groups=8"):
        MaskHead(34, 32, {4: 5, 8: 6, 16: 7}, groups=8)
    with pytest.raises(ConfigError, match="heads=3"):
        AttentionMaps(8, 3)
