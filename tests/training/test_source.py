"""Several sources of pictures mixed by weight, balanced kinds, and what training adds to samples on disk."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from refseg.data.sample import Instance, ReferringDataset, Sample
from refseg.errors import ConfigError
from refseg.training.recipe import parse_recipe
from refseg.training.sampling import choose_balanced
from refseg.training.setup import build_tokenizer
from refseg.training.source import Batches, FilePictures, MixedPictures
from tests.support.tiny_system import recipe_values


def recipe(folder: Path, **data: object):
    values = recipe_values(folder)
    values["data"].update(data)
    return parse_recipe(values)


def test_pictures_come_as_often_as_their_source_weighs(tmp_path: Path) -> None:
    mixed = MixedPictures(recipe(tmp_path, sources=[{"weight": 3.0}, {"weight": 1.0}]).data)
    mixed.sources[1] = Marked()  # type: ignore[call-overload]
    found = Counter(mixed.samples(place)[0].dataset for place in range(400))
    assert 60 < found["marked"] < 140
    again = [mixed.samples(place)[0].id for place in range(20)]
    assert again == [mixed.samples(place)[0].id for place in range(20)]


class Marked:
    """A source of one picture."""

    count, notice = 1, ""

    def samples(self, index: int) -> list[Sample]:
        return [Sample("1", "it", 1, (8, 8), no_target=True, image=np.zeros((8, 8, 3), np.uint8), dataset="marked")]

    def texts(self) -> list[str]:
        return ["it"]


def test_a_run_of_mixed_sources_reads_and_learns_its_words(tmp_path: Path) -> None:
    chosen = recipe(
        tmp_path,
        sources=[{"weight": 1.0}, {"weight": 1.0}],
        augment={"hflip": 0.5, "random_crop": 0.5, "color_jitter": 0.5, "paraphrase": 1.0},
        spelling=True,
        balance=True,
    )
    mixed = MixedPictures(chosen.data)

    class Alone:
        is_main_process = True

        def wait_for_everyone(self) -> None: ...

    tokenizer = build_tokenizer(chosen, mixed, None, chosen.model_config(), Alone())
    assert tokenizer.spelling
    assert {"red", "green", "blue", "square"} <= set(tokenizer.words)
    batches = Batches(mixed, tokenizer, chosen.model_config().input, chosen)
    batch, targets = batches[0]
    assert batch.images.shape == (4, 3, 32, 32)
    assert len(batch.tokens) == len(targets.masks) == 8
    again, _ = Batches(mixed, tokenizer, chosen.model_config().input, chosen)[0]
    assert bool((batch.images == again.images).all())


def test_more_words_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "vectors.txt"
    path.write_text("zebra 0.1 0.2\n, 0 0\nRed 1 1\n")
    chosen = recipe(tmp_path / "run", vocab_extra_file=str(path))

    class Alone:
        is_main_process = True

        def wait_for_everyone(self) -> None: ...

    from refseg.training.source import open_pictures

    tokenizer = build_tokenizer(chosen, open_pictures(chosen.data), None, chosen.model_config(), Alone())
    assert tokenizer.words[-1] == "zebra"
    assert tokenizer.words.count("red") == 1
    missing = recipe(tmp_path / "other", vocab_extra_file=str(tmp_path / "none.txt"))
    with pytest.raises(ConfigError, match=r"data\.vocab_extra_file"):
        build_tokenizer(missing, open_pictures(missing.data), None, missing.model_config(), Alone())


def test_sources_stand_for_a_root(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.sources: stands for data\.root"):
        recipe(tmp_path, sources=[{"weight": 1.0}], root="x")
    with pytest.raises(ConfigError, match=r"data\.sources\[0\]\.weight=0\.0: more than 0 is wanted"):
        recipe(tmp_path, sources=[{"weight": 0.0}])


@given(
    kinds=st.lists(st.sampled_from("abcd"), min_size=1, max_size=40),
    wanted=st.integers(1, 12),
    position=st.integers(0, 99),
)
@settings(deadline=None, max_examples=80)
def test_balanced_choices_differ_by_at_most_one_while_kinds_last(kinds: list[str], wanted: int, position: int) -> None:
    picked = choose_balanced(0, position, kinds, wanted)
    assert picked == choose_balanced(0, position, kinds, wanted)
    assert len(set(picked)) == len(picked) == min(wanted, len(kinds))
    chosen, there = Counter(kinds[index] for index in picked), Counter(kinds)
    most = max(chosen.values())
    assert all(chosen[kind] >= min(most - 1, count) for kind, count in there.items())


def test_objects_that_sentences_are_about_stand_for_all(tmp_path: Path) -> None:
    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
    path = tmp_path / "a.png"
    one, other = (Instance(key, name, (0.0, 0.0, 9.0, 9.0)) for key, name in ((1, "tvmonitor"), (2, "dog")))
    dataset = ReferringDataset(
        [
            Sample("1", "the tv", 1, (20, 20), (one,), image_path=path),
            Sample("2", "the dog", 1, (20, 20), (other,), image_path=path),
        ]
    )
    plain = FilePictures(dataset, "picture")
    assert plain.samples(0)[0].surroundings == ()
    told = FilePictures(dataset, "picture", tag_spoken=True)
    assert [item.category for item in told.samples(0)[0].surroundings] == ["tv", "dog"]
