"""Scoring of clips: what the model is shown, masks merged by the likeliest object, hidden sets, damaged files."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from refseg.data import open_dataset
from refseg.data.rle import decode
from refseg.data.sample import ReferringDataset
from refseg.data.transforms import place_image
from refseg.errors import DataError, RefsegError
from refseg.evaluation.clips import evaluate_clips, first_clips
from refseg.evaluation.evaluate import evaluate_model, evaluate_protocols
from refseg.evaluation.runs import Writers
from refseg.evaluation.submission import writing_submission
from refseg.geometry import InputConfig
from refseg.metrics import PROTOCOLS, get_protocol, score
from refseg.metrics.video import contour_accuracy, region_similarity
from refseg.types import Batch, Output, TextFeatures, Tokens
from tests.support.answering import AnsweringModel
from tests.support.format_files import block
from tests.support.small_video import FRAMES, davis_labels, write_davis, write_mevis, write_youtube

SIZE, INPUT = (40, 60), InputConfig(size=32)


@dataclass(frozen=True)
class Shape:
    input: InputConfig = INPUT


def tokenizer(texts: list[str]) -> Tokens:
    """The letters' sum as the one word."""
    ids = torch.tensor([[sum(map(ord, text)) % 97] for text in texts])
    return Tokens(ids, torch.ones_like(ids, dtype=torch.bool))


class Frames(AnsweringModel):
    """Says of each pixel of a map of 8 x 8 cells something that hangs on the expression and the frame alone."""

    late_fusion = False

    def __init__(self, none: str | None = None) -> None:
        super().__init__()
        self.config, self.none = Shape(), none
        self.anything = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[int] = []

    def answer(self, images: torch.Tensor, words: torch.Tensor) -> Output:
        self.seen.append(len(images))
        rows, columns = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
        phase = words.float().view(-1, 1, 1) + images.mean(dim=(1, 2, 3)).view(-1, 1, 1) * 40
        logits = 3 * torch.sin(rows * 0.9 + phase) * torch.cos(columns * 0.7 + 2 * phase)
        if self.none is None:
            return Output(logits)
        return Output(logits, torch.where(words.flatten() == tokenizer([self.none]).ids[0], 5.0, -5.0))

    def forward(self, batch: Batch) -> Output:
        return self.answer(batch.images, batch.tokens.ids[:, 0])


class Clips(Frames):
    """The same for clips at once."""

    late_fusion = True

    def encode_image(self, images: torch.Tensor, pixel_mask: torch.Tensor) -> torch.Tensor:
        raise AssertionError("clips are encoded as clips")

    def encode_clip(self, images: torch.Tensor, pixel_mask: torch.Tensor) -> torch.Tensor:
        return images

    def encode_text(self, tokens: Tokens) -> TextFeatures:
        words = tokens.ids[..., None].float()
        return TextFeatures(words, words[:, 0], tokens.mask)

    def decode_clip(self, state: torch.Tensor, text: TextFeatures) -> Output:
        assert len(text.words) == 1
        return self.answer(state, text.sentence[:, 0].long().expand(len(state)))


def enlarge(logits: torch.Tensor) -> np.ndarray:
    """A map at the pictures' size, by way of the network's input."""
    whole = F.interpolate(logits[None, None], size=(32, 32), mode="bilinear", align_corners=False)
    return F.interpolate(whole, size=SIZE, mode="bilinear", align_corners=False)[0, 0].numpy()


def collected(model: torch.nn.Module, dataset: ReferringDataset, protocol: str, **options: Any) -> tuple[Any, ...]:
    """Score, predictions by id, targets."""
    lines: dict[str, list[dict[str, Any]]] = {"prediction": [], "target": []}
    writers = Writers(prediction=lines["prediction"].append, target=lines["target"].append)
    found = evaluate_model(model, tokenizer, dataset, protocol, writers=writers, **options)
    return found, lines["prediction"], lines["target"]


