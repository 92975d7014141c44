"""Evaluation of a model whose answers are known: it finds the colour that a sentence names."""

import json
import math
import os
import signal
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from torch import nn

from refseg.data.sample import Instance, ReferringDataset, Sample
from refseg.errors import DataError, RefsegError
from refseg.evaluation import pictures
from refseg.evaluation.evaluate import Writers, evaluate_model, evaluate_protocols, native_protocol
from refseg.evaluation.workers import WorkerError
from refseg.geometry import InputConfig
from refseg.metrics import PROTOCOLS, Row, rescore, score
from refseg.types import InstancePredictions, Output, TextFeatures, Tokens
from tests.support.answering import AnsweringModel

COLOURS = {"red": 0, "green": 1, "blue": 2}


@dataclass(frozen=True)
class Config:
    input: InputConfig = field(
        default_factory=lambda: InputConfig(size=32, mean=(0.0, 0.0, 0.0), std=(255.0, 255.0, 255.0))
    )


class Finder(AnsweringModel):
    """mask logits: the named channel's brightness; no target: the channel is dark everywhere. Counts pictures."""

    def __init__(self, late_fusion, config=None):
        super().__init__()
        self.config = config or Config()
        self.late_fusion = late_fusion
        self.scale = nn.Parameter(torch.tensor(10.0))
        self.pictures = 0

    def forward(self, batch):
        batch = batch if self.late_fusion else batch.expanded()
        state = self.encode_image(batch.images, batch.pixel_mask)
        return self.decode(state, self.encode_text(batch.tokens), batch.image_index)

    def encode_image(self, images, pixel_mask):
        assert not torch.is_grad_enabled()
        self.pictures += len(images)
        return nn.functional.avg_pool2d(images, 2) - 0.5

    def encode_text(self, tokens):
        words = nn.functional.one_hot(tokens.ids[:, 0], 3).float()
        return TextFeatures(words[:, None], words, tokens.mask)

    def decode(self, state, text, picture=None):
        state = state if picture is None else state[picture]
        logits = torch.einsum("bchw,bc->bhw", state, text.sentence) * self.scale
        return Output(logits, -logits.flatten(1).max(dim=1).values)


def tokenizer(texts):
    ids = torch.tensor([[COLOURS[text.split()[1]]] for text in texts])
    return Tokens(ids, torch.ones_like(ids, dtype=torch.bool))


def picture_of(rectangles, size=(40, 60)):
    picture = np.zeros((*size, 3), dtype=np.uint8)
    masks = {}
    for colour, (left, top, right, bottom) in rectangles.items():
        picture[top:bottom, left:right, COLOURS[colour]] = 255
        masks[colour] = [np.array([left, top, right, top, right, bottom, left, bottom], dtype=float)]
    return picture, masks


@pytest.fixture
def dataset():
    samples = []
    layouts = [
        {"red": (4, 4, 30, 30), "blue": (36, 8, 56, 36)},
        {"green": (10, 2, 50, 38)},
        {"red": (0, 0, 20, 20), "green": (30, 10, 60, 40), "blue": (2, 22, 18, 38)},
    ]
    for number, rectangles in enumerate(layouts):
        picture, masks = picture_of(rectangles)
        for colour in COLOURS:
            there = colour in masks
            box = tuple(float(value) for value in rectangles.get(colour, (0, 0, 0, 0)))
            samples.append(
                Sample(
                    id=f"{number}_{colour}",
                    text=f"the {colour} thing",
                    image_id=number,
                    size=(40, 60),
                    objects=(Instance(len(samples), colour, box, masks[colour]),) if there else (),
                    no_target=not there,
                    image=picture,
                    kind="attribute" if there else "no target",
                    split="val",
                    dataset="drawn",
                )
            )
    return ReferringDataset(samples, name="drawn", split="val")


def test_a_model_that_finds_the_colour_scores_high(dataset):
    result = evaluate_model(Finder(True), tokenizer, dataset)
    assert result.protocol.name == "native"
    assert result["gIoU"] > 0.9
    assert result["N_acc"] == result["T_acc"] == result["pointing"] == result["none_AP"] == 1.0
    assert result.counts["sentences"] == 9
    assert result.counts["no_target"] == 3
    assert result.counts["pictures"] == 3
    assert result.breakdowns["kind"]["no target"]["gIoU"] == 1.0
    assert result.breakdowns["targets"]["1"]["sentences"] == 6
    assert result.breakdowns["length"]["3-5 words"]["sentences"] == 9


