"""Every verb with input that it cannot use: one line that says so, exit code 2, nothing written, nothing changed.

A case is a command line; {w} is the folder of the campaign's files (`world`), {out} a place where nothing is yet.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from refseg.cli.app import load_verb
from tests.reliability.conftest import Call, Ended
from tests.support.command_line import every_verb

pytestmark = pytest.mark.reliability

PICTURES = (
    "missing.png", "empty.png", "text.jpg", "cut.png", "head.png", "jpeg.jpg", "bomb.png", "zero.png", "void.gif",
    "page.svg", "tiff.tif", "noise.webp", "folder.png", "nothing",
)  # fmt: skip
ON_PICTURES = (
    'segment {w}/PICTURE "red ball" --model {w}/model -o {out}',
    'edit {w}/PICTURE "red ball" --model {w}/model -o {out}.png',
    'explain {w}/PICTURE "red ball" --model {w}/model -o {out}',
    'video {w}/PICTURE "red ball" --model {w}/model -o {out}',
    "label {w}/PICTURE --phrases {w}/phrases.txt --model {w}/model -o {out}",
)
MODELS = (
    "no-json", "binary", "deep", "deep-table", "list", "null", "empty-table", "nan", "future", "other-system",
    "system-number", "no-config", "config-folder", "cut-weights", "empty-weights", "long-head", "head-no-json",
    "flipped", "no-weights", "no-words", "few-words", "not-finite", "other-names", "nothing", "file", "missing",
)  # fmt: skip
ON_MODELS = (
    'segment {w}/good.png "red ball" --model {w}/models/MODEL -o {out}',
    "evaluate --data {w}/data --split val --model {w}/models/MODEL --json {out}",
    "calibrate {w}/models/MODEL --data {w}/data -o {out}",
    "benchmark --model {w}/models/MODEL --rounds 1 --json {out}",
    "export {w}/models/MODEL -o {out}",
)
DATA = (
    *(f"bad-jsonl/{name}/data.jsonl" for name in (
        "empty", "no-json", "binary", "deep", "list", "number", "no-fields", "surrogate", "escaping", "absolute",
        "numbers")),
    *(f"bad-refs/{name}-{file}" for name in ("no-json", "deep", "list", "null", "strings", "binary") for file in "ig"),
    "no-pictures", "nothing", "missing", "good.png", "model",
)  # fmt: skip
ON_DATA = (
    "evaluate --data {w}/DATA --split val --model {w}/model --json {out}",
    "data convert {w}/DATA {out} --to coco",
    "train {w}/recipe.toml data.root={w}/DATA output.folder={out}",
    "annotate import {w}/DATA --data {out}",
)
RECIPES = ("no-toml", "binary", "deep", "tables", "list", "text", "unknown-table", "unknown-field", "twice",
           "folder", "missing")  # fmt: skip
ASSIGNMENTS = (
    "data.workers=-1", "data.workers=x", "training.steps=0", "training.steps=-5", "training.steps=99999999999999999999",
    "training.steps=nan", "optimizer.lr=nan", "optimizer.lr=inf", "optimizer.lr=-1", "optimizer.name=magic",
    "training.clip_norm=nan", "training.ema_decay=2", "training.accumulation=0", "training.precision=int3",
    "data.size=7", "data.size=1000000", "data.size=-64", "data.pictures_per_batch=0", "data.sentences=0",
    "data.root=", "evaluation.metric=giou", "evaluation.protocol=rella", "evaluation.every=-1", "model.preset=nobody",
    "model.width=-1", "model.nothing=1", "nothing=1", "nothing", "=", "training=5", "schedule.kind=spiral",
    "output.checkpoint_every=0", "output.folder=", "optimizer.epsilon=-1", "model.text.max_words=100000",
    "training.seed=-1", "training.losses=nan",
)  # fmt: skip
LINES = """
segment
segment {w}/good.png
segment {w}/good.png "" --model {w}/model -o {out}
segment {w}/good.png "  " --model {w}/model -o {out}
segment {w}/good.png "red ball" --model {w}/model -o {w}/good.png
segment {w}/good.png "red ball" --model {w}/model -o {w}/good.png/below
segment {w}/good.png "red ball" --model {w}/model -o /dev/null
segment {w}/good.png "red ball" --model {w}/model -o {out} --format bmp
segment {w}/good.png "red ball" --model {w}/model -o {out} --format ""
segment {w}/good.png "red ball" --model {w}/model -o {out} --device gpu0
segment {w}/good.png "red ball" --model {w}/model -o {out} --device cpu:1
segment {w}/good.png "red ball" --model {w}/model -o {out} --precision int3
segment {w}/good.png "red ball" --model {w}/model -o {out} --threshold nan
segment {w}/good.png "red ball" --model {w}/model -o {out} --threshold 2
segment {w}/good.png "red ball" --model {w}/model -o {out} --no-target-threshold -0.1
segment {w}/good.png "red ball" --model {w}/model -o {out} --threads 0
segment {w}/good.png "red ball" --model "" -o {out}
segment {w}/good.png "red ball" --model ../no/such -o {out}
segment {w}/good.png "red ball" --model somebody/unknown-model -o {out}
segment {w}/good.png "red ball" --model https://127.0.0.1:1/model -o {out}
segment https://127.0.0.1:1/a.png "red ball" --model {w}/model -o {out}
segment ftp://127.0.0.1/a.png "red ball" --model {w}/model -o {out}
segment {w}/good.png "red ball" --model {w}/model -o {out} --detections {w}/broken.json
segment {w}/good.png "red ball" --model {w}/model -o {out} --detections {w}/deep.json
segment {w}/good.png "red ball" --model {w}/model -o {out} --detections {w}/missing.json
gallery
gallery {w}/good.png
gallery "red ball" --model {w}/model -o {out}
gallery {w}/good.png "  " --model {w}/model -o {out}
gallery {w}/good.png "red ball" --model {w}/model -o {w}/good.png
gallery {w}/good.png "red ball" --model {w}/model -o {w}/data
gallery {w}/good.png "red ball" --model {w}/model -o {out} --side 0
gallery {w}/good.png "red ball" --model {w}/model -o {out} --format pdf
gallery {w}/good.png "red ball" --model {w}/missing -o {out}
gallery --expressions {w}/missing.tsv --model {w}/model -o {out}
gallery --expressions {w}/good.png --model {w}/model -o {out}
gallery --expressions {w}/broken.json --model {w}/model -o {out}
gallery {w}/missing.png "red ball" --model {w}/model -o {out}
edit {w}/good.png
edit {w}/good.png "" --model {w}/model -o {out}.png
edit {w}/good.png "red ball" --model {w}/model -o {out}.doc
edit {w}/good.png "red ball" --model {w}/model -o {w}
edit {w}/good.png "red ball" --model {w}/model -o {out}.png --background no-such-colour
edit {w}/good.png "red ball" --model {w}/model -o {out}.png --background {w}/text.jpg
edit {w}/good.png "red ball" --model {w}/model -o {out}.png --background blur:nan
edit {w}/good.png "red ball" --model {w}/model -o {out}.png --background white --erase
label {w}/good.png --phrases {w}/missing.txt --model {w}/model -o {out}
label {w}/good.png --phrases {w}/void.txt --model {w}/model -o {out}
label {w}/good.png --phrases {w}/binary.txt --model {w}/model -o {out}
label {w}/good.png --phrases {w}/phrases.txt --model {w}/model -o {out} --template nothing
label {w}/good.png --phrases {w}/phrases.txt --model {w}/model -o {out} --template {{
label {w}/good.png --phrases {w}/phrases.txt --model {w}/model -o {w}/good.png
label {w}/nothing --phrases {w}/phrases.txt --model {w}/model -o {out}
label "{w}/*.nothing" --phrases {w}/phrases.txt --model {w}/model -o {out}
video {w}/good.png "red ball" --model {w}/model -o {out} --every 0
video {w}/good.png "red ball" --model {w}/model -o {out} --start nan
video {w}/good.png "red ball" --model {w}/model -o {out} --fps 0
video {w}/data/images/train2014 "red ball" --model {w}/model -o {out} --fps nan
video {w}/data/images/train2014 "red ball" --model {w}/model -o {out} --start 9 --end 3
video {w}/data/images/train2014 "red ball" --model {w}/model -o {out} --start 1e9
video {w}/data/images/train2014 "" --model {w}/model -o {out}
video {w}/data/images/train2014 "red ball" --model {w}/model -o {out} --format avi
video {w}/missing.mp4 "red ball" --model {w}/model -o {out}
explain {w}/good.png "red ball" --model {w}/model -o {out} --target {w}/text.jpg
explain {w}/good.png "red ball" --model {w}/model -o {out} --target {w}/missing.png
explain {w}/good.png "red ball" --model {w}/model -o {out} --panels nothing
explain {w}/good.png "" --model {w}/model -o {out}
batch {w}/good.png --texts {w}/missing.txt --model {w}/model -o {out}
batch {w}/good.png --texts {w}/void.txt --model {w}/model -o {out}
batch {w}/good.png --texts {w}/binary.txt --model {w}/model -o {out}
batch {w}/good.png --model {w}/model -o {out}
batch {w}/missing.png -t ball --model {w}/model -o {out}
batch {w}/nothing -t ball --model {w}/model -o {out}
batch {w}/good.png -t ball --model {w}/model -o {w}/good.png
batch {w}/good.png -t ball --model {w}/models/no-json -o {out}
batch {w}/good.png -t ball --model {w}/model -o {out} --part-size 0
batch {w}/good.png -t ball --model {w}/model -o {out} --actors 3
index {w}/missing -o {out} --model {w}/model
index {w}/good.png -o {w}/good.png --model {w}/model
index {w}/good.png -o {w}/data --model {w}/model
index {w}/good.png -o {out} --model {w}/models/no-json
index {w}/good.png -o {out} --model {w}/model --views 9
index {w}/good.png -o {w}/indexes/broken --model {w}/model
index -o {out}
index {w}/good.png -o {w}/data --rebuild --model {w}/model
search {w}/missing ball
search {w}/data ball
search {w}/good.png ball
search {w}/indexes/void ball
search {w}/indexes/list ball
search {w}/indexes/broken ball
search {w}/indexes/other ball
search {w}/indexes/deep ball
search {w}/indexes/words ball
models nobody
models rela-mini --cost --size -1
models rela-mini --cost --size 1000000
models --fields
import nobody {w}/plain.pkl -o {out}
import rela {w}/missing.pth -o {out}
import rela {w}/void.pth -o {out} --tokenizer {w}/model
import rela {w}/binary.pth -o {out} --tokenizer {w}/model
import rela {w}/evil.pth -o {out} --tokenizer {w}/model
import rela {w}/plain.pkl -o {out} --tokenizer {w}/model
import rela {w}/listed.pth -o {out} --tokenizer {w}/model
import rela {w}/bad.safetensors -o {out} --tokenizer {w}/model
import rela {w}/bad.npz -o {out} --tokenizer {w}/model
import restr {w}/bad.npz -o {out} --tokenizer {w}/model
import vlt {w}/bad.h5 -o {out} --tokenizer {w}/model
import rela {w}/plain.pkl -o {out} --tokenizer {w}/missing
import rela {w}/plain.pkl -o {w}/data --tokenizer {w}/model
import rela {w}/plain.pkl -o {out} --tokenizer {w}/model --input-size 0
export {w}/model -o {w}/good.png
export {w}/model -o {w}/data
export {w}/model -o {out} --to paper
export {w}/model -o {out} --images {w}/missing
export {w}/model -o {out} --images {w}/nothing
export {w}/model -o {out} --count 0
serve --model {w}/missing
serve --model {w}/models/no-json
serve --model {w}/model --port 99999
serve --model {w}/model --port -1
serve --model {w}/model --host 999.1.1.1
serve --model {w}/model --host nowhere.invalid
serve --model {w}/model --index {w}/missing
serve --model {w}/model --api-key-file {w}/missing.txt
serve --model {w}/model --api-key-file {w}/void.txt
serve --model {w}/model --api-key-file {w}/binary.txt
serve --model {w}/model --pictures {w}/missing
serve --model {w}/model --max-wait nan
serve --model {w}/model --workers 0
serve --model {w}/model --cache 0
serve-load nothing --seconds 1 --clients 1
serve-load http://127.0.0.1:1 --seconds 1 --clients 1
serve-load http://127.0.0.1:1 --clients 0
train
evaluate
evaluate --data {w}/data --split val --model {w}/model --dataset refcoco
evaluate --data {w}/data --model {w}/model --split nothing
evaluate --data {w}/data --split val --model {w}/model --split-by nobody
evaluate --data {w}/data --split val --model {w}/model --limit 0
evaluate --data {w}/data --split val --model {w}/model --shard 3/2
evaluate --data {w}/data --split val --model {w}/model --shard x
evaluate --data {w}/data --split val --model {w}/model --protocol rella
evaluate --data {w}/data --split val --model {w}/model --batch-size 0
evaluate --data {w}/data --split val --model {w}/model --workers -1
evaluate --data {w}/data --split val --model {w}/model --rows {w}
evaluate --data {w}/data --split val --model {w}/model --rows {w}/good.png/rows.jsonl
evaluate --data {w}/data --split val --model {w}/model --json {w}
evaluate --data {w}/data --split val --model {w}/model --minimum-pixels -3
evaluate --data {w}/data --split val --model {w}/model --erase-words nothing
evaluate --data {w}/data --split val --model {w}/model --oracle location
evaluate --data {w}/data --split val --model {w}/model --submission {out}
evaluate --data {w}/data --split val --model {w}/model --clip-frames 0
calibrate {w}/model
calibrate {w}/model --data {w}/data --target-accuracy 2 -o {out}
calibrate {w}/model --data {w}/data --target-accuracy nan -o {out}
calibrate {w}/model --data {w}/data --slack nan -o {out}
calibrate {w}/model --data {w}/data -o {out}
calibrate instances --data {w}/data
calibrate {w}/model --data {w}/data -o {w}/good.png --force
score
score --predictions {w}/predictions.jsonl
score --targets {w}/targets.jsonl
score --predictions {w}/missing.jsonl --targets {w}/targets.jsonl
score --predictions {w}/void.jsonl --targets {w}/targets.jsonl
score --predictions {w}/broken.jsonl --targets {w}/targets.jsonl
score --predictions {w}/binary.jsonl --targets {w}/targets.jsonl
score --predictions {w}/deep.jsonl --targets {w}/targets.jsonl
score --predictions {w}/other-ids.jsonl --targets {w}/targets.jsonl
score --predictions {w}/twice.jsonl --targets {w}/targets.jsonl
score --predictions {w}/no-mask.jsonl --targets {w}/targets.jsonl
score --predictions {w}/other-size.jsonl --targets {w}/targets.jsonl
score --predictions {w}/huge.jsonl --targets {w}/targets.jsonl
score --predictions {w}/text-mask.jsonl --targets {w}/targets.jsonl
score --predictions {w}/predictions.jsonl --targets {w}/void.jsonl
score --predictions {w}/predictions.jsonl --targets {w}/huge.jsonl
score --predictions {w}/predictions.jsonl --targets {w}/deep.jsonl
score --predictions {w} --targets {w}/targets.jsonl
score --predictions {w}/predictions.jsonl --targets {w}/targets.jsonl --protocol nothing
score --predictions {w}/predictions.jsonl --targets {w}/targets.jsonl -o {w}
score --predictions {w}/predictions.jsonl --targets {w}/targets.jsonl --plots {w}/good.png
score --predictions {w}/predictions.jsonl --targets {w}/targets.jsonl --resamples 0
score --rows {w}/targets.jsonl
score --rows {w}/missing.jsonl
score --rows {w}/binary.jsonl
compare {w}/predictions.jsonl
compare {w}/missing.jsonl {w}/predictions.jsonl
compare {w}/void.jsonl {w}/void.jsonl
compare {w}/broken.jsonl {w}/broken.jsonl
compare {w}/deep.jsonl {w}/deep.jsonl
compare {w}/predictions.jsonl {w}/other-ids.jsonl
compare {w}/predictions.jsonl {w}/predictions.jsonl --targets {w}/missing.jsonl
results --system nobody
results --dataset nothing
results --metric nothing
results --measured {w}/missing.json
results --measured {w}/broken.json
results --measured {w}/binary.json
results --measured {w}/deep.json
results --plot {out}.png
results --csv {w}
studies
studies nothing
studies side-by-side -o {out} --only nobody
studies side-by-side -o {out} --only rela --seeds 0
studies side-by-side -o {out} --only rela --recipes {w}/missing
studies side-by-side -o {w}/good.png --only rela
studies instances
studies instances -o {out}
studies instances -o {out} --scenes -1
studies instances -o {out} --scenes 1 --half third
studies instances -o {out} --scenes 1 --model {w}/model
studies instances -o {out} --scenes 1 --model {w}/missing
studies instances -o {w}/good.png --scenes 1
studies instances -o {out} --nouns {w}/missing.tsv
studies instances -o {out} --referring {w}/data
studies instances -o {out} --referring here={w}/missing,split=val
studies instances -o {out} --photographs here={w}/broken.json
studies instance-ablations
studies instance-ablations -o {out}
studies instance-ablations -o {out} --referring here={w}/missing
studies instance-ablations -o {out} --referring here={w}/data,split=nothing
studies instance-ablations -o {out} --referring here={w}/data,split=val --model {w}/model
studies instance-ablations -o {out} --referring here={w}/data,split=val --chooser {w}/good.png
tables "no such table"
tables --measured {w}/broken.json
tables --measured {w}/missing.json
tables -o {w}
tables "thesis table 4.3" training.steps=1
data
data nothing
data check {w}/missing
data check {w}/nothing
data stats {w}/missing
data stats {w}/nothing
data stats {w}/bad-refs/deep-g
data stats {w}/data --dataset nothing
data get nothing -o {out}
data leak {w}/data {w}/missing
data leak {w}/nothing {w}/data
data leak {w}/data {w}/data --genome {w}/missing.json
data speed {w}/missing
data speed {w}/data --samples 0
data speed {w}/data --size 3
data convert {w}/data {w}/good.png --to coco
data convert {w}/data {out} --to nothing
data convert {w}/data {out} --to coco --from yolo
data convert {w}/data {out} --to coco --split nothing
data convert {w}/data {out} --to coco --images {w}/missing
data convert {w}/data {w}/data --to grefcoco
data scenes {w}/good.png --train 1 --val 1 --test 1
data scenes {out} --train -1
data scenes {out} --size 0
data scenes {out} --train 0 --val 0 --test 0
data collage --coco {w}/missing.json --images {w}/data -o {out}
data collage --coco {w}/broken.json --images {w}/data -o {out}
data collage --coco {w}/deep.json --images {w}/data -o {out}
data collage --coco {w}/data/grefcoco/instances.json --images {w}/missing -o {out}
data collage --coco {w}/data/grefcoco/instances.json --images {w}/data/images/train2014 --count -1 -o {out}
data templates --coco {w}/missing.json --images {w}/data -o {out}
data templates --coco {w}/bad-coco/list.json --images {w}/data/images/train2014 -o {out}
data templates --coco {w}/bad-coco/strings.json --images {w}/data/images/train2014 -o {out}
data templates --coco {w}/bad-coco/no-pictures.json --images {w}/data/images/train2014 -o {out}
data templates --coco {w}/data/grefcoco/instances.json --images {w}/nothing -o {out}
data templates --coco {w}/data/grefcoco/instances.json --images {w}/data/images/train2014 -o {out} --split-fractions x
data templates --coco {w}/data/grefcoco/instances.json --images {w}/data/images/train2014 -o {w}/good.png
annotate
annotate nothing
annotate import {w}/missing --data {out}
annotate import {w}/nothing --data {out}
annotate import {w}/data --data {w}/good.png
annotate import {w}/data --data {out} --split nothing
annotate import {w}/data --data {out} --database nothing://x
annotate export {out} --data {w}/missing
annotate migrate --data {w}/good.png
annotate migrate --data {out} --database nothing://x
annotate stats --data {w}/missing
annotate rank --data {w}/missing
annotate propose --data {w}/missing
annotate backup {out} --data {w}/missing
annotate restore {w}/missing.zip --data {out}
annotate restore {w}/void.zip --data {out}
annotate restore {w}/binary.zip --data {out}
annotate restore {w}/text.jpg --data {out}
annotate check --data {w}/missing
annotate user add anna --data {out}
annotate user add anna --data {out} --password-file {w}/missing.txt
annotate user list --data {w}/missing
annotate user role anna king --data {w}/missing
annotate user password anna --data {w}/missing
annotate user close anna --data {w}/missing
annotate user open anna --data {w}/missing
annotate user token anna --data {w}/missing
annotate user
annotate user nothing
annotate serve --data {w}/good.png
annotate serve --data {out} --port 99999
annotate demo --data {w}/good.png --prepare-only
annotate demo --data {out} --scenes -1 --prepare-only
benchmark --model {w}/model --rounds 0
benchmark --model {w}/model --rounds 1 --pictures x
benchmark --model {w}/model --rounds 1 --pictures 0
benchmark --model {w}/model --rounds 1 --precision int3
benchmark --model {w}/model --rounds 1 --json {w}
oracle --data {w}/missing
oracle --data {w}/nothing
oracle --scenes 0
oracle --scenes 1 --json {w}
attention --model {w}/model --data {w}/data
attention --data {w}/missing
studies
studies nothing
studies side-by-side --only nothing -o {out}
studies side-by-side --recipes {w}/missing -o {out}
studies side-by-side --budget 0 -o {out}
systems -o {w}/good.png
doctor --nothing
nothing
--nothing
"""


def products() -> Iterator[str]:
    for words, names, mark in (
        (ON_PICTURES, PICTURES, "PICTURE"),
        (ON_MODELS, MODELS, "MODEL"),
        (ON_DATA, DATA, "DATA"),
    ):
        for line in words:
            yield from (line.replace(mark, name) for name in names)
    for name in RECIPES:
        yield f"train {{w}}/recipes/{name}.toml output.folder={{out}}"
    for words in ASSIGNMENTS:
        yield f"train {{w}}/recipe.toml output.folder={{out}} {words}"


def typed_options() -> Iterator[str]:
    """A word where a number is wanted, for every option of every verb, and an option that none has."""
    for path in every_verb():
        command = load_verb(path[0])
        for name in path[1:]:
            command = command.commands[name]
        if hasattr(command, "commands"):
            continue
        verb = " ".join(path)
        yield f"{verb} --no-such-option"
        for param in command.params:
            if param.param_type_name == "option" and param.type_descriptor.annotation in (int, float):
                yield f"{verb} {param.opts[-1]} many"


EVERY = list(dict.fromkeys(line for line in LINES.splitlines() if line))
PRODUCTS = list(products())


def test_there_are_hundreds_and_each_verb_has_some() -> None:
    assert len(EVERY) + len(PRODUCTS) > 400
    tried = {" ".join(shlex.split(line)) for line in [*EVERY, *PRODUCTS]}
    for path in every_verb():
        assert any(f"{line} ".startswith(" ".join(path)) for line in tried), path


def check(ended: Ended, line: str) -> None:
    assert ended.code == 2, f"{line}: exit code {ended.code}\n{ended.out}\n{ended.err}"
    assert "Traceback" not in ended.err
    last = ended.err.strip().splitlines()[-1]
    assert last.startswith("refseg"), ended.err
    assert len(last) < 2000, "a line that a person can read"
    for odd in (" object at 0x", "<_io.", "\x00"):
        assert odd not in ended.err


def state_of(world: Path) -> dict[str, tuple[int, int]]:
    return {
        os.path.join(root, name): ((facts := os.lstat(os.path.join(root, name))).st_size, facts.st_mtime_ns)
        for root, folders, names in os.walk(world)
        for name in (*names, *folders)
    }


def words_of(line: str, world: Path, out: Path) -> list[str]:
    return shlex.split(line.replace("{w}", str(world)).replace("{out}", str(out)))


@pytest.mark.parametrize("line", [*EVERY, *PRODUCTS])
def test_bad_input_is_one_line_and_nothing_changes(
    line: str, call: Call, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = state_of(world)
    check(call(words_of(line, world, tmp_path / "out")), line)
    assert state_of(world) == before
    left = [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.name.endswith(".part")]
    assert not left


@pytest.mark.parametrize("line", list(typed_options()))
def test_words_for_numbers_and_unknown_options(line: str, call: Call) -> None:
    check(call(shlex.split(line)), line)


@pytest.mark.parametrize(
    "line",
    [
        'segment {w}/text.jpg "red ball" --model {w}/model -o {out}',
        'segment {w}/good.png "red ball" --model {w}/models/deep -o {out}',
        "score --predictions {w}/binary.jsonl --targets {w}/targets.jsonl",
        "import rela {w}/evil.pth -o {out} --tokenizer {w}/model",
        "train {w}/recipe.toml output.folder={out} training.steps=0",
    ],
)
def test_the_same_in_a_process_of_its_own(line: str, world: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "REFSEG_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-m", "refseg", *words_of(line, world, tmp_path / "out")],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment, timeout=200,
    )  # fmt: skip
    check(Ended(done.returncode, done.stdout, done.stderr), line)