def test_a_video_is_shown_whole_and_counted_as_refseg_score_counts(tmp_path: Path) -> None:
    write_youtube(tmp_path)
    dataset = open_dataset(tmp_path, split="train")
    model = Clips()
    found, said, meant = collected(model, dataset, "youtube-vos")
    assert model.seen == [4] * 5
    assert found.counts == {"objects": 5, "frames": 20, "videos": 2, "unannotated": 0, "unreadable": 0}
    again = score(said, meant, "youtube-vos")
    assert {name: again[name] for name in again} == pytest.approx(dict(found), abs=1e-12)
    assert [row["id"] for row in found.rows] == ["abc_0", "abc_1", "abc_2", "def_0", "def_1"]
    model.seen.clear()
    windows = evaluate_model(model, tokenizer, dataset, "youtube-vos", clip_frames=3)
    assert model.seen == [3, 3, 3, 1, 1, 1, 3, 3, 1, 1]
    assert dict(windows) == dict(found)  # this model's frames know nothing of each other
    frames = Frames()
    assert dict(evaluate_model(frames, tokenizer, dataset, "youtube-vos", batch_size=2)) == pytest.approx(dict(found))
    assert set(frames.seen) == {2}
    seen: list[tuple[int, int]] = []
    halves = [
        evaluate_clips(
            model, tokenizer, dataset, [PROTOCOLS["mevis"]], shard=(k, 2), progress=lambda *at: seen.append(at)
        )
        for k in range(2)
    ]
    assert [len(half[0].rows) for half in halves] == [3, 2]
    assert seen == [(3, 3), (2, 2)]


def test_objects_of_an_annotator_are_merged(tmp_path: Path) -> None:
    """Against ReferFormer's way, pixel by pixel: probabilities under .5 are 0, the ground has .1, the largest wins."""
    write_davis(tmp_path)
    dataset, model = open_dataset(tmp_path, split="val"), Clips()
    _, said, _ = collected(model, dataset, "davis")
    _, apart, _ = collected(model, dataset, "youtube-vos")
    masks = {line["id"]: decode(line["mask"]) for line in said}
    alone = {line["id"]: decode(line["mask"]) for line in apart}
    clips, shared, kept = dataset.samples.clips, 0, 0
    for frame in range(4):
        pixels = place_image(dataset[frame].read_image(), model.config.input)[0][None]
        for annotator in range(4):
            own = [clip for clip in clips if clip.kind == clips[annotator].kind]
            logits = [enlarge(model.answer(pixels, tokenizer([clip.text]).ids[:, 0]).mask_logits[0]) for clip in own]
            chances = [[1 / (1 + math.exp(-value)) for value in logit.flatten().tolist()] for logit in logits]
            labels = []
            for pixel in zip(*chances, strict=True):
                candidates = [0.1, *(0.0 if chance < 0.5 else chance for chance in pixel)]
                labels.append(candidates.index(max(candidates)))
            wanted = np.array(labels).reshape(SIZE)
            for number, clip in enumerate(own, start=1):
                name = f"{clip.id}/{frame:05d}"
                assert (masks[name] == (wanted == number)).all()
                kept += int(alone[name].sum())
            shared += int((alone[f"{own[0].id}/{frame:05d}"] & alone[f"{own[1].id}/{frame:05d}"]).sum())
    assert shared > 0
    assert sum(int(mask.sum()) for mask in masks.values()) == kept - shared


def test_ref_davis17_as_converted_by_referformer_knows_its_annotators(tmp_path: Path) -> None:
    write_davis(tmp_path / "khoreva")
    whole = open_dataset(tmp_path / "khoreva", split="val")
    home = tmp_path / "converted" / "ref-davis"
    source = tmp_path / "khoreva" / "ref-davis17" / "DAVIS"
    expressions = {
        str(number): {"exp": clip.text, "obj_id": str(clip.objects[0])}
        for number, clip in enumerate(whole.samples.clips)
    }
    frames = [f"{number:05d}" for number in range(4)]
    (home / "meta_expressions" / "valid").mkdir(parents=True)
    (home / "meta_expressions" / "valid" / "meta_expressions.json").write_text(
        json.dumps({"videos": {"car": {"expressions": expressions, "frames": frames}}})
    )
    for name, folder in (("JPEGImages", "JPEGImages/480p"), ("Annotations", "Annotations_unsupervised/480p")):
        (home / "valid").mkdir(exist_ok=True)
        (home / "valid" / name).symlink_to(source / folder)
    converted = open_dataset(tmp_path / "converted", split="valid")
    assert [clip.kind for clip in converted.samples.clips] == [clip.kind for clip in whole.samples.clips]
    one, other = (evaluate_model(Clips(), tokenizer, data, "ref-davis17") for data in (whole, converted))
    assert dict(one) == dict(other)