def test_a_wrong_model_scores_low(dataset):
    wrong = Finder(True)
    wrong.scale.data.neg_()
    assert evaluate_model(wrong, tokenizer, dataset)["gIoU"] < 0.1


@pytest.mark.parametrize("batch_size", [1, 2, 4, 64])
def test_late_fusion_encodes_each_picture_once_and_early_fusion_agrees(dataset, batch_size):
    late, early = Finder(True), Finder(False)
    results = [evaluate_model(model, tokenizer, dataset, batch_size=batch_size) for model in (late, early)]
    assert late.pictures == 3
    assert early.pictures == 9
    assert results[0].rows == results[1].rows
    assert results[0].rows == evaluate_model(Finder(True), tokenizer, dataset).rows


def test_the_mode_of_the_model_is_put_back(dataset):
    model = Finder(True).train()
    evaluate_model(model, tokenizer, dataset)
    assert model.training
    evaluate_model(model.eval(), tokenizer, dataset)
    assert not model.training


def test_shards_together_are_the_whole(dataset):
    whole = evaluate_model(Finder(True), tokenizer, dataset, "rela")
    rows = []
    for number in range(2):
        evaluate_model(Finder(True), tokenizer, dataset, "rela", shard=(number, 2), on_row=rows.append)
    assert {row["id"] for row in rows} == {row["id"] for row in whole.rows}
    assert rescore(rows, "rela").compute() == dict(whole)


def test_saved_lines_are_scored_to_the_same_numbers(dataset):
    """What --rows, --predictions and --targets write is enough for every number, without the model."""
    rows, predictions, targets = [], [], []
    writers = Writers(
        *(
            lambda line, lines=lines: lines.append(json.loads(json.dumps(line)))
            for lines in (rows, predictions, targets)
        )
    )
    for protocol in ("native", "rela", "vlt"):
        for lines in (rows, predictions, targets):
            lines.clear()
        result = evaluate_model(Finder(True), tokenizer, dataset, protocol, writers=writers)
        again = score(predictions, targets, protocol)
        assert {name: again[name] for name in again} == {name: result[name] for name in again}
        assert rescore(rows, protocol).compute() == dict(result)
        assert [row["iou"] for row in again.rows] == [row["iou"] for row in result.rows]


def test_several_protocols_share_one_run(dataset):
    model = Finder(True)
    names = [name for name, entry in PROTOCOLS.items() if entry.task == "masks"]
    scores = evaluate_protocols(model, tokenizer, dataset, names)
    assert model.pictures == 3
    assert [entry.protocol.name for entry in scores] == names
    for entry in scores:
        assert dict(entry) == dict(evaluate_model(Finder(True), tokenizer, dataset, entry.protocol))
    sizes = {entry.protocol.name: tuple(entry.rows[0]["size"]) for entry in scores}
    assert sizes["native"] == sizes["vlt"] == (40, 60)
    assert sizes["rela"] == sizes["lavt"] == (32, 32)


def test_stored_thresholds_are_natives(dataset):
    protocol = native_protocol({"threshold": 0.9999, "no_target_threshold": 0.0})
    result = evaluate_model(Finder(True), tokenizer, dataset, protocol)
    assert result["T_acc"] == 0.0
    assert evaluate_model(Finder(True), tokenizer, dataset, replace(protocol, no_target_threshold=0.5))["cIoU"] == 0.0
    assert native_protocol({}) == PROTOCOLS["native"]


def test_pictures_that_cannot_be_read_are_counted_and_named(dataset, tmp_path):
    broken = [replace(sample, image=None, image_path=tmp_path / "gone.jpg") for sample in dataset[3:6]]
    mixed = ReferringDataset([*dataset[:3], *broken, *dataset[6:]])
    result = evaluate_model(Finder(True), tokenizer, mixed)
    assert (result.counts["sentences"], result.counts["unreadable"]) == (6, 3)
    assert result.problems[0].startswith("1_red: ")
    assert "gone.jpg" in result.problems[0]
    with pytest.raises(DataError, match="no expression could be evaluated"):
        evaluate_model(Finder(True), tokenizer, ReferringDataset(broken))


