"""Explanations: maps lie where they belong, whatever system they come from, and files hold what is drawn."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import refseg
from refseg.encoders.text.tokenizer import WordTokenizer, token_names
from refseg.errors import RefsegError
from refseg.geometry import Geometry, InputConfig, geometry_of
from refseg.inference.explain import Explanation, explain_output
from refseg.inference.map_pictures import WIDTH, draw_map, heat_colours, heat_over
from refseg.inference.segmentation import Segmentation
from refseg.nn.maps import bar_map, pixel_map, word_map
from refseg.types import NamedMap, Output, Panels
from tests.support.tiny_model import write_model_folder


def shown_of(output: Output, geometry: Geometry, words: tuple[str, ...] = ()) -> Explanation:
    height, width = geometry.original_size
    image = Image.fromarray(np.full((height, width, 3), 90, np.uint8))
    answer = Segmentation(np.zeros((height, width), bool), None, True, 1.0, 0.0, " ".join(words) or "it")
    return explain_output(output, 0, image, answer, words, geometry)


def output_of(**maps: NamedMap) -> Output:
    return Output(torch.zeros(2, 4, 4), maps=maps)


@given(
    height=st.integers(20, 90),
    width=st.integers(20, 90),
    resize=st.sampled_from(["warp", "letterbox", "longest"]),
    place=st.tuples(st.floats(0.1, 0.9), st.floats(0.1, 0.9)),
)
@settings(deadline=None, max_examples=20)
def test_heat_lies_where_the_map_is_hot(height: int, width: int, resize: str, place: tuple[float, float]) -> None:
    """A map with one hot cell lights the part of the picture that the cell covers, and no other."""
    geometry = geometry_of((height, width), InputConfig(size=64, resize=resize))  # type: ignore[arg-type]
    cells = (geometry.model_size[0] // 8, geometry.model_size[1] // 8)
    x, y = geometry.to_model(np.array([place[0] * width, place[1] * height]))
    hot = torch.zeros(2, *cells)
    hot[0, min(int(y / 8), cells[0] - 1), min(int(x / 8), cells[1] - 1)] = 1.0
    shown = shown_of(output_of(heat=pixel_map("heat", hot, scale="probability")), geometry)
    drawn = np.asarray(heat_over(shown, shown["heat"].values[0], 0.0, 1.0), dtype=float).sum(axis=2)
    assert drawn.shape == (height, width)
    row, column = min(int(place[1] * height), height - 1), min(int(place[0] * width), width - 1)
    near = drawn[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
    assert near.max() == drawn.max()
    low = geometry.to_original(np.array([8 * int(x / 8), 8 * int(y / 8)], dtype=float)) - 2
    high = geometry.to_original(np.array([8 * int(x / 8) + 8, 8 * int(y / 8) + 8], dtype=float)) + 2
    rows, columns = np.nonzero(drawn == drawn.max())
    assert low[0] <= columns.min()
    assert columns.max() <= high[0]
    assert low[1] <= rows.min()
    assert rows.max() <= high[1]


def test_brightness_rises_with_the_value() -> None:
    colours = heat_colours(np.linspace(0, 1, 30))
    brightness = colours @ np.array([0.299, 0.587, 0.114])
    assert (np.diff(brightness) > 0).all()


def test_the_heaviest_panels_are_drawn_first() -> None:
    weights = torch.tensor([[0.1, 0.9, 0.4], [0.0, 0.0, 1.0]])
    maps = torch.rand(2, 3, 5, 5)
    geometry = geometry_of((40, 40), InputConfig(size=64))
    shown = shown_of(
        output_of(a=pixel_map("a", maps, ["x", "y", "z"], weights), b=pixel_map("b", maps, "xyz")), geometry
    )
    assert shown["a"].heaviest(2) == [1, 2]
    assert shown["b"].heaviest(2) == [0, 1]
    np.testing.assert_array_equal(shown["a"].values, maps[0].numpy())
    with pytest.raises(RefsegError, match="there is no map 'c'"):
        shown["c"]


def test_panels_of_tokens_take_their_names_and_padding_is_left_out() -> None:
    geometry = geometry_of((40, 40), InputConfig(size=64))
    attention = torch.rand(2, 5)
    output = output_of(
        pixels=pixel_map("where each word looks", torch.rand(2, 5, 4, 4), weights=attention),
        words=word_map("what is read", attention),
        rows=word_map("by whom", torch.rand(2, 3, 5), ["a", "b", "c"]),
        parts=bar_map("shares", torch.rand(2, 2), ["one", "two"]),
    )
    shown = shown_of(output, geometry, ("the", "red", "cup"))
    assert shown["pixels"].names == ("the", "red", "cup")
    assert shown["pixels"].values.shape == (3, 4, 4)
    np.testing.assert_array_equal(shown["pixels"].weights, attention[0, :3].numpy())
    np.testing.assert_array_equal(shown["words"].values, attention[:1, :3].numpy())
    assert shown["rows"].values.shape == (3, 3)
    for name, picture in shown.pictures().items():
        assert picture.width == WIDTH, name
    assert shown.sheet().width == WIDTH
    # A system that cuts expressions into bytes has no words: its rows have numbers.
    nameless = shown_of(output, geometry)
    assert nameless["words"].values.shape == (1, 5)
    assert nameless["pixels"].names[4] == "token 5"
    assert draw_map(nameless, nameless["words"], 6).width == WIDTH


def test_boxes_come_in_pixels_of_the_picture() -> None:
    boxes = torch.tensor([[0.5, 0.5, 1.0, 1.0], [0.25, 0.5, 0.5, 0.2]])
    named = NamedMap("boxes", "boxes", lambda index: Panels(torch.tensor([0.2, 0.8]), ("a", "b"), None, boxes))
    shown = shown_of(output_of(boxes=named), geometry_of((40, 80), InputConfig(size=64, resize="letterbox")))
    np.testing.assert_allclose(shown["boxes"].boxes, [[0, 0, 80, 40], [0, 16, 40, 24]], atol=1e-4)
    assert draw_map(shown, shown["boxes"], 1).width == WIDTH
    nothing = NamedMap("boxes", "boxes", lambda index: Panels(torch.zeros(0), (), None, torch.zeros(0, 4)))
    empty = shown_of(output_of(boxes=nothing), geometry_of((40, 80), InputConfig(size=64)))
    assert draw_map(empty, empty["boxes"], 3).width == WIDTH


def test_a_map_is_computed_when_it_is_read_and_not_before() -> None:
    asked: list[int] = []

    def read(index: int) -> Panels:
        asked.append(index)
        return Panels(torch.zeros(1, 2, 2), ("",))

    output = output_of(heat=NamedMap("heat", "pixels", read))
    assert asked == []
    assert output.to("cpu").maps["heat"].read(1).values.shape == (1, 2, 2)
    assert asked == [1]


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> refseg.Segmenter:
    return refseg.load(write_model_folder(tmp_path_factory.mktemp("tiny") / "model"), device="cpu")


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 70, 3), dtype=np.uint8))


def test_an_explanation_has_the_answer_that_asking_gives(segmenter: refseg.Segmenter, picture: Image.Image) -> None:
    shown = segmenter.explain(picture, " the  red ball ", threshold=0.4)
    assert shown.answer == segmenter(picture, "the red ball", threshold=0.4)
    assert shown.words == ("the", "red", "ball")
    assert {"minimap", "region_masks"} <= {each.name for each in shown.maps}
    assert shown["minimap"].values.shape == (1, 4, 4)
    assert shown["region_masks"].values.shape[0] == 16
    np.testing.assert_allclose(shown["region_masks"].weights, shown["minimap"].values[0].reshape(-1))


def test_files_hold_what_is_drawn(segmenter: refseg.Segmenter, picture: Image.Image, tmp_path: Path) -> None:
    shown = segmenter.explain(picture, "the red ball")
    paths = shown.save(tmp_path / "deep" / "out", "ball", most=2)
    assert paths[0] == tmp_path / "deep" / "out" / "ball.png"
    assert {path.name for path in paths} == {path.name for path in (tmp_path / "deep" / "out").iterdir()}
    assert {"ball.minimap.png", "ball.region_masks.png", "ball.json", "ball.npz"} <= {path.name for path in paths}
    document = json.loads((tmp_path / "deep" / "out" / "ball.json").read_text())
    assert Segmentation.from_dict(document["answer"]) == shown.answer
    assert [each["name"] for each in document["maps"]] == [each.name for each in shown.maps]
    with np.load(tmp_path / "deep" / "out" / "ball.npz") as arrays:
        np.testing.assert_array_equal(arrays["minimap"], shown["minimap"].values)
        np.testing.assert_allclose(arrays["content"], [0, 0, 1, 1])


def test_words_are_those_that_are_read() -> None:
    assert token_names(WordTokenizer(["red"], 2), "The red, cup") == ("the", "red")
    assert token_names(object(), "the red cup") == ()
