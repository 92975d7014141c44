"""Order and size among what fits, and the second mask."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from refseg.errors import ConfigError
from refseg.models.photo.matches import RANK_FEATURES, BestVerdict, HiddenMask, rank_features
from refseg.models.rela.regions import TAG_MAPS, RegionDecoder, RegionDecoderConfig
from refseg.models.rela.relations import StackedRLAConfig
from refseg.nn.pyramid import PyramidFeatures
from refseg.types import TextFeatures

CONFIG = RegionDecoderConfig(
    source="pixel_decoder", stride=8, rla=StackedRLAConfig(layers=2, heads=2, feedforward=8), classes=2
)


def three_things() -> torch.Tensor:
    """Three things beside one another on 20 x 20 places, the middle one twice as high."""
    fits = torch.zeros(1, 20, 20)
    fits[0, 8:12, 0:4] = fits[0, 4:12, 8:12] = fits[0, 8:12, 16:20] = 0.8
    return fits


def test_things_are_counted_from_all_sides() -> None:
    fits = three_things()
    relative = torch.nn.functional.adaptive_max_pool2d(fits[:, None], 5).flatten(1) / 0.8
    found = rank_features(fits, relative, 5)[0].view(5, 5, RANK_FEATURES)
    # Halves of a count, along the row in which all three lie.
    assert found[2, [0, 2, 4], 0].tolist() == pytest.approx([0.5, 1.0, 1.5], abs=0.02)  # from the left
    assert found[2, [0, 2, 4], 1].tolist() == pytest.approx([1.5, 1.0, 0.5], abs=0.02)  # from the right
    assert found[2, [0, 2, 4], 2].tolist() == pytest.approx([0.5, 0.5, 0.5], abs=0.02)  # all in the first row
    assert found[0, :, :].abs().max() == 0  # nothing fits there
    mirrored = rank_features(fits.flip(2), relative.view(1, 5, 5).flip(2).flatten(1), 5)[0].view(5, 5, RANK_FEATURES)
    torch.testing.assert_close(mirrored.flip(1)[..., [1, 0, 2, 3, 4, 5]], found)


def test_the_biggest_has_the_most_around_it() -> None:
    fits = three_things()
    relative = torch.nn.functional.adaptive_max_pool2d(fits[:, None], 5).flatten(1) / 0.8
    mass = rank_features(fits, relative, 5)[0].view(5, 5, RANK_FEATURES)[..., 4]
    assert mass[2, 2] == mass.max()
    assert mass[2, 0] < 0.75
    assert mass[2, 4] < 0.75


def test_nothing_that_fits_has_no_rank() -> None:
    assert not rank_features(torch.zeros(1, 6, 6), torch.zeros(1, 9), 3).any()


@torch.no_grad()
@pytest.mark.parametrize("picture", [None, torch.tensor([1, 0, 1])])
def test_the_second_mask_is_a_perceptron_of_each_pixel(picture: torch.Tensor | None) -> None:
    torch.manual_seed(0)
    hidden = HiddenMask(units=4, width=6, text_width=5, maps=2)
    torch.nn.init.normal_(hidden.outer.weight)
    kernels, sentence, maps = torch.randn(3, 6), torch.randn(3, 5), torch.randn(3, 2, 3, 4)
    pixels = torch.randn(3 if picture is None else 2, 6, 3, 4)
    found = hidden(kernels, sentence, pixels, maps, picture)
    about = torch.cat([hidden.norm(kernels), sentence], dim=1)
    for b in range(3):
        inner, outer = hidden.inner(about[b]).view(4, 9), hidden.outer(about[b])
        place = b if picture is None else int(picture[b])
        for y, x in ((0, 0), (2, 3), (1, 2)):
            seen = torch.cat([pixels[place, :, y, x], maps[b, :, y, x]])
            units = (inner[:, :8] @ seen + inner[:, 8]).relu()
            torch.testing.assert_close(found[b, y, x], outer[:4] @ units + outer[4])


@torch.no_grad()
def test_the_verdict_is_of_the_regions_most_wanted() -> None:
    torch.manual_seed(0)
    verdict = BestVerdict(width=6, features=2)
    regions, minimap, features = torch.randn(2, 9, 6), torch.randn(2, 9), torch.randn(2, 9, 2)
    assert not verdict(regions, minimap, features).any()  # nothing at first
    torch.nn.init.normal_(verdict.outer.weight)
    before = verdict(regions, minimap, features)
    minimap[0, 4] = 40.0
    one = verdict(regions, minimap, features)
    regions[0, :4], regions[0, 5:] = 0.0, 0.0  # what is not wanted does not count
    torch.testing.assert_close(verdict(regions, minimap, features), one)
    assert not torch.allclose(one[0], before[0])
    features[1, 3, 1] = 9.0
    assert not torch.allclose(verdict(regions, minimap, features)[1], before[1])


def decoder(config: RegionDecoderConfig, text_width: int) -> RegionDecoder:
    torch.manual_seed(0)
    return RegionDecoder(config, {8: 8, 16: 8, 32: 8}, text_width=text_width, width=8, regions=3).eval()


def inputs(text_width: int) -> tuple[PyramidFeatures, torch.Tensor, TextFeatures, dict[int, torch.Tensor]]:
    torch.manual_seed(1)
    pyramid = PyramidFeatures(torch.randn(2, 8, 12, 12), [torch.randn(2, 8, side, side) for side in (2, 3, 6)])
    words = torch.randn(2, 4, text_width)
    text = TextFeatures(words, words.mean(dim=1), torch.ones(2, 4, dtype=torch.bool))
    maps = {stride: torch.randn(2, 8, side, side) for stride, side in ((8, 6), (16, 3), (32, 2))}
    return pyramid, torch.ones(2, 48, 48, dtype=torch.bool), text, maps


@torch.no_grad()
def test_the_second_mask_begins_as_nothing_and_changes_the_last_answer_alone() -> None:
    pyramid, real, text, maps = inputs(8)
    model = decoder(replace(CONFIG, mask_hidden=4), 8)
    state = model.encode(maps, pyramid, real)
    before = model.decode(state, text, None)
    assert model.hidden is not None
    torch.nn.init.normal_(model.hidden.outer.weight)
    after = model.decode(state, text, None)
    plain = decoder(CONFIG, 8).decode(state, text, None)
    assert not torch.allclose(before.last.mask_logits, after.last.mask_logits)
    torch.testing.assert_close(before.earlier[0].mask_logits, after.earlier[0].mask_logits)
    assert before.last.mask_logits.shape == plain.last.mask_logits.shape


@torch.no_grad()
def test_tags_are_matched_after_the_classes() -> None:
    pyramid, real, text, maps = inputs(8)
    model = decoder(replace(CONFIG, tag_matches=True), 8)
    tags = torch.rand(2, 3, 6, 6)
    state = model.encode({**maps, TAG_MAPS: tags}, pyramid, real)
    matches, _ = model._matches(state, text, None)
    assert state.classes is not None
    assert state.classes.shape[1] == 5
    expected = torch.einsum("bk,bkhw->bhw", text.sentence[:, 3:], state.classes)
    torch.testing.assert_close(matches, expected)
    torch.testing.assert_close(state.classes[:, 2:], tags)


@torch.no_grad()
def test_ranks_reach_the_answers() -> None:
    pyramid, real, text, maps = inputs(8)
    plain, told = decoder(CONFIG, 8), decoder(replace(CONFIG, ranks=True), 8)
    assert told.match is not None
    assert plain.match is not None
    assert told.match.in_features == plain.match.in_features + RANK_FEATURES
    state = told.encode(maps, pyramid, real)
    before = told.decode(state, text, None).last.minimap_logits
    told.match.weight[:, -RANK_FEATURES:] += 1.0
    assert not torch.allclose(before, told.decode(state, text, None).last.minimap_logits)


@torch.no_grad()
@pytest.mark.parametrize("classes", [0, 2])
def test_the_verdict_of_the_best_is_added(classes: int) -> None:
    pyramid, real, text, maps = inputs(8)
    model = decoder(replace(CONFIG, classes=classes, verdict_of_best=True), 8)
    assert model.verdict is not None
    state = model.encode(maps, pyramid, real)
    before = model.decode(state, text, None)
    model.verdict.outer.bias += 1.5
    after = model.decode(state, text, None)
    torch.testing.assert_close(after.last.no_target_logits, before.last.no_target_logits + 1.5)
    torch.testing.assert_close(after.last.mask_logits, before.last.mask_logits)


@pytest.mark.parametrize("name", ["tag_matches", "ranks", "colours"])
def test_they_need_classes(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"relation\.{name}"):
        RegionDecoderConfig(**{name: True})  # type: ignore[arg-type]


def test_hidden_units_are_no_fewer_than_none() -> None:
    with pytest.raises(ConfigError, match="mask_hidden"):
        RegionDecoderConfig(mask_hidden=-1)
