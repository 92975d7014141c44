"""A run whose encoders would begin with random weights, and what it says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from refseg.encoders.text.bert import Bert, BertTextConfig
from refseg.encoders.text.clip import ClipText, ClipTextConfig
from refseg.encoders.text.glove import first_words
from refseg.encoders.text.tokenizer import WordTokenizer
from refseg.encoders.vision.clip_resnet import CLIP_R50, CLIP_R101, ClipResNet
from refseg.encoders.vision.resnet import RESNET50, SMALL_RESNET, ResNet, ResNetConfig
from refseg.encoders.vision.swin import SWIN_B, SWIN_T, Swin
from refseg.encoders.vision.vit import VIT_B16, ViT, ViTConfig
from refseg.errors import ConfigError
from refseg.training.initial_weights import check_initial_weights
from refseg.training.recipe import parse_recipe, read_recipe
from refseg.training.setup import load_pretrained

SMALL_BERT = BertTextConfig(vocabulary_size=20, width=16, layers=1, heads=2, feedforward=16, positions=22)
TINY: dict[str, Any] = {"widths": (16, 16, 16, 16), "depths": (1, 1, 1, 1), "stem_width": 8}


class Parts(nn.Module):
    def __init__(self, **parts: Callable[[], nn.Module]) -> None:
        super().__init__()
        with torch.device("meta"):  # sizes without memory
            for name, part in parts.items():
                self.add_module(name, part())


def freezing(pattern: str, **pretrained: str) -> dict[str, object]:
    return {"pretrained": pretrained, "optimizer": {"groups": [{"names": [pattern], "train": False}]}}


@pytest.mark.parametrize(
    ("part", "encoder", "hub"),
    [
        ("vision", lambda: ResNet(RESNET50), "microsoft/resnet-50"),
        ("vision", lambda: Swin(SWIN_B), "microsoft/swin-base-patch4-window12-384-in22k"),
        ("vision", lambda: Swin(SWIN_T), "microsoft/swin-tiny-patch4-window7-224"),
        ("vision", lambda: ViT(VIT_B16), "google/vit-base-patch16-224-in21k"),
        ("vision", lambda: ViT(ViTConfig(grid=24)), "google/vit-base-patch16-384"),
        ("vision", lambda: ClipResNet(CLIP_R50), "RN50.pth"),
        ("vision", lambda: ClipResNet(CLIP_R101), "RN101.pth"),
        ("text", lambda: ClipText(ClipTextConfig()), "RN50.pth"),
        ("text", lambda: Bert(BertTextConfig()), "google-bert/bert-base-uncased"),
        ("text", lambda: Bert(BertTextConfig(family="roberta", positions=514)), "FacebookAI/roberta-base"),
    ],
)
def test_encoders_of_published_size_want_weights(part: str, encoder: Callable[[], nn.Module], hub: str) -> None:
    model = Parts(**{part: encoder})
    with pytest.raises(ConfigError, match=rf"pretrained\.{part}: .* random weights.* add pretrained\.{part}={hub} "):
        check_initial_weights(model, parse_recipe({}))
    check_initial_weights(model, parse_recipe({"pretrained": {part: hub}}))
    check_initial_weights(model, parse_recipe({"pretrained": {"model": "rela-photo"}}))
    allowed = parse_recipe({"pretrained": {part: "none"}})
    if isinstance(getattr(model, part), ResNet):
        with pytest.raises(ConfigError, match="fixed normalisations of ResNet"):
            check_initial_weights(model, allowed)
    else:
        check_initial_weights(model, allowed)


def test_what_is_never_trained_wants_weights_whatever_its_size() -> None:
    with pytest.raises(ConfigError, match=r"fixed normalisations of ResNet .* add pretrained\.vision=FILE"):
        check_initial_weights(Parts(vision=lambda: ResNet(ResNetConfig(**TINY))), parse_recipe({}))
    small = Parts(vision=lambda: ResNet(SMALL_RESNET), text=lambda: Bert(SMALL_BERT))
    check_initial_weights(small, parse_recipe({}))
    for pattern, part, kind in (("vision.stem.*", "vision", "ResNet"), ("text.bert.*", "text", "Bert")):
        with pytest.raises(ConfigError, match=rf"pretrained\.{part}: what optimizer\.groups freezes .* of {kind}"):
            check_initial_weights(small, parse_recipe(freezing(pattern, **{part: "none"})))
        check_initial_weights(small, parse_recipe(freezing(pattern, **{part: "FILE"})))
    # The first rule that names a parameter decides: what it trains is not frozen by a later one.
    rules = [{"names": ["text.*"]}, {"names": ["text.bert.*"], "train": False}]
    check_initial_weights(small, parse_recipe({"optimizer": {"groups": rules}}))


def test_none_loads_nothing_and_a_resumed_run_is_left_alone() -> None:
    model = nn.Module()
    model.text = Bert(SMALL_BERT)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    load_pretrained(model, parse_recipe({"pretrained": {"text": "none"}}), WordTokenizer([]))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with pytest.raises(ConfigError, match=r"pretrained\.text: what optimizer\.groups freezes"):
        load_pretrained(model, parse_recipe(freezing("text.*")), WordTokenizer([]))
    load_pretrained(model, parse_recipe(freezing("text.*")), WordTokenizer([]), resumed=True)


RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.mark.parametrize(
    "name", ["rela-official-grefcoco", "rela-paper-grefcoco", "reftr-official-refcoco", "restr-official-refcocog"]
)
def test_the_commands_of_recipes_give_what_is_asked_for(name: str) -> None:
    """What the head of a recipe tells people to type is enough, and without it the run does not begin."""
    from refseg.models import build

    path = RECIPES / f"{name}.toml"
    head = [line.lstrip("# ").rstrip(" \\") for line in path.read_text().splitlines() if line.startswith("#")]
    start = next(number for number, line in enumerate(head) if line.startswith("refseg train "))
    stop = head.index("", start)
    words = [word for line in head[start:stop] for word in line.split() if "=" in word]
    given = [word for word in words if not word.startswith("data.root")]
    assert given
    plain, recipe = read_recipe(path), read_recipe(path, given)
    with torch.device("meta"):
        model = build(plain.model_config())
    with pytest.raises(ConfigError, match=r"pretrained\.(vision|text)=\S+/\S+ to the command"):
        check_initial_weights(model, plain)
    check_initial_weights(model, recipe)


def test_words_of_vectors_that_a_sentence_can_hold(tmp_path: Path) -> None:
    path = tmp_path / "vectors.txt"
    path.write_text("the 0.5 1\nThe 0.25 1\n, 0.5 2\nnew-york 1 2\ndog 1 1\nthe 0.25 0.5\ncat 2 2\n")
    assert first_words(path, 10) == ["the", ",", "dog", "cat"]
    assert first_words(path, 2) == ["the", ","]


def test_small_systems_begin_from_nothing() -> None:
    from refseg.models import build

    recipes = sorted(RECIPES.glob("*-mini-scenes.toml"))
    assert len(recipes) >= 5
    for path in recipes:
        recipe = read_recipe(path)
        with torch.device("meta"):
            model = build(recipe.model_config())
        check_initial_weights(model, recipe)