def test_pictures_of_several_sizes(dataset):
    tall = [
        replace(
            sample,
            id=f"tall_{sample.id}",
            image_id=9,
            image=picture_of({"red": (2, 5, 30, 50)}, (64, 32))[0],
            size=(64, 32),
            objects=(),
            no_target=True,
        )
        for sample in dataset[1:2]
    ]
    config = Config(replace(Config().input, resize="longest"))
    result = evaluate_model(Finder(True, config), tokenizer, [*dataset, *tall], "reftr", batch_size=64)
    assert tuple(result.rows[-1]["size"]) == (32, 16)
    assert tuple(result.rows[0]["size"]) == (21, 32)


def test_workers_read_the_same(dataset):
    plain = evaluate_model(Finder(True), tokenizer, dataset)
    assert evaluate_model(Finder(True), tokenizer, dataset, workers=1).rows == plain.rows


def test_a_killed_worker_is_an_error_in_a_line(dataset, monkeypatch):
    own = pictures._Pictures.__getitem__

    def read(self, index):
        if torch.utils.data.get_worker_info() is not None and index == len(self) - 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return own(self, index)

    monkeypatch.setattr(pictures._Pictures, "__getitem__", read)
    before = signal.getsignal(signal.SIGCHLD)
    with pytest.raises(WorkerError, match=r"\(\d+\) was ended by SIGKILL; .*memory") as caught:
        evaluate_model(Finder(True), tokenizer, dataset, workers=1)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, RefsegError)
    assert signal.getsignal(signal.SIGCHLD) is before or before in (signal.SIG_DFL, None)


def test_progress_and_wrong_requests(dataset):
    seen = []
    evaluate_model(
        Finder(True), tokenizer, dataset, batch_size=4, progress=lambda done, total: seen.append((done, total))
    )
    assert seen[-1] == (9, 9)
    with pytest.raises(DataError, match="not masks"):
        evaluate_model(Finder(True), tokenizer, dataset, "davis")
    with pytest.raises(DataError, match="batch_size"):
        evaluate_model(Finder(True), tokenizer, dataset, batch_size=0)


def test_low_precision_is_close(dataset):
    exact = evaluate_model(Finder(True), tokenizer, dataset)
    low = evaluate_model(Finder(True), tokenizer, dataset, precision="bfloat16")
    assert low["gIoU"] == pytest.approx(exact["gIoU"], abs=0.02)


def test_rows_hold_what_breakdowns_need(dataset):
    row = Row.from_dict(evaluate_model(Finder(True), tokenizer, dataset).rows[0])
    assert (row.picture, row.category, row.split, row.dataset, row.targets) == ("0", "red", "val", "drawn", 1)


class BoxFinder(Finder):
    """The same with an instance: the box around the bright cells."""

    def decode(self, state, text, picture=None):
        output = super().decode(state, text, picture)
        size = torch.tensor(output.mask_logits.shape[:0:-1]).repeat(2)
        boxes = []
        for logits in output.mask_logits:
            rows, columns = (logits > 0).nonzero(as_tuple=True)
            if not len(rows):
                boxes.append(torch.zeros(0, 4))
                continue
            low, high = torch.stack([columns.min(), rows.min()]), torch.stack([columns.max(), rows.max()]) + 1
            boxes.append((torch.cat([(low + high) / 2, (high - low).float()]) / size)[None])
        masks = [logits[None][: len(box)] for logits, box in zip(output.mask_logits, boxes, strict=True)]
        instances = InstancePredictions(boxes, [torch.full((len(box),), 0.2) for box in boxes], masks)
        return replace(output, instances=instances)


