"""Networks of transformers behind the interface: tiny random ones, saved and loaded from folders.

What the published weights say is not tested here: they are not to be had. What is: that the adapters give exactly what
the networks give, at every picture's size, one expression or many, and that transformers' own post-processing agrees.
SAM 2's and SAM 3's post-processing stand in modules that import torchvision; their steps are repeated here.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import refseg
from refseg.cli import options
from refseg.encoders.vision.proposers import InstanceProposer
from refseg.errors import RefsegError
from refseg.inference.placement import DEVICE_MAPS
from refseg.inference.predictor import Segmenter
from refseg.models.foundation.families import FAMILIES
from refseg.types import Batch, Output, Targets
from tests.support.tiny_networks import MORE, WRITERS, write_network

ALONE = [name for name, family in FAMILIES.items() if not family.segmenter]
PAIRS = ["grounding-dino+sam2", "owlv2+sam2"]
NAMES = [*ALONE, *PAIRS]
WRITTEN = ("florence2", "paligemma", "qwen-vl")
TEXTS = ["the zebra", "a red ball on the left"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("networks")
    return {name: write_network(root / name, name) for name in (*WRITERS, *MORE)}


@pytest.fixture(scope="module")
def segmenters(folders: dict[str, Path]) -> dict[str, Segmenter]:
    """Every family alone and in pairs; short answers, and thresholds that random scores pass."""
    return {name: load(folders, name) for name in (*NAMES, *MORE, "owlv2+sam")}


def load(folders: dict[str, Path], name: str, **options: Any) -> Segmenter:
    segmenter = refseg.load("+".join(str(folders[part]) for part in name.split("+")), device="cpu", **options)
    model: Any = segmenter.model
    threshold = 1e-5 if name.split("+")[0] in (*WRITTEN, *MORE) else model.config.score_threshold
    model.config = replace(model.config, max_new_tokens=5, num_beams=2, score_threshold=threshold, max_instances=4)
    return segmenter


def picture(height: int, width: int, seed: int = 0) -> Image.Image:
    """Large and small structure, so that networks see something."""
    generator = np.random.default_rng(seed)
    coarse = Image.fromarray(generator.integers(0, 256, (4, 4, 3), dtype=np.uint8)).resize((width, height))
    noise = generator.integers(-30, 30, (height, width, 3))
    return Image.fromarray(np.clip(np.asarray(coarse).astype(int) + noise, 0, 255).astype(np.uint8))


def test_every_family_has_a_tiny_network() -> None:
    assert set(WRITERS) == set(FAMILIES)


@pytest.mark.parametrize("name", NAMES)
def test_answers_have_the_pictures_size_whatever_it_is(segmenters: dict[str, Segmenter], name: str) -> None:
    for size in ((53, 37), (31, 90), (64, 64)):
        answer = segmenters[name](picture(*size), TEXTS[0], no_target_threshold=1.0, probabilities=True)
        assert answer.mask.shape == size
        assert answer.probabilities is not None
        assert answer.probabilities.shape == size
        assert np.isfinite(answer.probabilities).all()
        assert 0 <= answer.no_target_score <= 1
        for instance in answer.instances:
            assert instance.mask.shape == size
            assert 0 <= instance.score <= 1
            x0, y0, x1, y1 = instance.box
            assert 0 <= x0 <= x1 <= size[1]
            assert 0 <= y0 <= y1 <= size[0]


@pytest.mark.parametrize("name", [*NAMES, "owlv2+sam"])
def test_one_by_one_together_and_encoded_once_are_the_same(segmenters: dict[str, Segmenter], name: str) -> None:
    segmenter = segmenters[name]
    pictures = [picture(53, 37, 1), picture(53, 37, 2)]
    options = {"no_target_threshold": 1.0, "probabilities": True}
    together = segmenter(pictures, TEXTS, **options)
    for image, row in zip(pictures, together, strict=True):
        encoded = segmenter.encode(image)
        for text, answer in zip(TEXTS, row, strict=True):
            for other in (segmenter(image, text, **options), encoded.ask(text, **options)):
                # Random weights amplify what another order of summing rounds; the wrong picture or text is off by .1.
                np.testing.assert_allclose(answer.probabilities, other.probabilities, atol=5e-3)
                assert answer.no_target_score == pytest.approx(other.no_target_score, abs=1e-3)
                assert len(answer.instances) == len(other.instances)


@pytest.mark.parametrize("name", ALONE)
def test_pictures_and_texts_make_a_difference(segmenters: dict[str, Segmenter], name: str) -> None:
    """Else the tests above would compare constants. Of four boxes that are all taken the scores alone may differ."""
    segmenter = segmenters[name]
    texts = [*TEXTS, "dog", "man in white"]
    answers = [
        [segmenter.model(segmenter_batch(segmenter, image, text)) for text in texts]
        for image in (picture(48, 48, 4), picture(48, 48, 5))
    ]
    assert any(differ(answers[0][0], other) for other in answers[0][1:])
    assert any(differ(one, other) for one, other in zip(*answers, strict=True))


def differ(one: Output, other: Output) -> bool:
    pairs = ((one.mask_logits, other.mask_logits), (one.no_target_logits, other.no_target_logits))
    return any(mine is not None and yours is not None and not torch.equal(mine, yours) for mine, yours in pairs)


def segmenter_batch(segmenter: Segmenter, image: Image.Image, text: str) -> Any:
    placed = segmenter._place(image)
    return Batch(placed.image[None], placed.pixel_mask[None], segmenter.tokenizer([text]))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "clipseg"])
def test_none_is_the_rule_that_is_stated(segmenters: dict[str, Segmenter], name: str) -> None:
    """The no-target probability passes one half where the best score passes the threshold, and falls with the score."""
    segmenter = segmenters[name]
    model: Any = segmenter.model
    image, before = picture(48, 48, 6), model.config
    output = model(segmenter_batch(segmenter, image, TEXTS[0]))
    assert output.instances is not None
    scores = output.instances.scores[0]
    if not len(scores):
        pytest.fail("a tiny network that finds nothing tests nothing")
    best = float(scores.max())
    try:
        for threshold, none in ((best * 0.5, False), (best * 0.999, False), (min(1.0, best * 1.001 + 1e-6), True)):
            model.config = replace(before, score_threshold=threshold)
            answer = segmenter(image, TEXTS[0])
            assert answer.no_target == none
            assert (answer.no_target_score > 0.5) == none
            assert none == (not answer.instances)
        model.config = replace(before, score_threshold=1.0)
        assert segmenter(image, TEXTS[0]).no_target
        assert len(segmenter(image, TEXTS[0], no_target_threshold=1.0).instances) <= 1
    finally:
        model.config = before


@pytest.mark.parametrize("name", NAMES)
def test_thresholds_are_monotone(segmenters: dict[str, Segmenter], name: str) -> None:
    encoded = segmenters[name].encode(picture(48, 48, 7))
    masks = [encoded.ask(TEXTS[1], threshold=value, no_target_threshold=1.0).mask for value in (0.2, 0.5, 0.8)]
    assert all((larger >= smaller).all() for larger, smaller in pairwise(masks))
    nones = [encoded.ask(TEXTS[1], no_target_threshold=value).no_target for value in (0.0, 0.3, 0.5, 0.7, 1.0)]
    assert nones == sorted(nones, reverse=True)


@pytest.mark.parametrize(
    "name", ["sam3", "grounding-dino+sam2", "owlv2", "clipseg", "florence2", "paligemma", "qwen-vl"]
)
def test_bfloat16_on_the_cpu(folders: dict[str, Path], segmenters: dict[str, Segmenter], name: str) -> None:
    answer = load(folders, name, precision="bfloat16")(
        picture(48, 48, 8), TEXTS[0], no_target_threshold=1.0, probabilities=True
    )
    assert answer.mask.shape == (48, 48)
    assert np.isfinite(answer.probabilities).all()
    if name == "clipseg":  # no decision between: the map itself is near
        full = segmenters[name](picture(48, 48, 8), TEXTS[0], no_target_threshold=1.0, probabilities=True)
        assert np.abs(answer.probabilities - full.probabilities).mean() < 0.1


@pytest.mark.parametrize("name", ["sam3", "owlv2", "grounding-dino+sam2", "florence2"])
def test_proposals_of_bare_names(segmenters: dict[str, Segmenter], name: str) -> None:
    model: Any = segmenters[name].model
    assert isinstance(model, InstanceProposer)
    model.config = replace(model.config, proposal_threshold=0.0)
    encoded = model.encode_picture(picture(40, 60, 9))
    found = model.propose(encoded, ["zebra", "dog"])
    assert len(found) == 2
    alone = model.propose(encoded, ["dog"])[0]
    torch.testing.assert_close(found[1].boxes, alone.boxes, atol=1e-3, rtol=0)
    assert len(found[0])
    for each in found:
        assert (each.boxes >= 0).all()
        assert (each.boxes <= torch.tensor([60.0, 40.0, 60.0, 40.0])).all()
        assert (each.masks is None) == (name == "owlv2")
        if each.masks is not None:
            assert each.masks.shape == (len(each), 40, 60)
    assert model.propose(encoded, []) == []
    model.config = replace(model.config, proposal_threshold=1.0)
    assert [len(each) for each in model.propose(encoded, ["zebra"])] == [0]


def test_what_a_model_cannot_say_is_said(segmenters: dict[str, Segmenter]) -> None:
    model: Any = segmenters["clipseg"].model
    with pytest.raises(RefsegError, match="one mask and no instances"):
        model.propose(model.encode_picture(picture(32, 32)), ["zebra"])
    targets = Targets(torch.zeros(1, 2, 2, dtype=torch.bool), torch.zeros(1, dtype=torch.bool))
    with pytest.raises(RefsegError, match="not trained"):
        model.losses(Output(torch.zeros(1, 2, 2)), targets)
    remarks = segmenters["owlv2"](picture(32, 32), "the zebra").extra["remarks"]
    assert "filled box" in remarks[0]
    assert not segmenters["owlv2+sam2"](picture(32, 32), "the zebra").extra.get("remarks")
    long = " ".join(["the red ball on the left"] * 12)
    assert "end was not used" in segmenters["sam3"](picture(32, 32), long).extra["remarks"][0]


def test_out_of_memory_says_what_it_takes(segmenters: dict[str, Segmenter], monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = segmenters["clipseg"].model

    def fail(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(model.network.clip, "get_image_features", fail)
    with pytest.raises(RefsegError, match=r"out of memory on cpu; the weights alone take .* GiB; use --precision"):
        segmenters["clipseg"](picture(32, 32), "the zebra")


@pytest.mark.parametrize("name", [name for name in ALONE if name != "clipseg"])
def test_boxes_are_shown_with_their_scores(segmenters: dict[str, Segmenter], name: str) -> None:
    """Those below the threshold, too; what passes it is the answer."""
    segmenter = segmenters[name]
    shown = segmenter.explain(picture(48, 60, 16), TEXTS[0], no_target_threshold=1.0)
    (scores,) = shown.maps
    assert scores.kind == "boxes"
    threshold = segmenter.model.config.score_threshold  # type: ignore[union-attr]
    passing = min(int((scores.values > threshold).sum()), 4)
    assert len(shown.answer.instances) == max(passing, min(1, len(scores.values)))
    assert list(scores.values) == sorted(scores.values, reverse=True)
    assert shown.sheet().width


def test_clipseg_shows_its_map(segmenters: dict[str, Segmenter]) -> None:
    image = picture(48, 60, 17)
    shown = segmenters["clipseg"].explain(image, TEXTS[0])
    answer = segmenters["clipseg"](image, TEXTS[0], probabilities=True)
    np.testing.assert_allclose(shown["map"].values[0], answer.probabilities, atol=1e-5)


# ---- where it computes


def test_a_device_map_lays_parts_out(folders: dict[str, Path], segmenters: dict[str, Segmenter]) -> None:
    """One device here: several were not to be had."""
    pytest.importorskip("accelerate", reason="the optional extra 'train' is not installed")
    placed = refseg.load(str(folders["clipseg"]), device_map={"": "cpu"})
    assert placed.device.type == "cpu"
    image = picture(48, 48, 18)
    plain, answer = (each(image, TEXTS[0], probabilities=True) for each in (segmenters["clipseg"], placed))
    np.testing.assert_array_equal(answer.probabilities, plain.probabilities)


def test_a_model_over_placed_parts_leaves_them_there(folders: dict[str, Path]) -> None:
    model: Any = refseg.load(str(folders["clipseg"]), device="cpu").model
    model.network.hf_device_map = {"clip": "cpu", "decoder": "cuda:0"}
    before = model.network.dtype
    assert model.to(torch.float64).network.dtype == before
    assert model.device == torch.device("cuda", 0)  # input goes to the accelerator


def test_device_maps_that_cannot_be(folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("accelerate", reason="the optional extra 'train' is not installed")
    assert options.DEVICE_MAPS == DEVICE_MAPS
    clipseg, pair = str(folders["clipseg"]), f"{folders['owlv2']}+{folders['sam2']}"
    away = {"model.visual": "disk", "model.language_model": "cpu", "lm_head": "cpu"}
    wrong: list[tuple[str, dict[str, Any], str]] = [
        (clipseg, {"device_map": "aut"}, "device_map 'aut' is unknown; did you mean 'auto'"),
        (clipseg, {"device_map": {}}, "or a table of parts with their devices"),
        (clipseg, {"device_map": "auto", "device": "cpu"}, "says where the parts go; leave one of them"),
        (pair, {"device_map": {"": "cpu"}}, "a table of parts is for one network; of two, take auto"),
        ("instances", {"device_map": "auto"}, "device_map: instances is no network of transformers"),
        (str(folders["qwen-vl"]), {"device_map": away}, r"leaves model\.visual on the disk"),
    ]
    for name, given, message in wrong:
        with pytest.raises(RefsegError, match=message):
            refseg.load(name, **given)
    monkeypatch.setattr("refseg.inference.placement.find_spec", lambda name: None)
    with pytest.raises(RefsegError, match=r"device_map needs accelerate: pip install 'refseg\[train\]'"):
        refseg.load(clipseg, device_map="auto")


def test_what_is_compiled_answers_the_same(folders: dict[str, Path], segmenters: dict[str, Segmenter]) -> None:
    """torch's backend "eager" traces without a compiler."""
    image = picture(48, 48, 19)
    compiled = refseg.load(str(folders["clipseg"]), device="cpu", compile="eager")
    network: Any = compiled.model.network
    translated = [part for part in network.modules() if part._compiled_call_impl is not None]
    assert {type(part).__name__ for part in translated} >= {"CLIPSegVisionModel", "CLIPSegDecoder"}
    plain, answer = (each(image, TEXTS[0], probabilities=True) for each in (segmenters["clipseg"], compiled))
    np.testing.assert_allclose(answer.probabilities, plain.probabilities, atol=1e-6)


