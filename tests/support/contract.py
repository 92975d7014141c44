"""What every system of the table keeps to. A system's test subclasses `ModelContract` once a preset.

class TestPaper(ModelContract):
    config = ...            # sizes that run in milliseconds
    changes = {...}         # for the knob test, where the automatic change of a field is not possible
"""

from __future__ import annotations

import dataclasses
import math
import typing
import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from refseg.data.transforms import place_image
from refseg.encoders.text.tokenizer import ByteTokenizer, Tokenizer, WordTokenizer
from refseg.errors import RefsegError
from refseg.geometry import InputConfig
from refseg.inference.checkpoint import load_model, save_model
from refseg.models import build, config_from_dict, config_to_dict
from refseg.models.instances.config import InstancesConfig
from refseg.types import Batch, InstancePredictions, Needs, Output, ReferringModel, Regions, Targets, Tokens


class ModelContract:
    """Subclasses say `config` and what differs from these defaults."""

    config: ClassVar[Any]
    late_fusion: ClassVar[bool] = True
    padding_words_matter: ClassVar[bool] = False
    """True for presets that follow code which attends padding words; then the test asks for a difference."""
    slots_matter: ClassVar[bool] = False
    """True for presets that follow code which attends the slots of padding words, whatever stands in them."""
    per_picture: ClassVar[frozenset[str]] = frozenset({"tag_logits"})
    """What `Output.auxiliary` holds once a picture, not once a sentence."""
    per_expression: ClassVar[frozenset[str]] = frozenset()
    """Lists of `Output.auxiliary` that have an entry an expression."""
    training_only: ClassVar[frozenset[str]] = frozenset()
    """What `Output.auxiliary` holds for the losses alone, and answers do without."""
    unreached: ClassVar[frozenset[str]] = frozenset()
    """Parameters that no gradient reaches by design."""
    softened: ClassVar[frozenset[str]] = frozenset()
    """Parameters made smaller, whose random values would drive a softmax of unscaled products to where it is flat."""
    changes: ClassVar[dict[str, Any]] = {}
    """Dotted field -> the value that the knob test gives it."""
    inactive: ClassVar[dict[str, str]] = {}
    """Dotted field -> why it says nothing in this preset."""
    knobs: ClassVar[str] = ""
    """How the names of the fields begin that the knob test changes; presets that share the rest with another one need
    not try it again."""

    def tokenizer(self) -> Tokenizer:
        """What a model folder of this system is saved with."""
        words = [f"w{number}" for number in range(self.config.text.vocabulary_size - 2)]
        return WordTokenizer(words, self.config.text.max_words)

    def mask_size(self, height: int, width: int) -> tuple[int, int]:
        """The size of the mask logits for an input of that size."""
        return math.ceil(height / 4), math.ceil(width / 4)

    @pytest.fixture
    def model(self) -> nn.Module:
        model = filled(build(self.config)).eval()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name in self.softened:
                    parameter.mul_(0.01)
        return model

    def test_meets_the_protocol(self, model: nn.Module) -> None:
        assert isinstance(model, ReferringModel)
        assert model.needs == self.config.needs
        assert model.config == self.config

    # 1. shapes

    @pytest.mark.parametrize("size", [(64, 64), (61, 75), (33, 97)])
    @torch.no_grad()
    def test_takes_odd_sizes(self, model: nn.Module, size: tuple[int, int]) -> None:
        output = model(batch_of(self.config, size=size, sentences=2))
        assert tuple(output.mask_logits.shape) == (2, *self.mask_size(*size))
        assert all(value.isfinite().all() for value in tensors_of(output))

    def test_answers_alike_in_training_and_evaluation(self, model: nn.Module) -> None:
        batch = batch_of(self.config)
        trained, evaluated = model.train()(batch), model.eval()(batch)
        assert type(trained) is type(evaluated) is Output
        for name in self.training_only & trained.auxiliary.keys():
            del trained.auxiliary[name]
        assert trained.auxiliary.keys() == evaluated.auxiliary.keys()
        assert [value.shape for value in tensors_of(trained)] == [value.shape for value in tensors_of(evaluated)]

    @torch.no_grad()
    def test_named_maps_can_be_shown(self, model: nn.Module) -> None:
        """Every map of every expression has the form that its kind promises, whatever system it comes from."""
        batch = batch_of(self.config)
        output = model(batch)
        for name, named in output.maps.items():
            for index in range(len(batch.tokens)):
                panels = named.read(index)
                count = len(panels.values)
                length = batch.tokens.mask.shape[1]
                assert panels.values.ndim == {"pixels": 3, "words": 2, "bars": 1, "boxes": 1}[named.kind], name
                assert panels.values.isfinite().all(), name
                assert len(panels.names) == count or (not panels.names and count == length), name
                assert panels.weights is None or panels.weights.shape == (count,), name
                assert (panels.boxes is not None) == (named.kind == "boxes"), name
                if named.kind == "words":
                    assert panels.values.shape[1] == length, name
                    assert (panels.values >= 0).all(), name
                    assert (panels.values.sum(dim=1) <= 1 + 1e-4).all(), name
                if named.scale == "probability":
                    assert ((panels.values >= 0) & (panels.values <= 1)).all(), name
                if panels.boxes is not None:
                    assert panels.boxes.shape == (count, 4), name

    # 2. gradients

    def test_gradient_reaches_every_parameter(self, model: nn.Module) -> None:
        """In one of a few passes: stochastic depth may leave a block out of a pass for the whole batch."""
        batch, dry = training_batch(self.config), set[str]()
        for _ in range(6):
            losses = model.losses(model.train()(batch), targets_of(batch, self.config))  # type: ignore[operator]
            assert losses
            assert all(value.ndim == 0 and value.isfinite() for value in losses.values())
            torch.stack(list(losses.values())).sum().backward()
            dry = {name for name, value in model.named_parameters() if value.grad is None or not value.grad.any()}
            if dry == set(self.unreached):
                break
        assert dry == set(self.unreached)

    # 3. batches

    @torch.no_grad()
    def test_batch_equals_single(self, model: nn.Module) -> None:
        batch = batch_of(self.config, sentences=3)
        together = model(batch)
        for index in range(3):
            part = slice(index, index + 1)
            tokens = Tokens(batch.tokens.ids[part], batch.tokens.mask[part])
            regions = None if batch.regions is None else batch.regions.select([index])
            alone = model(Batch(batch.images[part], batch.pixel_mask[part], tokens, regions=regions))
            for name in self.per_expression & alone.auxiliary.keys():
                for whole, single in zip(
                    flat(together.auxiliary[name][index]), flat(alone.auxiliary[name][0]), strict=True
                ):
                    assert_near(whole, single)
            if together.instances is not None:
                for whole, single in zip(
                    instances_of(together.instances, index), instances_of(alone.instances, 0), strict=True
                ):
                    assert_near(whole, single)
            for whole, single in zip(
                tensors_of(together, self.per_expression), tensors_of(alone, self.per_expression), strict=True
            ):
                # One sentence's verdict may be near 0 by chance; the batch's largest value is the measure.
                assert_near(whole[part], single, of=whole)

    @torch.no_grad()
    def test_sentences_share_pictures(self, model: nn.Module) -> None:
        batch = batch_of(self.config, sentences=5, pictures=2, image_index=[1, 0, 1, 1, 0])
        together, alone = model(batch), model(batch.expanded())
        for output in (together, alone):
            for name in self.per_picture & output.auxiliary.keys():
                del output.auxiliary[name]
        for shared, apart in zip(tensors_of(together), tensors_of(alone), strict=True):
            assert_near(shared, apart)

    @torch.no_grad()
    def test_late_fusion_encodes_a_picture_once(self, model: nn.Module) -> None:
        assert model.late_fusion is self.late_fusion
        batch = batch_of(self.config, sentences=4, pictures=2, image_index=[0, 1, 1, 0])
        if not self.late_fusion:
            with pytest.raises(RefsegError, match=r"expression|call it with both"):
                model.encode_image(batch.images, batch.pixel_mask)  # type: ignore[operator]
            return
        batch = replace(batch, regions=None)
        state = model.encode_image(batch.images, batch.pixel_mask)  # type: ignore[operator]
        text = model.encode_text(batch.tokens)  # type: ignore[operator]
        for part, whole in zip(
            tensors_of(model.decode(state, text, batch.image_index)),  # type: ignore[operator]
            tensors_of(model(batch)),
            strict=True,
        ):
            assert torch.equal(part, whole)

    # 4. padding

    @torch.no_grad()
    def test_padding_words(self, model: nn.Module) -> None:
        batch = batch_of(self.config)
        ids = batch.tokens.ids.masked_fill(~batch.tokens.mask, 3)
        changed = replace(batch, tokens=Tokens(ids, batch.tokens.mask))
        assert not torch.equal(ids, batch.tokens.ids)
        before, after = model(batch), model(changed)
        if self.padding_words_matter:
            assert self.effect_of(batch, changed) > 3e-4
            return
        assert_near(before.mask_logits, after.mask_logits)
        if before.no_target_logits is not None:
            assert_near(before.no_target_logits, after.no_target_logits)

    @torch.no_grad()
    def test_shorter_rows_of_words(self, model: nn.Module) -> None:
        """Rows cut behind the longest expression and one slot more: only padding is gone."""
        batch = batch_of(self.config)
        slots = int(batch.tokens.mask.sum(dim=1).max()) + 1
        assert slots < batch.tokens.mask.shape[1] or isinstance(self.config, InstancesConfig)
        shorter = replace(batch, tokens=Tokens(batch.tokens.ids[:, :slots], batch.tokens.mask[:, :slots]))
        if self.padding_words_matter or self.slots_matter:
            assert self.effect_of(batch, shorter) > 3e-4
        else:
            assert_near(model(batch).mask_logits, model(shorter).mask_logits)

    def effect_of(self, batch: Batch, changed: Batch) -> float:
        """How far apart the masks of two batches are, as a share of the largest logit: the largest of eight random
        models. In a single one the effect may get lost on its way through normalisations and flat softmaxes; rounding
        is some 1e-6 in each."""
        shares = []
        for _ in range(8):
            model = filled(build(self.config)).eval()
            one, other = model(batch).mask_logits, model(changed).mask_logits
            shares.append(float((one - other).abs().max() / one.abs().max()))
        return max(shares)

    # 5. files

    @torch.no_grad()
    def test_saves_and_loads_exactly(self, model: nn.Module, tmp_path) -> None:
        tokenizer = self.tokenizer()
        save_model(tmp_path / "saved", model, tokenizer, {"threshold": 0.4})
        loaded, its_tokenizer, info = load_model(tmp_path / "saved")
        assert loaded.config == self.config
        assert info["threshold"] == 0.4
        assert its_tokenizer(["w3 w1 nothing"]).ids.tolist() == tokenizer(["w3 w1 nothing"]).ids.tolist()
        batch = batch_of(self.config)
        for saved, read in zip(tensors_of(model(batch)), tensors_of(loaded(batch)), strict=True):
            assert torch.equal(saved, read)

    def test_config_survives_plain_values(self) -> None:
        values = config_to_dict(self.config)
        assert config_from_dict(values) == self.config

    # 6. knobs

    def test_every_field_has_an_effect(self) -> None:
        """A changed field changes parameters, answers, losses, or what the data turn into."""
        base = list(fingerprint(self.config))
        dead, untested = [], []
        for name in leaf_fields(self.config):
            if name in self.inactive or name.startswith("input.") or not name.startswith(self.knobs):
                continue
            options = [self.changes[name]] if name in self.changes else others(self.config, name)
            if not options:
                untested.append(name)
            dead += [
                f"{name}={option}"
                for option in options
                if all(same(*parts) for parts in zip(base, fingerprint(put(self.config, name, option)), strict=True))
            ]
        assert not untested, "no automatic change fits: name a value in `changes`"
        assert not dead

    def test_every_input_field_has_an_effect(self) -> None:
        options: dict[str, Any] = {
            "size": 96,
            "resize": "letterbox",
            "interpolation": "bicubic" if self.config.input.interpolation == "bilinear" else "bilinear",
            "mean": (1.0, 2.0, 3.0),
            "std": (4.0, 5.0, 6.0),
            "padding": (9.0, 9.0, 9.0),
            "divisor": 24,
        }
        config = replace(self.config.input, resize="longest")
        for name, value in options.items():
            assert not same(placed(config), placed(replace(config, **{name: value}))), name


