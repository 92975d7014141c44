"""Files and folders are whole or absent, on the disk before their name is, and readable as the umask says."""

from __future__ import annotations

import os
import resource
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from refseg import files
from refseg.errors import RefsegError
from refseg.files import copy_file, locked, remove_leftovers, replacing, replacing_folder, write_text


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_modes_are_those_of_the_umask_whatever_wrote_the_file(tmp_path: Path, mask: int) -> None:
    """Libraries that write beside the file and rename leave 0600."""
    with umask(mask):
        with replacing(tmp_path / "a.bin") as temporary:
            temporary.unlink()
            os.close(os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o600))
        with replacing_folder(tmp_path / "model") as folder:
            (folder / "inner").mkdir()
            for name in ("weights", "inner/more"):
                os.close(os.open(folder / name, os.O_CREAT | os.O_WRONLY, 0o600))
    assert mode_of(tmp_path / "a.bin") == 0o666 & ~mask
    assert mode_of(tmp_path / "model") == 0o777 & ~mask
    assert mode_of(tmp_path / "model" / "weights") == mode_of(tmp_path / "model" / "inner" / "more") == 0o666 & ~mask


def test_the_bytes_are_on_the_disk_before_the_name_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    fsync, replace, rename = os.fsync, os.replace, Path.rename
    monkeypatch.setattr(files.os, "fsync", lambda handle: (done.append("sync"), fsync(handle)))
    monkeypatch.setattr(files.os, "replace", lambda *paths: (done.append("name"), replace(*paths)))
    monkeypatch.setattr(Path, "rename", lambda *paths: (done.append("name"), rename(*paths))[1])
    write_text(tmp_path / "a.txt", "a")
    assert done == ["sync", "name"]
    done.clear()
    with replacing_folder(tmp_path / "b") as folder:
        (folder / "one").write_text("1")
        (folder / "two").write_text("2")
    assert done == ["sync", "sync", "name", "sync"]


def test_the_folder_of_before_can_be_kept(tmp_path: Path) -> None:
    for number in range(4):
        with replacing_folder(tmp_path / "last", keep=tmp_path / "previous") as folder:
            (folder / "step").write_text(str(number))
    found = {path.name: (path / "step").read_text() for path in tmp_path.iterdir()}
    assert found == {"last": "3", "previous": "2"}


def test_a_full_disk_is_told_in_a_line_and_nothing_is_left(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(RefsegError, match=r"File too large"):
            write_text(tmp_path / "a.txt", "a" * 2000)
        with (
            pytest.raises(RefsegError, match=r"b: cannot be written \(File too large\)"),
            replacing_folder(tmp_path / "b") as folder,
        ):
            (folder / "big").write_bytes(bytes(2000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


def test_errors_of_what_is_written_pass_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "a"):
        (tmp_path / "gone").read_bytes()
    with pytest.raises(KeyError), replacing_folder(tmp_path / "b"):
        raise KeyError(3)


def test_what_killed_processes_left_goes_when_it_is_old(tmp_path: Path) -> None:
    old = time.time() - 2 * files.DAY
    for name in (".model.aa.part", ".other.bb.part"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "half").write_text("x")
        os.utime(tmp_path / name, (old, old))
    (tmp_path / ".model.cc.part").mkdir()  # of a process that is at work
    with replacing_folder(tmp_path / "model"):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {"model", ".other.bb.part", ".model.cc.part"}
    remove_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"model"}


def test_a_copy_is_never_a_second_name(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(range(256)) * 5000)
    copy_file(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == (tmp_path / "a").read_bytes()
    with (tmp_path / "a").open("r+b") as handle:
        handle.truncate(3)
    assert (tmp_path / "b").stat().st_size == 256 * 5000


def test_one_process_holds_a_lock_and_lets_go_when_it_dies(tmp_path: Path) -> None:
    code = (
        "import sys; from refseg.files import locked\n"
        "with locked(sys.argv[1], 'busy'):\n    print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path / ".lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with (
            pytest.raises(RefsegError, match=f"process {other.pid} is at work"),
            locked(tmp_path / ".lock", "process {} is at work"),
        ):
            pass
        other.kill()
    with locked(tmp_path / ".lock", "busy"):
        pass


def test_half_of_a_surrogate_pair_is_written_as_json_writes_it(tmp_path: Path) -> None:
    write_text(tmp_path / "a.json", '"\ud83d and \N{GRINNING FACE}"')
    assert (tmp_path / "a.json").read_bytes() == b'"\\ud83d and \xf0\x9f\x98\x80"'
