"""Model folders: what is saved comes back exactly, whole or not at all, and what is wrong is named."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from refseg.encoders.text.tokenizer import WordTokenizer
from refseg.errors import CheckpointError, RefsegError
from refseg.files import recover_folder, replacing_folder
from refseg.inference.checkpoint import (
    CONFIG,
    WEIGHTS,
    load_model,
    locate_model,
    save_model,
)
from tests.support.tiny_system import Tiny, TinyConfig, TinyText, install


@pytest.fixture(autouse=True)
def tiny_system(monkeypatch):
    install(monkeypatch.setitem, monkeypatch.setattr)


@pytest.fixture
def tokenizer():
    return WordTokenizer.learn(["the red square", "blue"])


def make(width=8):
    model = Tiny(TinyConfig(width=width, text=TinyText(vocabulary_size=9)))
    with torch.no_grad():
        model.vision[1].running_mean.normal_()
    return model


def test_a_model_comes_back_exactly_and_ready(tmp_path, tokenizer):
    model = make()
    save_model(tmp_path / "m", model, tokenizer, {"threshold": 0.4, "score": {"gIoU": 0.5}})
    loaded, words, info = load_model(tmp_path / "m")
    assert loaded.config == model.config
    assert not loaded.training
    assert info == {"threshold": 0.4, "score": {"gIoU": 0.5}}
    assert words(["the red"]).ids.tolist() == tokenizer(["the red"]).ids.tolist()
    for name, value in model.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name])
    document = json.loads((tmp_path / "m" / CONFIG).read_text())
    assert (document["format"], document["system"]) == (1, "tiny")
    assert not list(tmp_path.glob(".*"))


def test_changed_bytes_of_weights_and_words_are_noticed(tmp_path, tokenizer):
    save_model(tmp_path / "m", make(), tokenizer)
    for name in (WEIGHTS, "vocabulary.txt"):
        whole = (tmp_path / "m" / name).read_bytes()
        for place in range(len(whole) - 1, 8, -max(1, len(whole) // 25)):
            (tmp_path / "m" / name).write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            with pytest.raises(CheckpointError, match=f"{name}: damaged or changed"):
                load_model(tmp_path / "m")
        (tmp_path / "m" / name).write_bytes(whole)
    load_model(tmp_path / "m")


def test_folders_of_earlier_versions_have_no_checksums(tmp_path, tokenizer):
    save_model(tmp_path / "m", make(), tokenizer)
    document = json.loads((tmp_path / "m" / CONFIG).read_text())
    assert set(document.pop("sha256")) == {WEIGHTS, "tokenizer_options.json", "vocabulary.txt"}
    (tmp_path / "m" / CONFIG).write_text(json.dumps(document))
    load_model(tmp_path / "m")


def test_weights_that_are_not_finite_are_neither_saved_nor_loaded(tmp_path, tokenizer):
    model = make()
    save_model(tmp_path / "m", model, tokenizer)
    with torch.no_grad():
        model.verdict.weight[0, 3] = float("nan")
    with pytest.raises(CheckpointError, match=r"not finite numbers: verdict\.weight"):
        save_model(tmp_path / "bad", model, tokenizer)
    assert not (tmp_path / "bad").exists()
    document = json.loads((tmp_path / "m" / CONFIG).read_text())
    del document["sha256"]
    (tmp_path / "m" / CONFIG).write_text(json.dumps(document))
    save_file(model.state_dict(), tmp_path / "m" / WEIGHTS)
    with pytest.raises(CheckpointError, match=r"not finite: verdict\.weight"):
        load_model(tmp_path / "m")


def test_everybody_may_read_what_the_umask_lets_them(tmp_path, tokenizer):
    before = os.umask(0o022)
    try:
        save_model(tmp_path / "m", make(), tokenizer)
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "m").iterdir()} == {0o644}


@pytest.mark.parametrize("name", [CONFIG, "tokenizer_options.json"])
def test_deep_json_in_a_model_folder_is_refused(tmp_path, tokenizer, name):
    save_model(tmp_path / "m", make(), tokenizer)
    document = json.loads((tmp_path / "m" / CONFIG).read_text())
    del document["sha256"]
    (tmp_path / "m" / CONFIG).write_text(json.dumps(document))
    (tmp_path / "m" / name).write_text('{"a":' * 100_000)
    with pytest.raises(CheckpointError, match=name):
        load_model(tmp_path / "m")


def test_half_precision_halves_the_file_and_widens_again(tmp_path, tokenizer):
    model = make(width=64)
    save_model(tmp_path / "full", model, tokenizer)
    save_model(tmp_path / "half", model, tokenizer, half=True)
    sizes = [(tmp_path / name / WEIGHTS).stat().st_size for name in ("full", "half")]
    assert sizes[1] < 0.6 * sizes[0]
    loaded = load_model(tmp_path / "half")[0]
    for name, value in model.state_dict().items():
        found = loaded.state_dict()[name]
        assert found.dtype == value.dtype
        torch.testing.assert_close(found, value.to(torch.float16).to(value.dtype))


def test_an_average_is_saved_in_the_place_of_the_weights(tmp_path, tokenizer):
    model = make()
    average = {name: torch.zeros_like(value) for name, value in model.state_dict().items()}
    save_model(tmp_path / "m", model, tokenizer, state=average)
    assert all(float(value.double().sum()) == 0 for value in load_model(tmp_path / "m")[0].state_dict().values())


def edit(folder, **changes):
    path = folder / CONFIG
    document = json.loads(path.read_text())
    document.update(changes)
    path.write_text(json.dumps(document))


def test_every_kind_of_wrong_folder_is_named(tmp_path, tokenizer):
    folder = tmp_path / "m"
    save_model(folder, make(), tokenizer)
    good = (folder / CONFIG).read_text()

    def refused(match):
        with pytest.raises(CheckpointError, match=match):
            load_model(folder)
        (folder / CONFIG).write_text(good)

    edit(folder, system="gres")
    refused("system 'gres', which this version does not have")
    edit(folder, format=2)
    refused("format 2; this version of refseg reads format 1")
    edit(folder, config={"widht": 8})
    refused("widht")
    (folder / CONFIG).write_text("{")
    refused("not valid JSON")
    (folder / CONFIG).write_text("[]")
    refused("not the configuration")
    document = json.loads(good)
    edit(folder, config={**document["config"], "width": 4})
    refused(r"shapes: .*text\.weight is \(9, 8\), wanted \(9, 4\)")
    edit(folder, config={**document["config"], "normalise": False})
    refused(r"unexpected: vision\.1\.bias")
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-40])
    refused("damaged")
    (folder / WEIGHTS).unlink()
    refused("no such file")


def test_what_is_not_a_model_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(CheckpointError, match="is a file; a model is a folder"):
        load_model(tmp_path / "file")
    with pytest.raises(CheckpointError, match=r"config\.json: cannot be read"):
        load_model(tmp_path)
    with pytest.raises(CheckpointError, match="no such model folder"):
        load_model("nothing-here")
    with pytest.raises(
        CheckpointError, match=r"nobody/nothing: no such folder here, and it cannot be had from the hub"
    ):
        load_model("nobody/nothing")


def test_a_failed_write_leaves_the_old_folder(tmp_path, tokenizer):
    save_model(tmp_path / "m", make(), tokenizer, {"turn": 1})

    class Broken(WordTokenizer):
        def save(self, folder):
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        save_model(tmp_path / "m", make(), Broken([]), {"turn": 2})
    assert load_model(tmp_path / "m")[2] == {"turn": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["m"]


def test_a_kill_between_the_two_renames_is_mended(tmp_path, tokenizer):
    save_model(tmp_path / "m", make(), tokenizer, {"turn": 1})
    (tmp_path / "m").rename(tmp_path / ".m.previous")
    assert load_model(tmp_path / "m")[2] == {"turn": 1}
    recover_folder(tmp_path / "absent")
    assert not (tmp_path / "absent").exists()


def test_a_folder_does_not_replace_a_file(tmp_path):
    (tmp_path / "m").write_text("mine")
    with pytest.raises(RefsegError, match="is a file"), replacing_folder(tmp_path / "m"):
        pass
    assert (tmp_path / "m").read_text() == "mine"


def test_a_local_folder_comes_before_a_hub_id(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "name").mkdir(parents=True)
    assert locate_model("owner/name") == Path("owner/name")
