"""Answers: their instances, documents, and what equality and truth value mean."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from refseg.data.rle import decode
from refseg.errors import DataError, RefsegError
from refseg.geometry import Geometry
from refseg.inference.connected_components import target_boxes
from refseg.inference.postprocess import postprocess
from refseg.inference.segmentation import Instance, Segmentation
from refseg.types import InstancePredictions, Output

masks = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=14), elements=st.booleans())


def two_squares() -> np.ndarray:
    mask = np.zeros((40, 60), bool)
    mask[5:15, 5:15] = mask[20:26, 40:48] = True
    return mask


@settings(max_examples=100, deadline=None)
@given(masks)
def test_connected_parts_are_instances(mask: np.ndarray) -> None:
    answer = Segmentation(mask, text="it", score=0.5)
    assert np.array_equal(answer.boxes, target_boxes(mask))
    union = np.zeros_like(mask)
    for instance in answer.instances:
        assert not (union & instance.mask).any()
        union |= instance.mask
        rows, columns = np.nonzero(instance.mask)
        assert instance.box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert (instance.label, instance.score) == ("it", 0.5)
    assert not (union & ~mask).any()


@settings(max_examples=60, deadline=None)
@given(masks, st.floats(0, 1), st.floats(0, 1), st.text(max_size=8))
def test_documents_come_back(mask: np.ndarray, score: float, no_target_score: float, text: str) -> None:
    answer = Segmentation(mask, None, not mask.any(), no_target_score, score, text)
    document = json.loads(json.dumps(answer.to_dict()))
    again = Segmentation.from_dict(document)
    assert again.to_dict() == document
    assert np.array_equal(again.mask, mask)
    assert [each.mask.tolist() for each in again.instances] == [each.mask.tolist() for each in answer.instances]
    assert again == answer
    assert hash(again) == hash(answer)


def test_other_keys_of_a_document_are_kept_and_damage_is_named() -> None:
    document = Segmentation(two_squares(), text="it").to_dict()
    assert Segmentation.from_dict({**document, "image": "a.jpg"}).extra == {"image": "a.jpg"}
    for key in ("text", "mask", "instances", "score"):
        with pytest.raises(DataError, match=f"{key}.* is missing"):
            Segmentation.from_dict({name: value for name, value in document.items() if name != key})
    with pytest.raises(DataError, match="not an answer"):
        Segmentation.from_dict({**document, "mask": {"size": [1, 1], "counts": "zz"}})


def test_equality_hash_and_truth() -> None:
    mask = two_squares()
    one, same = Segmentation(mask, text="it"), Segmentation(mask.copy(), text="it", extra={"remarks": []})
    assert one == same
    assert len({one, same}) == 1
    assert one
    changed = mask.copy()
    changed[30, 30] = True
    for other in (
        Segmentation(changed, text="it"),
        replace(one, text="them"),
        replace(one, score=0.5),
        replace(one, instances=one.instances[:1]),
        Segmentation(mask[:, :50], text="it"),
        "it",
    ):
        assert one != other
    assert not Segmentation(np.zeros((4, 4), bool), None, True, 0.9)
    assert repr(one) == "Segmentation('it', instances=2, area=148, score=1.000, no_target_score=0.000, size=(40, 60))"


def test_given_boxes_hold_the_mask_inside_them() -> None:
    mask = two_squares()
    answer = Segmentation(mask, np.array([[0, 0, 10.4, 60], [38, 18, 60, 40]]), text="it")
    assert answer.boxes.tolist() == [[0, 0, 10.4, 60], [38, 18, 60, 40]]
    assert answer.instances[0].mask.sum() == 5 * 10
    assert np.array_equal(answer.instances[1].mask[20:26, 40:48], mask[20:26, 40:48])
    with pytest.raises(RefsegError, match=r"\(K, 4\)"):
        Segmentation(mask, np.zeros(4))


def test_coco_annotations() -> None:
    mask = two_squares()
    first, second = Segmentation(mask, score=0.75, text="it").to_coco(image_id=7, category_id=3)
    assert (first["image_id"], first["category_id"], first["score"], first["iscrowd"]) == (7, 3, 0.75, 0)
    assert (first["bbox"], first["area"]) == ([5, 5, 10, 10], 100)
    assert (second["bbox"], second["area"]) == ([40, 20, 8, 6], 48)
    assert np.array_equal(decode(first["segmentation"]) | decode(second["segmentation"]), mask)


def test_supervision_gets_an_entry_an_instance(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = Segmentation(two_squares(), text="it")
    named = [replace(each, label=label) for each, label in zip(answer.instances, ("dog", "cat"), strict=True)]
    answer = replace(answer, instances=[*named, named[0]])
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(RefsegError, match="pip install supervision"):
        answer.to_supervision()

    class Detections(SimpleNamespace):
        @classmethod
        def empty(cls) -> str:
            return "empty"

    monkeypatch.setitem(sys.modules, "supervision", SimpleNamespace(Detections=Detections))
    detections = answer.to_supervision()
    assert detections.class_id.tolist() == [0, 1, 0]
    assert detections.data["class_name"].tolist() == ["dog", "cat", "dog"]
    assert detections.mask.shape == (3, 40, 60)
    assert detections.xyxy.tolist() == answer.boxes.tolist()
    assert Segmentation(np.zeros((4, 4), bool), None, True).to_supervision() == "empty"


def test_notebooks_and_files_show_the_mask(tmp_path: Path) -> None:
    answer = Segmentation(two_squares(), text="it")
    for content in (answer._repr_png_(), answer.save(tmp_path / "mask.png").read_bytes()):
        assert np.array_equal(np.asarray(Image.open(BytesIO(content))) > 0, answer.mask)
    assert Segmentation.from_dict(json.loads(answer.save(tmp_path / "answer.json").read_text())) == answer
    with pytest.raises(RefsegError, match=r"writes \.png"):
        answer.save(tmp_path / "mask.gif")


def test_what_contradicts_itself_is_refused() -> None:
    with pytest.raises(RefsegError, match="bool array"):
        Segmentation(np.zeros((1, 2, 2), bool))
    with pytest.raises(RefsegError, match="empty mask"):
        Segmentation(np.ones((2, 2), bool), None, True)
    with pytest.raises(RefsegError, match="probabilities"):
        Segmentation(np.ones((2, 2), bool), probabilities=np.zeros((2, 3), np.float32))


def test_predicted_instances_come_to_the_original_size() -> None:
    left, right = torch.full((2, 16, 16), -20.0)
    left[4:12, 2:6] = 20.0
    right[4:12, 8:14] = 20.0
    instances = InstancePredictions(
        boxes=[torch.tensor([[0.25, 0.5, 0.25, 0.5], [0.7, 0.5, 0.4, 0.5]]), torch.zeros(0, 4)],
        scores=[torch.tensor([0.9, 0.4]), torch.zeros(0)],
        mask_logits=[torch.stack([left, right]), torch.zeros(0, 16, 16)],
    )
    union = torch.maximum(left, right)
    output = Output(union.expand(2, 16, 16), torch.tensor([-3.0, 3.0]), instances=instances)
    geometry = Geometry((32, 64), (16, 16), (0.5, 0.25))
    some, none = postprocess(output, [geometry] * 2, ["them", "nothing"])
    assert [round(each.score, 4) for each in some.instances] == [0.9, 0.4]
    assert some.boxes == pytest.approx(np.array([[8, 8, 24, 24], [32, 8, 57.6, 24]]), abs=1e-4)
    for instance, columns in zip(some.instances, (slice(0, 28), slice(28, 64)), strict=True):
        assert instance.mask.any()
        assert np.array_equal(instance.mask[:, columns], some.mask[:, columns])
        assert instance.mask.sum() == instance.mask[:, columns].sum()
    assert none.instances == ()


@pytest.mark.parametrize("head", [None, torch.tensor([-2.0]), torch.tensor([2.0])])
def test_probability_maps(head: torch.Tensor | None) -> None:
    logits = torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(0)) * 3
    geometry = Geometry((30, 20), (8, 8), (8 / 30, 8 / 20))
    plain = postprocess(Output(logits, head), [geometry], ["it"])[0]
    answer = postprocess(Output(logits, head), [geometry], ["it"], probabilities=True)[0]
    assert plain.probabilities is None
    assert plain == answer
    assert answer.probabilities is not None
    assert answer.probabilities.dtype == np.float32
    assert ((answer.probabilities >= 0) & (answer.probabilities <= 1)).all()
    if not answer.no_target:
        assert np.array_equal(answer.probabilities > 0.5, answer.mask)
        assert answer.score == pytest.approx(float(answer.probabilities[answer.mask].mean()), abs=1e-5)
    else:
        assert (answer.probabilities > 0.5).any()


def test_an_instance_keeps_its_region_alone() -> None:
    instance = Instance.from_mask(two_squares(), 0.5, "it")
    assert instance.region.shape == (21, 43)
    assert np.array_equal(instance.mask, two_squares())
    empty = Instance.from_mask(np.zeros((3, 4), bool), 0.5, "it")
    assert (empty.region.size, empty.mask.shape, empty.box.tolist()) == (0, (3, 4), [0, 0, 0, 0])
