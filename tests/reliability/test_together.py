"""Two processes at one cache, run, index or folder at the same time: both right, or one of them refused in a line."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from tests.reliability.children import CONTEXT, train_here, verb_here
from tests.support.tiny_system import recipe_values
from tests.training.test_loop import log_of, same_tensors, weights

pytestmark = [pytest.mark.reliability, pytest.mark.timeout(600)]


def together(words: list[list[str]], folder: Path) -> list[tuple[int, str]]:
    """Run verbs at the same time, with one cache; gives exit codes and what was printed."""
    start = time.time() + 0.5
    logs = [folder / f"log{number}" for number in range(len(words))]
    children = [
        CONTEXT.Process(target=verb_here, args=(each, str(folder / "cache"), str(log), start))
        for each, log in zip(words, logs, strict=True)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(300)
        assert child.exitcode is not None, "it hangs"
    found = [(child.exitcode or 0, log.read_text()) for child, log in zip(children, logs, strict=True)]
    for code, text in found:
        assert code in (0, 1, 2), text
        assert "Traceback" not in text
        if code:
            assert text.strip().splitlines()[-1].startswith("refseg"), text
    assert any(code == 0 for code, _ in found), found
    return found


def content_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def check_one_answer(folder: Path, alone: Path) -> None:
    """What two left is what one leaves."""
    left, right = content_of(folder), content_of(alone)
    assert [name for name in left if not name.endswith(".lock")] == [n for n in right if not n.endswith(".lock")]
    for name, content in left.items():
        if name.endswith((".png", ".jpg", ".jsonl", ".txt")):
            assert content == right[name], name
        elif name.endswith(".json"):
            one, other = json.loads(content), json.loads(right[name])
            if isinstance(one, dict) and "images" not in one:  # which may hold times and paths
                one, other = one.keys(), other.keys()
            assert one == other, name


WORDS = {
    "segment": ["segment", "{w}/good.png", "{w}/whole.jpg", "red ball", "--model", "{w}/model", "-o"],
    "batch": ["batch", "{w}/good.png", "{w}/whole.jpg", "-t", "ball", "--model", "{w}/model", "-o"],
    "convert": ["data", "convert", "{w}/data", "--to", "jsonl"],
    "scenes": ["data", "scenes", "--train", "2", "--val", "1", "--test", "0", "--size", "64"],
}


@pytest.mark.parametrize("name", WORDS)
def test_two_into_one_folder(name: str, world: Path, tmp_path: Path) -> None:
    words = [word.replace("{w}", str(world)) for word in WORDS[name]]
    together([[*words, str(tmp_path / "alone")]], tmp_path)
    both = [*words, str(tmp_path / "both")]
    together([both, both], tmp_path)
    check_one_answer(tmp_path / "both", tmp_path / "alone")


def test_two_runs_in_one_folder(tmp_path: Path) -> None:
    """One goes on to its end with the bits that it has alone; the other does not begin, or begins where it ended."""
    cache = str(tmp_path / "cache")

    def values(name: str) -> dict[str, Any]:
        made = recipe_values(tmp_path / name)
        made["data"]["pool"] = 12
        return made

    for names in (["alone"], ["both", "both"]):
        children = [CONTEXT.Process(target=train_here, args=(values(name), cache, False)) for name in names]
        for child in children:
            child.start()
        for child in children:
            child.join(300)
        codes = sorted(child.exitcode or 0 for child in children)
        assert codes == [0, 1][: len(names)], "an error that is not caught here ends a child with 1"
    assert log_of(tmp_path / "both") == log_of(tmp_path / "alone")
    assert same_tensors(weights(tmp_path / "both" / "last"), weights(tmp_path / "alone" / "last"))


def test_two_runs_fill_one_pool(tmp_path: Path) -> None:
    def values(name: str) -> dict[str, Any]:
        made = recipe_values(tmp_path / name, steps=6)
        made["data"]["pool"] = 40
        return made

    def start(name: str, cache: str) -> Any:
        child = CONTEXT.Process(target=train_here, args=(values(name), str(tmp_path / cache), False))
        child.start()
        return child

    for children in ([start("alone", "own")], [start("one", "shared"), start("two", "shared")]):
        for child in children:
            child.join(300)
            assert child.exitcode == 0
    for name in ("one", "two"):
        assert log_of(tmp_path / name) == log_of(tmp_path / "alone")


def test_two_read_one_cache(world: Path, tmp_path: Path) -> None:
    """A data set that is large enough to be cached: both build the index, and both scores are the same."""
    root = tmp_path / "data"
    shutil.copytree(world / "data", root)
    table = json.loads((root / "grefcoco" / "instances.json").read_text())
    table["info"] = {"filling": "x" * 4_100_000}
    (root / "grefcoco" / "instances.json").write_text(json.dumps(table))
    words = [["data", "stats", str(root), "--json"] for _ in range(2)]
    (first, text), (second, other) = together(words, tmp_path)
    assert (first, second) == (0, 0)
    assert text == other
    assert list((tmp_path / "cache" / "data").glob("*.safetensors"))
    (third, again), = together(words[:1], tmp_path / "more" if (tmp_path / "more").mkdir() else tmp_path)  # fmt: skip
    assert (third, again) == (0, text)


def test_two_write_one_index(world: Path, tmp_path: Path) -> None:
    pytest.importorskip("lancedb", reason="the optional extra 'search' is not installed")
    words = ["index", str(world / "good.png"), str(world / "whole.jpg"), "--model", str(world / "model"), "-o"]
    found = together([[*words, str(tmp_path / "i")]] * 2, tmp_path)
    if any(code for code, _ in found):
        assert any("another process is writing this index" in text for _, text in found), found
    search = ["search", str(tmp_path / "i"), "ball", "--json", "--exhaustive", "--reject", "0"]
    ((code, text),) = together([search], tmp_path)
    assert code == 0
    assert json.loads(text[text.index("{") :])["looked_at"] == 2
