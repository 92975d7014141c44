"""`refseg export`: what is checked before anything is read or written."""

import pytest

from refseg.cli.export import check_target, examples
from refseg.errors import RefsegError
from tests.support.instance_pictures import painted


def test_drawn_scenes_bring_their_own_expressions():
    images, texts = examples(None, [], 2)
    assert len(images) == 2
    assert 1 <= len(texts) <= 8
    assert all(isinstance(text, str) and text for text in texts)
    assert examples(None, ["the cat"], 1)[1] == ["the cat"]


def test_pictures_of_a_folder(tmp_path):
    from PIL import Image

    for name in ("b.png", "a.jpg", "c.txt"):
        Image.fromarray(painted((20, 30), [])[0]).save(tmp_path / name, format="PNG")
    images, texts = examples(tmp_path, ["the dog"], 5)
    assert [image.size for image in images] == [(30, 20)] * 2
    assert texts == ["the dog"]


def test_bad_input(tmp_path):
    with pytest.raises(RefsegError, match="no pictures in it"):
        examples(tmp_path, [], 2)
    with pytest.raises(RefsegError, match="no such folder"):
        examples(tmp_path / "nowhere", [], 2)
    (tmp_path / "thesis.doc").write_text("precious")
    with pytest.raises(RefsegError, match="not empty and no exported model"):
        check_target(tmp_path)
    with pytest.raises(RefsegError, match="is a file"):
        check_target(tmp_path / "thesis.doc")
    (tmp_path / "export.json").write_text("{}")
    check_target(tmp_path)  # an earlier export is replaced
