"""What a region decoder may have besides the paper's: the minimap's gate, a sentence filter, products with words."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from refseg.errors import ConfigError
from refseg.models.rela.regions import COLOUR_MAPS, RegionDecoder, RegionDecoderConfig, match_features, tint_features
from refseg.models.rela.relations import StackedRLA, StackedRLAConfig
from refseg.nn.pyramid import PyramidFeatures
from refseg.types import TextFeatures

CONFIG = RegionDecoderConfig(source="pixel_decoder", stride=8, rla=StackedRLAConfig(layers=2, heads=2, feedforward=8))


def decoder(config: RegionDecoderConfig) -> RegionDecoder:
    torch.manual_seed(0)
    return RegionDecoder(config, {8: 8, 16: 8, 32: 8}, text_width=6, width=8, regions=3).eval()


def features() -> tuple[PyramidFeatures, torch.Tensor, TextFeatures]:
    torch.manual_seed(1)
    pyramid = PyramidFeatures(torch.randn(2, 8, 12, 12), [torch.randn(2, 8, side, side) for side in (2, 3, 6)])
    words = torch.randn(2, 4, 6)
    mask = torch.tensor([[True] * 4, [True, True, False, False]])
    return pyramid, torch.ones(2, 48, 48, dtype=torch.bool), TextFeatures(words, words.mean(dim=1), mask)


@torch.no_grad()
def test_the_gate_adds_the_enlarged_minimap_to_every_layers_mask() -> None:
    pyramid, real, text = features()
    plain, gated = decoder(CONFIG), decoder(replace(CONFIG, minimap_gate=True))
    one = plain.decode(plain.encode({}, pyramid, real), text, None)
    other = gated.decode(gated.encode({}, pyramid, real), text, None)
    for before, after in zip([*one.earlier, one.last], [*other.earlier, other.last], strict=True):
        cells = before.minimap_logits.view(2, 1, 3, 3)
        enlarged = F.interpolate(cells, size=(12, 12), mode="bilinear", align_corners=False)[:, 0]
        torch.testing.assert_close(after.mask_logits, before.mask_logits + enlarged)
        torch.testing.assert_close(after.minimap_logits, before.minimap_logits)


@torch.no_grad()
@pytest.mark.parametrize("scale", [1.0, 0.1])
def test_the_sentence_adds_a_filter_of_its_own(scale: float) -> None:
    pyramid, real, text = features()
    config = replace(CONFIG, mask_scale=scale)
    plain, direct = decoder(config), decoder(replace(config, sentence_filter=True))
    direct.load_state_dict(plain.state_dict(), strict=False)
    one = plain.decode(plain.encode({}, pyramid, real), text, None)
    torch.testing.assert_close(
        direct.decode(direct.encode({}, pyramid, real), text, None).last.mask_logits, one.last.mask_logits
    )
    assert direct.sentence is not None
    torch.nn.init.normal_(direct.sentence.weight)
    added = direct.decode(direct.encode({}, pyramid, real), text, None).last.mask_logits - one.last.mask_logits
    expected = torch.einsum("bc,bchw->bhw", direct.sentence(text.sentence), pyramid.mask_features)
    torch.testing.assert_close(added, expected)


@torch.no_grad()
def test_products_start_without_effect_and_then_multiply_regions_by_the_mean_word() -> None:
    torch.manual_seed(2)
    plain = StackedRLA(StackedRLAConfig(layers=1, heads=2, feedforward=8), 8)
    with_product = StackedRLA(StackedRLAConfig(layers=1, heads=2, feedforward=8, product=True), 8)
    with_product.load_state_dict(plain.state_dict(), strict=False)
    regions, words = torch.randn(2, 5, 8), torch.randn(2, 3, 8)
    mask = torch.tensor([[True, True, True], [True, False, False]])
    torch.testing.assert_close(with_product(regions, words, mask)[0][0], plain(regions, words, mask)[0][0])
    torch.nn.init.normal_(with_product.products[0].weight)
    multiplied = regions.clone()
    for sentence, count in enumerate((3, 1)):
        mean = words[sentence, :count].mean(dim=0)
        multiplied[sentence] += regions[sentence] * with_product.products[0](mean)
    torch.testing.assert_close(with_product(regions, words, mask)[0][0], plain(multiplied, words, mask)[0][0])


@torch.no_grad()
def test_a_match_is_the_sentences_share_times_the_detectors_probability() -> None:
    config = replace(CONFIG, classes=3, class_offset=2)
    torch.manual_seed(0)
    model = RegionDecoder(config, {8: 8, 16: 8, 32: 8}, text_width=6, width=8, regions=3).eval()
    pyramid, real, text = features()
    maps = {stride: torch.randn(2, 8, side, side) for stride, side in ((8, 6), (16, 3), (32, 2))}
    state = model.encode(maps, pyramid, real)
    assert state.classes is not None
    for row in range(6):
        for column in range(6):
            for number in range(3):
                levels = [
                    maps[8][:, 2 + number, row, column],
                    maps[16][:, 2 + number, row // 2, column // 2],
                    maps[32][:, 2 + number, row // 3, column // 3],
                ]
                expected = torch.stack([1 / (1 + (-level).exp()) for level in levels]).amax(dim=0)
                torch.testing.assert_close(state.classes[:, number, row, column], expected)
    matches, tints = model._matches(state, text, None)
    assert tints is None
    for sentence in range(2):
        shares = text.sentence[sentence, -3:]
        expected = sum(shares[number] * state.classes[sentence, number] for number in range(3))
        torch.testing.assert_close(matches[sentence], expected)


@torch.no_grad()
def test_matches_reach_regions_and_with_their_scale_the_mask() -> None:
    config = replace(CONFIG, classes=3, class_offset=2)
    torch.manual_seed(0)
    model = RegionDecoder(config, {8: 8, 16: 8, 32: 8}, text_width=6, width=8, regions=3).eval()
    pyramid, real, text = features()
    maps = {stride: torch.randn(2, 8, side, side) for stride, side in ((8, 6), (16, 3), (32, 2))}
    state = model.encode(maps, pyramid, real)
    before = model.decode(state, text, None).last
    model.match_scale.fill_(2.0)
    after = model.decode(state, text, None).last
    enlarged = F.interpolate(model._matches(state, text, None)[0][:, None], size=(12, 12), mode="bilinear")[:, 0]
    torch.testing.assert_close(after.mask_logits, before.mask_logits + 2 * enlarged)
    assert model.match is not None
    model.match.weight.zero_()
    assert not torch.equal(model.decode(state, text, None).last.minimap_logits, before.minimap_logits)


def test_places_are_told_among_what_fits() -> None:
    fits = torch.zeros(1, 5, 5)
    fits[0, 2, 1], fits[0, 2, 3] = 1.0, 0.8  # two things in a row
    found = match_features(fits)[0].view(5, 5, 6)
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
    turned = match_features(fits.transpose(1, 2))[0].view(5, 5, 6).transpose(0, 1)
    torch.testing.assert_close(turned[..., 4:], found[..., 2:4])


def test_tints_are_told_beside_what_fits_the_noun() -> None:
    relative = torch.tensor([[1.0, 1.0, 0.0]])
    found = tint_features(torch.tensor([[0.9, 0.1, 0.9]]), relative)[0]
    assert found[:, 0].tolist() == pytest.approx([0.9, 0.1, 0.9])
    assert found[:, 1].tolist() == pytest.approx([0.9, 0.1, 0.0])
    assert found[0, 2] > 0.9
    assert found[1, 2] < -0.9
    assert found[2, 2] == 0
    assert not tint_features(torch.zeros(1, 3), relative).any()


@torch.no_grad()
def test_colours_reach_the_answers_of_sentences_that_name_one() -> None:
    config = replace(CONFIG, classes=2, colours=True)
    torch.manual_seed(0)
    model = RegionDecoder(config, {8: 8, 16: 8, 32: 8}, text_width=6, width=8, regions=3).eval()
    pyramid, real, text = features()
    text.sentence[0, 4:] = 0.0  # the second sentence alone names a colour; there are two
    maps = {stride: torch.randn(2, 8, side, side) for stride, side in ((8, 6), (16, 3), (32, 2))}
    one = model.encode({**maps, COLOUR_MAPS: torch.rand(2, 2, 6, 6)}, pyramid, real)
    other = model.encode({**maps, COLOUR_MAPS: torch.rand(2, 2, 6, 6)}, pyramid, real)
    before, after = (model.decode(state, text, None).last.minimap_logits for state in (one, other))
    torch.testing.assert_close(before[0], after[0])
    assert not torch.allclose(before[1], after[1])
    tints = model._matches(one, text, None)[1]
    assert tints is not None
    assert one.colours is not None
    expected = text.sentence[1, 4] * one.colours[1, 0] + text.sentence[1, 5] * one.colours[1, 1]
    torch.testing.assert_close(tints[1], expected)


def test_colours_need_classes() -> None:
    with pytest.raises(ConfigError, match=r"relation\.colours"):
        RegionDecoderConfig(colours=True)
    with pytest.raises(ConfigError, match="0 or more"):
        RegionDecoderConfig(classes=-1)