@pytest.mark.parametrize(
    ("write", "name", "split", "protocol"),
    [(write_youtube, "ref-youtube-vos", "train", "youtube-vos"), (write_mevis, "mevis", "valid_u", "mevis")],
)
def test_a_submission_holds_what_was_scored(tmp_path: Path, write: Any, name: str, split: str, protocol: str) -> None:
    write(tmp_path)
    dataset, folder = open_dataset(tmp_path, split=split), tmp_path / "sent"
    with writing_submission(folder, name, PROTOCOLS[protocol]) as sent:
        assert not folder.exists()
        found = evaluate_model(Clips(), tokenizer, dataset, protocol, submission=sent)
    home = folder / "Annotations" if name == "ref-youtube-vos" else folder
    regions = []
    for clip in dataset.samples.clips:
        pictures = [Image.open(home / clip.video / clip.sentence / f"{path.stem}.png") for path in clip.frames]
        assert {picture.mode for picture in pictures} == {"L"}
        read = np.stack([np.asarray(picture) for picture in pictures])
        assert set(np.unique(read)) <= {0, 255}
        regions.append(region_similarity(read > 0, clip.target()).mean())
    assert found["J"] == pytest.approx(np.mean(regions))
    assert sum(path.is_file() for path in folder.rglob("*")) == sent.files == len(dataset)


def test_a_submission_of_davis_has_a_palette_an_annotator(tmp_path: Path) -> None:
    write_davis(tmp_path)
    dataset, folder = open_dataset(tmp_path, split="val"), tmp_path / "sent"
    with writing_submission(folder, "ref-davis17", PROTOCOLS["davis"]) as sent:
        found = evaluate_model(Clips(), tokenizer, dataset, "davis", submission=sent)
    assert sorted(path.name for path in folder.iterdir()) == [f"anno_{number}" for number in range(4)]
    means = []
    for number in range(4):
        pictures = [Image.open(folder / f"anno_{number}" / "car" / f"{frame:05d}.png") for frame in range(4)]
        assert {picture.mode for picture in pictures} == {"P"}
        assert pictures[0].getpalette()[:9] == [0, 0, 0, 128, 0, 0, 0, 128, 0]  # type: ignore[index]
        said = np.stack([np.asarray(picture) for picture in pictures])
        meant = np.stack([davis_labels(frame) for frame in range(4)])
        for label in (1, 2):
            pair = said == label, meant == label
            means.append((region_similarity(*pair)[1:-1].mean() + contour_accuracy(*pair)[1:-1].mean()) / 2)
    assert found["J&F"] == pytest.approx(np.mean(means))
    assert found.breakdowns["annotator"].keys() == {clip.kind for clip in dataset.samples.clips}


def test_hidden_sets_are_answered_and_not_scored(tmp_path: Path) -> None:
    write_youtube(tmp_path)
    dataset = open_dataset(tmp_path, split="valid")
    # The test set's videos are listed among the validation set's, and have no frames there.
    assert {clip.video for clip in dataset.samples.clips} == {"xyz"}
    found, said, meant = collected(Clips(), dataset, "youtube-vos")
    assert all(math.isnan(value) for value in found.values())
    assert found.counts["unannotated"] == 2
    assert [line["id"] for line in said] == ["xyz_0/00000", "xyz_1/00000", "xyz_0/00005", "xyz_1/00005"]
    assert (meant, found.rows) == ([], [])


def test_what_a_model_says_of_no_target_clears_a_frame(tmp_path: Path) -> None:
    write_mevis(tmp_path)
    dataset = open_dataset(tmp_path, split="valid_u")
    _, said, _ = collected(Clips(none=dataset.samples.clips[1].text), dataset, "mevis")
    for line in said:
        assert decode(line["mask"]).any() == line["id"].startswith("v1_0")