def batch_of(
    config: Any,
    size: tuple[int, int] = (64, 80),
    sentences: int = 3,
    pictures: int | None = None,
    image_index: list[int] | None = None,
) -> Batch:
    """Random pictures and sentences of different lengths; some words are padding."""
    dice = torch.Generator().manual_seed(sum(size) + sentences)
    count = sentences if pictures is None else pictures
    if isinstance(config, InstancesConfig):
        tokens = ByteTokenizer()([EXPRESSIONS[number % len(EXPRESSIONS)] for number in range(sentences)])
    else:
        length = config.text.max_words
        lengths = torch.arange(sentences) % (length - 2) + 2
        mask = torch.arange(length)[None] < lengths[:, None]
        ids = torch.randint(2, config.text.vocabulary_size, (sentences, length), generator=dice) * mask
        tokens = Tokens(ids, mask)
    return Batch(
        torch.randn(count, 3, *size, generator=dice),
        torch.ones(count, *size, dtype=torch.bool),
        tokens,
        image_index=None if image_index is None else torch.tensor(image_index),
        regions=regions_of(config, count, dice) if config.needs.regions else None,
    )


EXPRESSIONS = ("the dogs", "a person next to the big table", "the second red car from the left", "all cups", "left cat")
"""What systems are asked that read expressions as they are written."""


