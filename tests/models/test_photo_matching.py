"""Features of regions from similarities, the dynamic mask head, and the no-target head of the best region."""

from __future__ import annotations

import pytest
import torch

from refseg.models.photo.matching import (
    FEATURES,
    BestRegion,
    DynamicMaskHead,
    class_features,
    color_features,
    rank_features,
    region_features,
)


def three_things() -> torch.Tensor:
    """Three things beside one another on 20 x 20 places, the middle one twice as high."""
    similarity = torch.zeros(1, 20, 20)
    similarity[0, 8:12, 0:4] = similarity[0, 4:12, 8:12] = similarity[0, 8:12, 16:20] = 0.8
    return similarity


def test_things_are_counted_from_all_sides() -> None:
    similarity = three_things()
    relative = torch.nn.functional.adaptive_max_pool2d(similarity[:, None], 5).flatten(1) / 0.8
    found = rank_features(similarity, relative, 5)[0].view(5, 5, 6)
    # Halves of a count, along the row in which all three lie.
    assert found[2, [0, 2, 4], 0].tolist() == pytest.approx([0.5, 1.0, 1.5], abs=0.02)  # from the left
    assert found[2, [0, 2, 4], 1].tolist() == pytest.approx([1.5, 1.0, 0.5], abs=0.02)  # from the right
    assert found[2, [0, 2, 4], 2].tolist() == pytest.approx([0.5, 0.5, 0.5], abs=0.02)  # all in the first row
    assert found[0, :, :].abs().max() == 0  # nothing fits there
    mirrored = rank_features(similarity.flip(2), relative.view(1, 5, 5).flip(2).flatten(1), 5)[0].view(5, 5, 6)
    torch.testing.assert_close(mirrored.flip(1)[..., [1, 0, 2, 3, 4, 5]], found)


def test_the_biggest_has_the_most_around_it() -> None:
    similarity = three_things()
    relative = torch.nn.functional.adaptive_max_pool2d(similarity[:, None], 5).flatten(1) / 0.8
    mass = rank_features(similarity, relative, 5)[0].view(5, 5, 6)[..., 4]
    assert mass[2, 2] == mass.max()
    assert mass[2, 0] < 0.75
    assert mass[2, 4] < 0.75


def test_nothing_that_fits_has_no_rank() -> None:
    assert not rank_features(torch.zeros(1, 6, 6), torch.zeros(1, 9), 3).any()


def test_places_are_told_among_what_fits() -> None:
    similarity = torch.zeros(1, 5, 5)
    similarity[0, 2, 1], similarity[0, 2, 3] = 1.0, 0.8  # two things in a row
    found = class_features(similarity)[0].view(5, 5, 6)
    left, right = found[2, 1], found[2, 3]
    assert left[:2].tolist() == [1.0, 1.0]
    assert right[1] == pytest.approx(0.8)
    weights = [1.0 + 1e-3, 0.64 + 1e-3, *[1e-3] * 23]
    xs = [-0.5, 0.5, *[x for y in range(5) for x in (-1, -0.5, 0, 0.5, 1) if (y, x) not in ((2, -0.5), (2, 0.5))]]
    total = sum(weights)
    mean = sum(w * x for w, x in zip(weights, xs, strict=True)) / total
    spread = (sum(w * (x - mean) ** 2 for w, x in zip(weights, xs, strict=True)) / total + 0.01) ** 0.5
    assert left[2] == pytest.approx((-0.5 - mean) / spread, abs=1e-5)
    assert right[3] == pytest.approx((0.5 - mean) / spread * 0.8, abs=1e-5)
    assert abs(float(left[4])) < 0.2  # both are at the same height
    turned = class_features(similarity.transpose(1, 2))[0].view(5, 5, 6).transpose(0, 1)
    torch.testing.assert_close(turned[..., 4:], found[..., 2:4])


def test_colors_are_told_beside_what_fits_the_noun() -> None:
    relative = torch.tensor([[1.0, 1.0, 0.0]])
    found = color_features(torch.tensor([[0.9, 0.1, 0.9]]), relative)[0]
    assert found[:, 0].tolist() == pytest.approx([0.9, 0.1, 0.9])
    assert found[:, 1].tolist() == pytest.approx([0.9, 0.1, 0.0])
    assert found[0, 2] > 0.9
    assert found[1, 2] < -0.9
    assert found[2, 2] == 0
    assert not color_features(torch.zeros(1, 3), relative).any()


def test_region_features_are_of_classes_colors_and_ranks() -> None:
    classes, colors = torch.rand(2, 6, 6), torch.rand(2, 6, 6)
    found = region_features(classes, colors, 3)
    assert found.shape == (2, 9, FEATURES)
    pooled = class_features(torch.nn.functional.adaptive_max_pool2d(classes[:, None], 3)[:, 0])
    torch.testing.assert_close(found[..., :6], pooled)
    mean = torch.nn.functional.adaptive_avg_pool2d(colors[:, None], 3).flatten(1)
    torch.testing.assert_close(found[..., 6:9], color_features(mean, pooled[..., 1]))
    torch.testing.assert_close(found[..., 9:], rank_features(classes, pooled[..., 1], 3))


@torch.no_grad()
@pytest.mark.parametrize("image_index", [None, torch.tensor([1, 0, 1])])
def test_the_dynamic_mask_head_is_an_mlp_of_each_pixel(image_index: torch.Tensor | None) -> None:
    head = DynamicMaskHead(units=4, width=6, text_width=5, maps=2)
    torch.nn.init.normal_(head.outer.weight)
    kernels, sentence, maps = torch.randn(3, 6), torch.randn(3, 5), torch.randn(3, 2, 3, 4)
    pixels = torch.randn(3 if image_index is None else 2, 6, 3, 4)
    found = head(kernels, sentence, pixels, maps, image_index)
    about = torch.cat([head.norm(kernels), sentence], dim=1)
    for b in range(3):
        inner, outer = head.inner(about[b]).view(4, 9), head.outer(about[b])
        place = b if image_index is None else int(image_index[b])
        for y, x in ((0, 0), (2, 3), (1, 2)):
            inputs = torch.cat([pixels[place, :, y, x], maps[b, :, y, x]])
            units = (inner[:, :8] @ inputs + inner[:, 8]).relu()
            torch.testing.assert_close(found[b, y, x], outer[:4] @ units + outer[4])


@torch.no_grad()
def test_the_no_target_part_is_of_the_most_probable_regions() -> None:
    head = BestRegion(width=6, features=2)
    regions, minimap, features = torch.randn(2, 9, 6), torch.randn(2, 9), torch.randn(2, 9, 2)
    assert not head(regions, minimap, features).any()  # nothing at first
    torch.nn.init.normal_(head.outer.weight)
    before = head(regions, minimap, features)
    minimap[0, 4] = 40.0
    one = head(regions, minimap, features)
    regions[0, :4], regions[0, 5:] = 0.0, 0.0  # improbable regions do not count
    torch.testing.assert_close(head(regions, minimap, features), one)
    assert abs(float(one[0] - before[0])) > 0.1
    features[1, 3, 1] = 9.0
    assert abs(float((head(regions, minimap, features) - before)[1])) > 0.1
