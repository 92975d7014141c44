"""The system around the chooser: bytes as tokens, late fusion, masks of instances, losses, remarks."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from refseg.encoders.text.tokenizer import ByteTokenizer
from refseg.errors import RefsegError
from refseg.geometry import InputConfig
from refseg.models.instances.classes import CLASSES
from refseg.models.instances.config import InstancesConfig
from refseg.models.instances.losses import choice_loss
from refseg.models.instances.model import Instances, build_instances
from refseg.models.instances.types import FEATURE_DIM, MASK_SIZE, Proposals
from refseg.types import Batch, Targets, TextFeatures

SIZE = (96, 128)
TOKENS = ByteTokenizer()


class FixedProposer(torch.nn.Module):
    """Two dogs and a cat wherever it looks; masks fill the boxes."""

    def propose(self, image: object) -> Proposals:
        boxes = torch.tensor([[0.05, 0.2, 0.3, 0.7], [0.6, 0.2, 0.9, 0.7], [0.35, 0.5, 0.55, 0.9]])
        probabilities = torch.full((3, len(CLASSES)), 0.01)
        for row, name in enumerate(("dog", "dog", "cat")):
            probabilities[row, CLASSES.index(name)] = 0.9
        masks = torch.full((3, MASK_SIZE, MASK_SIZE), 5.0)
        return Proposals(
            boxes,
            torch.full((3,), 0.9),
            probabilities,
            torch.zeros(3, FEATURE_DIM),
            torch.full((3, 11), 1 / 11),
            masks,
            SIZE,
        )


@pytest.fixture
def model() -> Instances:
    config = InstancesConfig(text=None, fine_masks=False, input=InputConfig(size=128, resize="longest"))
    built = build_instances(config)
    built.proposer = FixedProposer()
    return built.eval()


def batch_of(*texts: str) -> Batch:
    images = torch.zeros(1, 3, *SIZE)
    return Batch(
        images,
        torch.ones(1, *SIZE, dtype=torch.bool),
        TOKENS(list(texts)),
        image_index=torch.zeros(len(texts), dtype=torch.long),
    )


@pytest.mark.parametrize("text", ["the dog", "é ü 漢字 🐶", ""])
def test_bytes_come_back(text: str) -> None:
    assert TOKENS.decode(TOKENS([text, "other and longer"]))[0].strip() == text


def test_a_cut_character_is_left_out() -> None:
    assert TOKENS.decode(ByteTokenizer(8)(["abcdefg漢"])) == ["abcdefg"]
    with pytest.raises(RefsegError, match="max_words"):
        ByteTokenizer(2)


def test_instances_are_apart_and_their_union_is_the_mask(model: Instances) -> None:
    output = model(batch_of("left dog", "both dogs", "the elephant"))
    assert output.instances is not None
    assert output.no_target_logits is not None
    assert [len(boxes) for boxes in output.instances.boxes][:2] == [1, 2]
    assert (output.no_target_logits > 0).tolist() == [False, False, True]
    assert output.instances.labels is not None
    assert output.instances.labels[1] == ["dog", "dog"]
    left, both = output.mask_logits[0] > 0, output.mask_logits[1] > 0
    assert left[:, :64].any()
    assert not left[:, 64:].any()
    assert (both == (output.instances.mask_logits[1] > 0).any(0)).all()
    assert left.sum() == pytest.approx(0.25 * 0.5 * SIZE[0] * SIZE[1], rel=0.1)
    assert output.remarks is not None
    assert any("elephant" in remark for remark in output.remarks[2])


def test_late_fusion_equals_forward_and_rows_can_be_selected(model: Instances) -> None:
    batch = batch_of("left dog", "cat")
    whole = model(batch)
    state = model.encode_image(batch.images, batch.pixel_mask)
    text = model.encode_text(batch.tokens).select(torch.tensor([1, 0]))
    swapped = model.decode(state, text, torch.tensor([0, 0]))
    torch.testing.assert_close(swapped.mask_logits, whole.mask_logits[[1, 0]])
    with pytest.raises(RefsegError):
        model.decode(state, TextFeatures(torch.zeros(1, 1, 1), torch.zeros(1, 1), torch.ones(1, 1, dtype=torch.bool)))


def test_padding_is_no_picture(model: Instances) -> None:
    images = torch.zeros(1, 3, 128, 160)
    mask = torch.zeros(1, 128, 160, dtype=torch.bool)
    mask[:, 16 : 16 + SIZE[0], 8 : 8 + SIZE[1]] = True
    state = model.encode_image(images, mask)[0]
    assert state.image.shape == (*SIZE, 3)
    assert state.content == (16, 8, 16 + SIZE[0], 8 + SIZE[1])
    assert (state.image == [124, 116, 104]).all()  # zeros after normalisation are the mean


def test_losses_fall_for_the_right_choice(model: Instances) -> None:
    model.train()
    batch = batch_of("left dog", "both dogs", "the elephant")
    masks = torch.zeros(3, *SIZE, dtype=torch.bool)
    masks[0, 19:67, 6:38] = True
    instances = [masks[:1], masks[:1], masks[:0]]
    right = Targets(masks, torch.tensor([False, False, True]), instances=instances)
    wrong_masks = torch.zeros_like(masks)
    wrong_masks[0, 48:86, 45:70] = True
    wrong = replace(right, masks=wrong_masks, instances=[wrong_masks[:1], masks[:1], masks[:0]])
    output = model(batch)
    good, bad = model.losses(output, right), model.losses(output, wrong)
    assert set(good) == {"choice", "no_target", "anchor"}
    assert good["choice"].item() < bad["choice"].item()
    sum(bad.values(), torch.zeros(())).backward()
    assert model.chooser.weights.grad is not None
    assert model.chooser.weights.grad.abs().sum() > 0


def test_the_loss_of_one_thing_is_a_cross_entropy(model: Instances) -> None:
    output = model(batch_of("left dog"))
    choice = output.auxiliary["choices"][0]
    evidence = choice.evidence[0]
    wanted = -torch.log_softmax(evidence, 0)[1]
    torch.testing.assert_close(choice_loss(choice, torch.tensor([False, True, False])), wanted)