def regions_of(config: Any, count: int, dice: torch.Generator) -> Regions:
    """Four regions that do not overlap in each of `count` pictures, of two classes; every second attribute of the
    config holds of every second one."""
    corners = torch.tensor([[0.05, 0.1], [0.55, 0.05], [0.1, 0.55], [0.55, 0.6]])
    boxes = []
    for _ in range(count):
        start = corners + 0.05 * torch.rand(4, 2, generator=dice)
        boxes.append(torch.cat([start, start + 0.2 + 0.15 * torch.rand(4, 2, generator=dice)], dim=1))
    held = [() if number % 2 else config.attributes[number % 4 // 2 :: 2] for number in range(4)]
    return Regions(boxes, [["dog", "cat", "dog", "dog"]] * count, [held] * count)


def training_batch(config: Any) -> Batch:
    """A batch that reaches all losses: where they compare expressions of one picture, it has several of each."""
    if config.needs.regions or isinstance(config, InstancesConfig):
        return batch_of(config, sentences=6, pictures=2, image_index=[0, 1, 0, 1, 0, 1])
    return batch_of(config)


def targets_of(batch: Batch, config: Any = None) -> Targets:
    """A rectangle a sentence, one of its picture's regions where they are given; the last sentence means nothing. Tags
    of the config hold in a stripe of each picture."""
    count = len(batch.tokens)
    height, width = batch.images.shape[2:]
    masks = torch.zeros(count, height, width, dtype=torch.bool)
    for index in range(count - 1):
        if batch.regions is None:
            masks[index, 5 + index : 45, 10 : 40 + index] = True
            continue
        boxes = batch.regions.boxes[index if batch.image_index is None else int(batch.image_index[index])]
        left, top, right, bottom = (
            (boxes[index % len(boxes)] * torch.tensor([width, height] * 2)).round().int().tolist()
        )
        masks[index, top:bottom, left:right] = True
    needs = Needs() if config is None else config.needs
    words, tags = len(needs.tags), None
    if words:
        height, width = (math.ceil(side / 4) for side in batch.images.shape[2:])
        tags = torch.zeros(len(batch.images), words, height, width, dtype=torch.bool)
        for word in range(words):
            tags[:, word, word : word + 3] = True
    groups = None
    if needs.contrast is not None:
        # Two sentences about one object, the others about other ones of the same picture.
        objects = torch.arange(count).clamp(min=1) - 1
        groups = torch.stack([objects, torch.zeros_like(objects)], dim=1)
    return Targets(masks, ~masks.flatten(1).any(dim=1), tags=tags, groups=groups)


def filled(model: nn.Module) -> nn.Module:
    """The model with every parameter moved off its first value, so that nothing is switched off by a zero."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            dice = torch.Generator().manual_seed(zlib.crc32(name.encode()))
            parameter.add_(torch.randn(parameter.shape, generator=dice) * 0.1)
    return model


def tensors_of(output: Output, without: frozenset[str] = frozenset()) -> list[Tensor]:
    """Every tensor of an answer but those of single instances and, of `auxiliary`, of `without`, in a fixed order."""
    told = {name: value for name, value in output.auxiliary.items() if name not in without}
    return flat(
        [
            output.mask_logits,
            output.no_target_logits,
            output.boxes,
            output.phrase_mask_logits,
            told,
            output.attention_maps,
        ]
    )


def instances_of(predicted: InstancePredictions, index: int) -> list[Tensor]:
    """The tensors of one expression's instances."""
    return [predicted.boxes[index], predicted.scores[index], predicted.mask_logits[index]]


def flat(values: Any) -> list[Tensor]:
    """Every tensor in nested values, in a fixed order."""
    found: list[Tensor] = []

    def collect(value: Any) -> None:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, dict):
            for key in sorted(value):
                collect(value[key])
        elif isinstance(value, (list, tuple)):
            for item in value:
                collect(item)

    collect(values)
    return found


def assert_near(one: Tensor, other: Tensor, tolerance: float = 1e-4, of: Tensor | None = None) -> None:
    """Equal but for rounding, relative to the largest value (`of`: of the tensor that `one` is a part of)."""
    assert one.shape == other.shape
    if not one.numel():
        return
    one, other = one.detach(), other.detach()
    if one.dtype == torch.bool:
        one, other = one.float(), other.float()
    scale = max(float((one if of is None else of.float()).abs().max()), 1e-3)
    assert float((one - other).abs().max()) <= tolerance * scale


def assert_differs(one: Tensor, other: Tensor, share: float = 1e-3) -> None:
    """Farther apart than rounding could bring them: somewhere by `share` of the largest value, ten times what
    `assert_near` lets pass."""
    assert one.shape == other.shape
    one, other = one.detach(), other.detach()
    assert float((one - other).abs().max()) > share * max(float(one.abs().max()), 1e-6)


# The knob test


def leaf_fields(config: Any, prefix: str = "") -> list[str]:
    """The dotted names of all fields that are no dataclass themselves."""
    names = []
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        name = f"{prefix}{item.name}"
        names += leaf_fields(value, f"{name}.") if dataclasses.is_dataclass(value) else [name]
    return names


def put(config: Any, name: str, value: Any) -> Any:
    """The configuration with one dotted field changed."""
    first, dot, rest = name.partition(".")
    return replace(config, **{first: put(getattr(config, first), rest, value) if dot else value})


def others(config: Any, name: str) -> list[Any]:
    """Values that differ from the one in the configuration: all other choices, the other truth, more, twice as much."""
    *parents, last = name.split(".")
    for parent in parents:
        config = getattr(config, parent)
    value, hint = getattr(config, last), typing.get_type_hints(type(config))[last]
    if typing.get_origin(hint) is typing.Literal:
        return [choice for choice in typing.get_args(hint) if choice != value]
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value * 2 or 1]
    if isinstance(value, float):
        return [value * 0.5 if value else 0.5]
    return []


