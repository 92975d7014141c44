"""What the page without a server is put together from; that it answers right is tested in a browser."""

import json
import re
import tarfile
from importlib.resources import files
from pathlib import Path

import pytest

pytest.importorskip("onnx", reason="onnx is not installed: pip install 'refseg[onnx]'")

import refseg
from refseg.errors import RefsegError
from refseg.inference.export.web import MODULES, ORT_FILES, PAGE, export_web, fetch_ort, find_ort, word_lists
from refseg.models.instances.evidence import RULES
from refseg.models.instances.words import Lexicon
from tests.support.tiny_model import write_model_folder

WEB = Path(str(files("refseg.inference.export").joinpath("web")))


def runtime(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name in ORT_FILES:
        (folder / name).write_bytes(b"runtime")
    return folder


def test_runtime_is_found_where_npm_puts_it(tmp_path, monkeypatch):
    there = runtime(tmp_path / "app" / "node_modules" / "onnxruntime-web" / "dist")
    inner = tmp_path / "app" / "source"
    inner.mkdir()
    monkeypatch.chdir(inner)
    assert find_ort().resolve() == there
    assert find_ort(tmp_path / "app" / "node_modules").resolve() == there
    assert find_ort(there) == there
    with pytest.raises(RefsegError, match="no onnxruntime-web there"):
        find_ort(inner)
    monkeypatch.chdir(tmp_path)
    assert find_ort() is None or (find_ort() / ORT_FILES[0]).is_file()


def npm(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for npm, the only one that is found."""
    folder.mkdir()
    (folder / "npm").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_runtime_is_fetched_by_npm(tmp_path, monkeypatch):
    archive = tmp_path / "onnxruntime-web-0.0.0.tgz"
    source = runtime(tmp_path / "package" / "dist")
    with tarfile.open(archive, "w:gz") as file:
        file.add(source, "package/dist")
    npm(tmp_path / "bin", f'echo "$@" > {tmp_path}/said; cp {archive} .', monkeypatch)
    (tmp_path / "into").mkdir()
    found = fetch_ort(tmp_path / "into")
    assert all((found / name).read_bytes() == b"runtime" for name in ORT_FILES)
    assert re.match(r"pack onnxruntime-web@\d+\.\d+\.\d+", (tmp_path / "said").read_text())


def test_npm_without_network(tmp_path, monkeypatch):
    npm(tmp_path / "bin", "echo 'npm error network request failed' >&2; exit 1", monkeypatch)
    with pytest.raises(RefsegError, match=r"network request failed.*--ort FOLDER"):
        fetch_ort(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    with pytest.raises(RefsegError, match="npm does not run here"):
        fetch_ort(tmp_path)


def test_other_systems_have_no_page(tmp_path):
    dense = refseg.load(write_model_folder(tmp_path / "model"), device="cpu")
    with pytest.raises(RefsegError, match="the page runs the system instances"):
        export_web(dense, tmp_path / "page")
    assert not (tmp_path / "page").exists()


def test_every_module_is_listed_and_small():
    assert {path.name for path in WEB.iterdir()} == {*PAGE, *MODULES}
    assert sum(path.stat().st_size for path in WEB.iterdir()) < 300_000
    for path in WEB.glob("*.js"):
        text = path.read_text(encoding="utf-8")
        for name in re.findall(r'from "\./([^"]+)"', text):
            assert name in MODULES or name.startswith("ort/"), f"{path.name} imports {name}"
        assert "http" not in text, f"{path.name} names an address"


def test_twins_know_every_list_and_weight():
    lists = json.loads(json.dumps(word_lists(Lexicon())))
    parser = (WEB / "parse.js").read_text(encoding="utf-8")
    for name in ("patterns", "garments", "partitives", "containers", "noPlural", "pluralPeople", "links", "excluding"):
        assert lists[name]
        assert name in parser
    chooser = (WEB / "chooser.js").read_text(encoding="utf-8")
    # near_size and far_size are read by the side's name.
    missing = [name for name in RULES if f"weight.{name}" not in chooser and f'"{name}"' not in chooser]
    missing = [name for name in missing if name not in ("near_size", "far_size", "near", "far")]
    assert [name for name in missing if f"weights.{name}" not in chooser] == []
