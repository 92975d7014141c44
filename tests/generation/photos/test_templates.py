"""Sentences for photographs are true: checked against what was painted, by rules written anew here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from refseg.data import open_dataset
from refseg.errors import DataError
from refseg.generation.language.forms import (
    Compare,
    Exactly,
    Except,
    Extreme,
    First,
    Form,
    Nth,
    Related,
    Select,
    Side,
    Union,
)
from refseg.generation.photos.attributes import read_attributes
from refseg.generation.photos.contact_sheet import templates_sheet
from refseg.generation.photos.templates import TemplateSettings, make_templates, write_templates
from tests.support.painted import CATEGORIES, layout, paint, write_coco

PICTURES = {number: layout(number) for number in range(1, 41)}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("painted")
    path = write_coco(folder, PICTURES)
    return folder, path, make_templates(path, folder / "images", TemplateSettings(seed=1, per_image=12))


def meant(form: Form, things: list) -> set[int] | None:
    """What a form means among painted (category, colour, box) things; None where this reference has no opinion."""
    if isinstance(form, Select):
        return {
            index
            for index, (category, colour, _) in enumerate(things)
            if category == form.noun and form.colour in (None, colour)
        }
    if isinstance(form, Union):
        parts = [meant(part, things) for part in form.parts]
        return None if any(part is None for part in parts) else set().union(*parts)  # type: ignore[arg-type]
    base = meant(form.base, things)
    assert base is not None
    boxes = [box for _, _, box in things]

    def towards(index: int, side: str) -> float:
        left, top, right, bottom = boxes[index]
        return {"left": -(left + right), "right": left + right, "top": -(top + bottom), "bottom": top + bottom}[side]

    if isinstance(form, Except):
        excluded = meant(form.excluded, things)
        return None if excluded is None else base - excluded
    if isinstance(form, Exactly):
        return base if len(base) == form.count else set()
    if isinstance(form, Compare):
        sizes = {index: (boxes[index][2] - boxes[index][0]) * (boxes[index][3] - boxes[index][1]) for index in base}
        best = (max if form.quality == "bigger" else min)(sizes, key=lambda index: sizes[index], default=None)
        return set() if best is None else {best}
    if isinstance(form, Related):
        anchors = meant(form.anchor, things)
        if not anchors or form.relation not in ("left_of", "right_of"):
            return set() if not anchors else None
        (anchor,) = anchors
        side = "left" if form.relation == "left_of" else "right"
        return {index for index in base - {anchor} if towards(index, side) > towards(anchor, side)}
    if form.side in ("near", "far"):
        return None
    if isinstance(form, Side):
        return {index for index in base if (towards(index, "right") > 280) == (form.side == "right")}
    if isinstance(form, Extreme) and form.side == "middle":
        order = sorted(base, key=lambda index: towards(index, "left"))
        return {order[1]} if len(order) == 3 else set()
    order = sorted(base, key=lambda index: -towards(index, form.side))
    if isinstance(form, Extreme):
        return set(order[:1])
    if isinstance(form, Nth):
        return set(order[form.rank - 1 : form.rank])
    assert isinstance(form, First)
    return set(order[: form.count])


def test_every_sentence_is_true(made) -> None:
    _, _, (_, spoken, problems) = made
    assert not problems
    checked: dict[str, int] = {}
    for item in spoken:
        things = PICTURES[item.photo.image_id]
        # Annotations are numbered in order, so things are the painted ones in order.
        for expression in item.expressions:
            found = meant(expression.form, things)
            if found is None:
                continue
            if isinstance(expression.form, Related) and not expression.targets and found:
                pytest.fail(f"{item.photo.image_id}: {expression.text} means {found}")
            assert found == set(expression.targets), (item.photo.image_id, expression.text, things)
            checked[expression.kind] = checked.get(expression.kind, 0) + 1
    for kind in ("attribute", "location", "comparison", "counting", "group", "compound", "no_target", "ordinal"):
        assert checked.get(kind, 0) >= 5, checked


def test_one_sentence_has_one_meaning_and_targets_fit_its_number(made) -> None:
    _, _, (_, spoken, _) = made
    for item in spoken:
        texts = [expression.text for expression in item.expressions]
        assert len(texts) == len(set(texts)) <= 12
        for expression in item.expressions:
            assert (expression.kind == "no_target") == (not expression.targets)
            if expression.kind in ("attribute", "location", "ordinal", "comparison"):
                assert len(expression.targets) == 1
            if expression.kind in ("group", "counting", "compound", "exclusion"):
                assert len(expression.targets) >= 2


def test_deceptions_speak_of_what_is_there(made) -> None:
    _, _, (_, spoken, _) = made
    said = [(item, one) for item in spoken for one in item.expressions if one.kind == "no_target"]
    assert len(said) > 20
    for item, expression in said:
        present = {category for category, _, _ in PICTURES[item.photo.image_id]}
        assert any(category in expression.text for category in present), expression.text


def test_written_data_loads_with_pictures_and_kinds(made, tmp_path: Path) -> None:
    _, _, (instances, spoken, _) = made
    counts = write_templates(tmp_path, instances, spoken, TemplateSettings(seed=1, per_image=12))
    data = open_dataset(tmp_path)
    assert data.name == "templates"
    assert not data.problems
    assert len(data) == sum(sum(kinds.values()) for kinds in counts.values())
    assert set(counts) == {"train", "val"}
    by_text = {(item.photo.image_id, one.text): one for item in spoken for one in item.expressions}
    for sample in data:
        expression = by_text[sample.image_id, sample.text]
        _, masks = paint(PICTURES[sample.image_id], sample.image_id)
        expected = np.zeros(sample.size, dtype=bool)
        for target in expression.targets:
            expected |= masks[target]
        np.testing.assert_array_equal(sample.mask(), expected)
        assert sample.kind == expression.kind
        assert sample.read_image().size == (280, 200)


def test_pictures_are_copies_and_not_the_originals(made, tmp_path: Path) -> None:
    folder, _, (instances, spoken, _) = made
    write_templates(tmp_path, instances, spoken, TemplateSettings())
    originals = {path.stat().st_ino for path in (folder / "images").rglob("*.*")}
    copies = [path for path in (tmp_path / "images").rglob("*.*") if path.is_file()]
    assert copies
    assert not originals & {path.stat().st_ino for path in copies}


def test_same_seed_same_bytes(made, tmp_path: Path) -> None:
    folder, path, _ = made
    written = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        settings = TemplateSettings(seed=seed, per_image=4)
        instances, spoken, _ = make_templates(path, folder / "images", settings)
        write_templates(tmp_path / name, instances, spoken, settings)
        written.append((tmp_path / name / "templates" / "grefs(templates).json").read_bytes())
    assert written[0] == written[1] != written[2]


def test_plus_has_no_words_for_places(made) -> None:
    folder, path, _ = made
    _, spoken, _ = make_templates(path, folder / "images", TemplateSettings(plus=True))
    places = {"left", "right", "leftmost", "rightmost", "middle", "center", "bottom", "first", "second"}
    texts = [expression.text for item in spoken for expression in item.expressions]
    assert len(texts) > 60
    assert [text for text in texts if places & set(text.replace("right by", "beside").split())] == []


def test_without_exhaustive_annotations_only_the_plainly_biggest_is_named(tmp_path: Path) -> None:
    big = ("dog", "red", (20, 20, 180, 180))
    pictures = {
        1: [big, ("dog", "blue", (220, 100, 260, 140)), ("ball", "blue", (190, 20, 250, 80))],
        2: [("dog", "red", (20, 20, 50, 50))],
    }
    path = write_coco(tmp_path, pictures, exhaustive=False)
    _, (one, two), _ = make_templates(path, tmp_path / "images", TemplateSettings())
    assert not two.expressions
    assert one.expressions
    for expression in one.expressions:
        assert expression.kind in ("comparison", "compound")
        words = expression.text.split()
        assert {"biggest", "largest"} & set(words)
        assert ("dog" in words) == (0 in expression.targets)
        assert 1 not in expression.targets
    path = write_coco(tmp_path, pictures)
    _, (one, _), _ = make_templates(path, tmp_path / "images", TemplateSettings(exhaustive=False))
    assert {expression.kind for expression in one.expressions} <= {"comparison", "compound"}


def test_crowds_and_specks_leave_their_category_open(tmp_path: Path) -> None:
    things = [
        ("dog", "red", (20, 20, 80, 80)),
        ("dog", "blue", (150, 20, 210, 80)),
        ("ball", "blue", (100, 120, 160, 180)),
    ]
    path = write_coco(tmp_path, {1: things})
    content = json.loads(path.read_text())
    content["annotations"].append({**content["annotations"][0], "id": 9, "iscrowd": 1})
    path.write_text(json.dumps(content))
    _, (item,), _ = make_templates(path, tmp_path / "images", TemplateSettings(per_image=20))
    assert item.expressions
    assert not any("dog" in expression.text for expression in item.expressions)
    path = write_coco(tmp_path, {1: [*things, ("dog", "white", (250, 150, 256, 156))]})
    _, (item,), _ = make_templates(path, tmp_path / "images", TemplateSettings(per_image=20))
    assert not any("dog" in expression.text for expression in item.expressions)


def test_copies_of_a_picture_share_its_split(tmp_path: Path) -> None:
    path = write_coco(tmp_path, {number: layout(number) for number in range(1, 25)})
    for number in range(1, 13):  # 13 to 24 become mirror images of 1 to 12
        with Image.open(tmp_path / "images" / f"{number}.png") as image:
            ImageOps.mirror(image).save(tmp_path / "images" / f"{number + 12}.png")
    settings = TemplateSettings(fractions={"train": 0.5, "val": 0.3, "test": 0.2})
    _, spoken, _ = make_templates(path, tmp_path / "images", settings)
    splits = {item.photo.image_id: item.split for item in spoken}
    assert all(splits[number] == splits[number + 12] for number in range(1, 13))
    assert set(splits.values()) == {"train", "val", "test"}


def test_recorded_splits_are_kept(tmp_path: Path) -> None:
    path = write_coco(tmp_path, {1: layout(1), 2: layout(2)}, split="testA")
    _, spoken, _ = make_templates(path, tmp_path / "images", TemplateSettings())
    assert {item.split for item in spoken} == {"testA"}


def test_attributes_from_the_annotations() -> None:
    table = {"Color": "Red", "occluded": True, "pose": "sitting", "gender": "female", "wearing_hat": True, "age": 31}
    found = read_attributes({"attributes": table})
    assert (found.colour, found.noun, found.traits) == ("red", "woman", ("sitting", "hat"))
    listed = read_attributes({"attributes": ["striped", "grey", "old", "child"]})
    assert (listed.colour, listed.pattern, listed.traits, listed.noun) == ("gray", "striped", ("old",), "kid")
    assert read_attributes({}).traits is None


def test_recorded_attributes_are_spoken_of(tmp_path: Path) -> None:
    things = [("dog", "red", (20, 40, 80, 100)), ("dog", "blue", (150, 40, 210, 100))]
    path = write_coco(tmp_path, {1: things})
    content = json.loads(path.read_text())
    content["categories"][CATEGORIES.index("dog")]["name"] = "pedestrian"
    for record, gender, pose in zip(content["annotations"], ("male", "female"), ("sitting", "standing"), strict=True):
        record["attributes"] = {"gender": gender, "pose": pose}
    path.write_text(json.dumps(content))
    _, (item,), _ = make_templates(path, tmp_path / "images", TemplateSettings(per_image=40))
    texts = {expression.text: expression.targets for expression in item.expressions}
    male = {targets for text, targets in texts.items() if {"man", "guy", "gentleman", "fellow"} & set(text.split())}
    assert (0,) in male, texts
    assert any("sitting" in text and targets == (0,) for text, targets in texts.items())


def test_bad_input_is_named(tmp_path: Path) -> None:
    path = write_coco(tmp_path, {1: layout(1), 2: layout(2)})
    (tmp_path / "images" / "2.png").unlink()
    Image.new("RGB", (5, 5)).save(tmp_path / "images" / "1.png")
    _, spoken, problems = make_templates(path, tmp_path / "images", TemplateSettings())
    assert not spoken
    assert {problem.kind for problem in problems} == {"missing_picture", "bad_picture"}
    with pytest.raises(DataError, match="none of the 2 pictures"):
        make_templates(path, tmp_path / "nowhere", TemplateSettings())
    with pytest.raises(DataError, match="add up to 1"):
        TemplateSettings(fractions={"train": 0.5})


def test_the_preview_shows_the_sentences(made) -> None:
    _, _, (instances, spoken, _) = made
    sheet = templates_sheet(instances, spoken, count=7)
    assert sheet.width == 2400
    assert np.asarray(sheet).std() > 10