def fingerprint(config: Any) -> Iterator[list[Any]]:
    """Everything that a configuration decides, part by part: shapes, answers in training, losses, answers.

    What comes after the first part that differs need not be computed.
    """
    torch.manual_seed(0)
    model = filled(build(config))
    yield [(name, tuple(value.shape)) for name, value in model.state_dict().items()]
    trained = sorted(name for name, parameter in model.named_parameters() if parameter.requires_grad)
    yield [config.needs, trained, getattr(config.text, "max_words", 0)]
    batch = training_batch(config)
    torch.manual_seed(1)
    output = model.train()(batch)
    yield [value.detach() for value in tensors_of(output)]
    losses = model.losses(output, targets_of(batch, config))
    yield [sorted(losses), *(value.detach() for value in losses.values())]
    with torch.no_grad():
        yield tensors_of(model.eval()(batch))


def same(one: list[Any], other: list[Any]) -> bool:
    """Whether two parts of fingerprints are exactly equal."""
    return len(one) == len(other) and all(
        a.shape == b.shape and torch.equal(a, b)
        if isinstance(a, Tensor) and isinstance(b, Tensor)
        else a is b or a == b
        for a, b in zip(one, other, strict=True)
    )


def placed(config: InputConfig) -> list[Any]:
    """What becomes of a picture that is wider than high."""
    dice = np.random.default_rng(0)
    picture = Image.fromarray(dice.integers(0, 256, (50, 90, 3), dtype=np.uint8))
    image, mask, geometry = place_image(picture, config)
    return [image, mask, geometry]