def test_compilers_that_are_not_there(folders: dict[str, Path]) -> None:
    from torch import _dynamo

    def broken(graph: object, inputs: object) -> object:
        raise OSError("no g++ here")

    if "broken" not in _dynamo.list_backends(exclude_tags=()):
        _dynamo.register_backend(broken, name="broken")
    with pytest.raises(RefsegError, match=r"compiler 'broken' does not work here \(.*a C\+\+ compiler is wanted"):
        refseg.load(str(folders["clipseg"]), device="cpu", compile="broken")
    with pytest.raises(RefsegError, match="no backend 'inducto'; did you mean 'inductor'"):
        refseg.load(str(folders["clipseg"]), device="cpu", compile="inducto")
    with pytest.raises(RefsegError, match="networks of transformers alone are compiled"):
        refseg.load("instances", device="cpu", compile=True)


# ---- the same as the networks themselves, with transformers' post-processing


def states(segmenter: Segmenter, image: Image.Image, texts: list[str]) -> tuple[Any, Any]:
    model: Any = segmenter.model
    return model.encode_picture(image), model.read(texts) if texts else None


@torch.no_grad()
def test_sam3_agrees(segmenters: dict[str, Segmenter]) -> None:
    """`post_process_instance_segmentation`, step by step: scores x presence, probabilities enlarged, then cut."""
    model: Any = segmenters["sam3"].model
    image, text = picture(53, 37, 10), TEXTS[0]
    tokens = model._tokenizer([text], padding="max_length", max_length=32, truncation=True, return_tensors="pt")
    raw = model.network(pixel_values=model._processor([np.asarray(image)])["pixel_values"], **tokens)
    scores = raw.pred_logits.sigmoid() * raw.presence_logits.sigmoid()
    state, words = states(segmenters["sam3"], image, [text])
    (found,) = model.find(state, words, [0])
    torch.testing.assert_close(found.scores, scores[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(found.boxes, raw.pred_boxes[0], atol=1e-5, rtol=0)
    wanted = torch.nn.functional.interpolate(
        raw.pred_masks.sigmoid(), size=(53, 37), mode="bilinear", align_corners=False
    )[0]
    mine = model._masks(state, 0, found).sigmoid()
    torch.testing.assert_close(mine, wanted, atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("name", ["grounding-dino", "mm-grounding-dino"])
def test_grounding_dino_agrees(segmenters: dict[str, Segmenter], name: str) -> None:
    from types import SimpleNamespace

    from transformers.models.grounding_dino.processing_grounding_dino import GroundingDinoProcessor

    model: Any = segmenters[name].model
    image = picture(53, 37, 11)
    tokens = model._tokenizer(["the zebra."], return_token_type_ids=True, return_tensors="pt")
    inputs = model._processor(images=[np.asarray(image)], return_tensors="pt")
    raw = model.network(**inputs, **tokens)
    stand_in: Any = SimpleNamespace(batch_decode=lambda ids: [""] * len(ids))
    wanted = GroundingDinoProcessor.post_process_grounded_object_detection(
        stand_in, raw, tokens["input_ids"], threshold=0.0, target_sizes=[(53, 37)]
    )[0]
    state, words = states(segmenters[name], image, ["The zebra", "a dog"])
    found = model.find(state, words, [0, 0])[0]
    torch.testing.assert_close(found.scores, wanted["scores"], atol=1e-5, rtol=0)
    size = torch.tensor([37.0, 53.0, 37.0, 53.0])
    torch.testing.assert_close(found.boxes * size, wanted["boxes"], atol=1e-3, rtol=0)


@torch.no_grad()
def test_owlv2_agrees(segmenters: dict[str, Segmenter]) -> None:
    model: Any = segmenters["owlv2"].model
    image = picture(53, 37, 12)
    tokens = model._tokenizer(TEXTS, padding="max_length", max_length=16, truncation=True, return_tensors="pt")
    inputs = model._processor(images=[np.asarray(image)], return_tensors="pt")
    state, words = states(segmenters["owlv2"], image, TEXTS)
    for place, found in enumerate(model.find(state, words, [0, 0])):
        one = {name: values[place : place + 1] for name, values in tokens.items()}
        raw = model.network(**inputs, input_ids=one["input_ids"], attention_mask=one["attention_mask"])
        wanted = model._processor.post_process_object_detection(raw, threshold=0.0, target_sizes=[(53, 37)])[0]
        torch.testing.assert_close(found.scores, wanted["scores"], atol=1e-5, rtol=0)
        size = torch.tensor([37.0, 53.0, 37.0, 53.0])
        torch.testing.assert_close(found.boxes * size, wanted["boxes"], atol=1e-3, rtol=0)


@torch.no_grad()
def test_clipseg_agrees(segmenters: dict[str, Segmenter]) -> None:
    model: Any = segmenters["clipseg"].model
    image = picture(53, 37, 13)
    tokens = model._tokenizer(TEXTS, padding=True, return_tensors="pt")
    inputs = model._processor(images=[np.asarray(image)] * 2, return_tensors="pt")
    raw = model.network(**inputs, input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]).logits
    wanted = torch.nn.functional.interpolate(raw[:, None], size=(53, 37), mode="bilinear", align_corners=False)[:, 0]
    answers = segmenters["clipseg"](image, TEXTS, probabilities=True)
    for answer, logits in zip(answers, wanted, strict=True):
        np.testing.assert_allclose(answer.probabilities, logits.sigmoid().numpy(), atol=1e-5)


@torch.no_grad()
def test_sam2_agrees(segmenters: dict[str, Segmenter]) -> None:
    """Boxes in pixels of the square, one mask each, logits enlarged to the picture (`post_process_masks`)."""
    from refseg.models.foundation.base import Found

    model: Any = segmenters["owlv2+sam2"].model
    image, network = picture(53, 37, 14), model.segmenter.network
    boxes = torch.tensor([[5.0, 7.0, 30.0, 40.0], [0.0, 0.0, 37.0, 20.0]])
    square = torch.tensor(np.array(image.resize((128, 128), Image.Resampling.BILINEAR))).permute(2, 0, 1).float() / 255
    mean, std = (torch.tensor(part).view(3, 1, 1) for part in FAMILIES["sam2"].square)
    prompts = boxes / torch.tensor([37.0, 53.0, 37.0, 53.0]) * 128
    raw = network(pixel_values=((square - mean) / std)[None], input_boxes=prompts[None], multimask_output=False)
    wanted = torch.nn.functional.interpolate(raw.pred_masks[0], size=(53, 37), mode="bilinear", align_corners=False)
    state, _ = states(segmenters["owlv2+sam2"], image, [])
    found = Found(boxes / torch.tensor([37.0, 53.0, 37.0, 53.0]), torch.ones(2))
    torch.testing.assert_close(model._masks(state, 0, found).sigmoid(), wanted[:, 0].sigmoid(), atol=1e-4, rtol=0)


@torch.no_grad()
def test_sam_agrees(segmenters: dict[str, Segmenter]) -> None:
    """Boxes in pixels of the resized picture, logits enlarged to the padded input, cut, enlarged to the picture."""
    from transformers import SamProcessor

    from refseg.models.foundation.base import Found

    model: Any = segmenters["owlv2+sam"].model
    image, network = picture(53, 37, 14), model.segmenter.network
    boxes = torch.tensor([[5.0, 7.0, 30.0, 40.0], [0.0, 0.0, 37.0, 20.0]])
    inputs = SamProcessor(model.segmenter._processor)(image, input_boxes=[boxes.tolist()], return_tensors="pt")
    sizes = inputs.pop("original_sizes"), inputs.pop("reshaped_input_sizes")
    inputs["input_boxes"] = inputs["input_boxes"].float()
    raw = network(**inputs, multimask_output=False)
    wanted = model.segmenter._processor.post_process_masks(raw.pred_masks, *sizes, binarize=False)[0]
    state, _ = states(segmenters["owlv2+sam"], image, [])
    found = Found(boxes / torch.tensor([37.0, 53.0, 37.0, 53.0]), torch.ones(2))
    torch.testing.assert_close(model._masks(state, 0, found).sigmoid(), wanted[:, 0].sigmoid(), atol=1e-4, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("name", [*WRITTEN, "qwen2-vl", "qwen3-vl"])
def test_writers_write_what_generate_writes(segmenters: dict[str, Segmenter], name: str) -> None:
    """With the picture given anew rather than its features: the same tokens."""
    model: Any = segmenters[name].model
    image, text = picture(53, 37, 15), "the zebra"
    state, _ = states(segmenters[name], image, [])
    written, score = model.write(state.features[0], text)
    given = model.inputs(state.features[0], text)
    pixels = model._pixels([np.asarray(image)])
    if name == "florence2":
        count = len(state.features[0])
        prompt = "<image>" * count + f"<s>{text}</s>"
        ids = model._tokenizer(prompt, add_special_tokens=False, return_tensors="pt")["input_ids"]
        given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    given.pop("mm_encoder_outputs", None)
    made = model.network.generate(**(given | pixels), do_sample=False, num_beams=2, max_new_tokens=5)
    start = given["input_ids"].shape[1] if name != "florence2" else 1
    assert model._tokenizer.decode(made[0, start:], skip_special_tokens=False) == written
    assert 0 < score <= 1