def test_boxes_of_instances_are_scored_by_grec_and_by_the_lines_that_are_written(dataset):
    rows, predictions, targets = [], [], []
    writers = Writers(rows.append, predictions.append, targets.append)
    result = evaluate_model(BoxFinder(True), tokenizer, dataset, "grec", writers=writers)
    assert result.protocol.name == "grec"
    assert result["F1"] == result["N_acc"] == result["T_acc"] == result["F1_plain_IoU"] == 1.0
    assert (result.counts["sentences"], result.counts["no_target"], result.counts["pictures"]) == (9, 3, 3)
    again = score(predictions, targets, "grec")
    assert dict(again) == dict(result)
    assert {row["id"] for row in rows} == {sample.id for sample in dataset}
    wrong = BoxFinder(True)
    wrong.scale.data.neg_()  # finds what is not the colour
    assert evaluate_model(wrong, tokenizer, dataset, "grec")["F1"] < 0.2


def test_no_box_counts_where_the_model_says_none(dataset):
    strict = replace(PROTOCOLS["grec"], no_target_threshold=0.0)
    result = evaluate_model(BoxFinder(True), tokenizer, dataset, strict)
    assert (result["T_acc"], result["N_acc"]) == (0.0, 1.0)


def test_boxes_want_a_model_that_gives_some_and_protocols_of_boxes_alone(dataset):
    with pytest.raises(DataError, match="this model gives none"):
        evaluate_model(Finder(True), tokenizer, dataset, "grec")
    with pytest.raises(DataError, match="grec compares boxes, native masks"):
        evaluate_protocols(BoxFinder(True), tokenizer, dataset, ["native", "grec"])


def hidden(samples):
    """The same without annotation, as the sentences of a test set whose truth a server keeps."""
    return ReferringDataset([replace(sample, objects=(), no_target=False) for sample in samples])


@pytest.mark.parametrize(("model", "protocol"), [(Finder, "native"), (Finder, "rela"), (BoxFinder, "grec")])
def test_what_nobody_annotated_is_answered_but_in_no_number(dataset, model, protocol):
    rows, predictions, targets = [], [], []
    writers = Writers(rows.append, predictions.append, targets.append)
    result = evaluate_model(model(True), tokenizer, hidden(dataset), protocol, writers=writers)
    assert len(result) > 0
    assert all(math.isnan(value) for value in result.values())
    assert (result.counts["sentences"], result.counts["unannotated"], result.counts["pictures"]) == (0, 9, 3)
    assert [line["id"] for line in predictions] == [sample.id for sample in dataset]
    assert rows == targets == result.rows == []
    assert set(result.to_dict()["metrics"].values()) == {None}


@pytest.mark.parametrize(("model", "protocol"), [(Finder, "native"), (Finder, "rela"), (BoxFinder, "grec")])
def test_unannotated_samples_change_no_metric_of_the_others(dataset, model, protocol):
    alone = evaluate_model(model(True), tokenizer, dataset[:6], protocol)
    predictions = []
    mixed = ReferringDataset([*dataset[:6], *hidden(dataset[6:])])
    writers = Writers(prediction=predictions.append)
    result = evaluate_model(model(True), tokenizer, mixed, protocol, writers=writers)
    assert dict(result) == pytest.approx(dict(alone), nan_ok=True)
    assert result.rows == alone.rows
    assert (alone.counts["unannotated"], result.counts["unannotated"]) == (0, 3)
    assert result.counts["sentences"] == 6
    assert len(predictions) == 9


class Locating(Finder):
    """The same with a map that points elsewhere: into the lower right corner, coarser than the mask."""

    def decode(self, state, text, picture=None):
        output = super().decode(state, text, picture)
        located = torch.zeros(len(output.mask_logits), 4, 4)
        located[:, 3, 3] = 1.0
        return replace(output, location_logits=located)


def test_pointing_is_counted_on_the_map_in_which_a_model_locates(dataset):
    corner = [bool(sample.mask()[35, 52]) for sample in dataset if not sample.no_target]
    assert 0 < sum(corner) < len(corner)
    for protocol in ("native", "lts"):
        assert evaluate_model(Finder(True), tokenizer, dataset, protocol)["pointing"] == 1.0
        result = evaluate_model(Locating(True), tokenizer, dataset, protocol)
        assert result["pointing"] == sum(corner) / len(corner)
        assert result["cIoU"] == evaluate_model(Finder(True), tokenizer, dataset, protocol)["cIoU"]