def test_missing_frames_end_it_before_anything_is_answered(tmp_path: Path) -> None:
    home = write_youtube(tmp_path)
    (home / "train" / "JPEGImages" / "abc" / f"{FRAMES[2]}.jpg").unlink()
    with pytest.raises(DataError, match=f"train abc: 1 of 4 frames are not there, the first is {FRAMES[2]}; clips are"):
        evaluate_model(Clips(), tokenizer, open_dataset(tmp_path, split="train"), "youtube-vos")
    davis = write_davis(tmp_path / "more") / "DAVIS" / "JPEGImages" / "480p" / "car" / "00001.jpg"
    davis.unlink()
    with pytest.raises(DataError, match="video car: 1 of 4 frames are not there, the first is 00001; clips are"):
        evaluate_model(Clips(), tokenizer, open_dataset(tmp_path / "more", split="val"), "davis")


def test_a_damaged_frame_is_told_and_ends_a_submission(tmp_path: Path) -> None:
    home = write_youtube(tmp_path)
    path = home / "train" / "JPEGImages" / "abc" / f"{FRAMES[2]}.jpg"
    dataset = open_dataset(tmp_path, split="train")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    found = evaluate_model(Clips(), tokenizer, dataset, "youtube-vos")
    assert (found.counts["unreadable"], found.counts["objects"]) == (3, 2)
    assert all(problem.startswith("abc_") for problem in found.problems)
    with (
        pytest.raises(RefsegError),
        writing_submission(tmp_path / "s", "ref-youtube-vos", PROTOCOLS["youtube-vos"]) as sent,
    ):
        evaluate_model(Clips(), tokenizer, dataset, "youtube-vos", submission=sent)
    assert not (tmp_path / "s").exists()
    assert not [entry for entry in tmp_path.iterdir() if entry.name.startswith(".s")]


def test_wrong_requests(tmp_path: Path) -> None:
    write_davis(tmp_path)
    dataset = open_dataset(tmp_path, split="val")
    with pytest.raises(DataError, match="not masks of pictures"):
        evaluate_model(Clips(), tokenizer, dataset[:4], "davis")
    with pytest.raises(DataError, match="oracle"):
        evaluate_model(Clips(), tokenizer, dataset, "davis", oracle=lambda *_: None)
    with pytest.raises(DataError, match="compares masks, davis video"):
        evaluate_protocols(Clips(), tokenizer, dataset, ["davis", "native"])
    short = replace(get_protocol("davis"), skipped_frames=(2, 2))
    with pytest.raises(DataError, match="clip car_0: 4 frames; davis leaves out 4 of them"):
        evaluate_clips(Clips(), tokenizer, dataset, [short])
    for folder, name, protocol, words in (
        (tmp_path, "mevis", "mevis", "is there already"),
        (tmp_path / "new", "mevis", "native", "compares masks"),
        (tmp_path / "new", "refcoco", "mevis", "no known format"),
        (tmp_path / "new", "ref-davis17", "mevis", "wants merged objects"),
    ):
        with pytest.raises(RefsegError, match=words), writing_submission(folder, name, PROTOCOLS[protocol]):
            raise AssertionError("nothing is begun")
    assert not (tmp_path / "new").exists()
    clips = dataset.samples.clips
    with (
        writing_submission(tmp_path / "new", "mevis", PROTOCOLS["mevis"]) as sent,
        pytest.raises(DataError, match="folder"),
    ):
        sent.add([replace(clips[0], sentence="../x")], 0, [block(0, 0)])


def test_the_first_clips_and_videos(tmp_path: Path) -> None:
    write_youtube(tmp_path)
    dataset = open_dataset(tmp_path, split="train")

    def names(part: ReferringDataset) -> Sequence[str]:
        return [clip.id for clip in part.samples.clips]

    assert names(first_clips(dataset, clips=4)) == ["abc_0", "abc_1", "abc_2", "def_0"]
    assert names(first_clips(dataset, videos=1)) == ["abc_0", "abc_1", "abc_2"]
    assert names(first_clips(dataset)) == names(dataset)
    assert first_clips(dataset, videos=1).name == "ref-youtube-vos"
