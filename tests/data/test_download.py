"""Fetching from a server on this machine: whole, in pieces after cuts, with changed, wrong and missing files."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from refseg.cli.main import main
from refseg.data import catalog
from refseg.data.catalog import RELEASES, release
from refseg.data.download import Unreachable, checksum, fetch, fetch_all, unpack
from refseg.data.published import Release, RemoteFile
from refseg.errors import DataError

CONTENT = bytes(range(256)) * 4000  # 1 MB


class Server(ThreadingHTTPServer):
    """Files by path; `cut` ends each answer after so many bytes, `ranges` are the ranges that were asked for."""

    files: dict[str, bytes]
    cut: int | None = None
    resumable = True
    version = '"one"'

    def __init__(self) -> None:
        self.files, self.ranges = {}, []
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        content = self.server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        asked = self.headers.get("Range")
        self.server.ranges.append(asked)
        start = 0
        if asked and self.server.resumable and self.headers.get("If-Range", self.server.version) == self.server.version:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
        self.send_response(206 if start else 200)
        self.send_header("ETag", self.server.version)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        body = content[start:]
        self.wfile.write(body if self.server.cut is None else body[: self.server.cut])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()


def wanted(**known: object) -> RemoteFile:
    return RemoteFile((), "x", **known)  # type: ignore[arg-type]


def test_whole_and_checked(server: Server, tmp_path: Path) -> None:
    server.files["/a"] = CONTENT
    digest = hashlib.sha256(CONTENT).hexdigest()
    seen: list[int] = []
    target = tmp_path / "d" / "a"
    fetch(
        f"{server.url}/a",
        target,
        wanted(size=len(CONTENT), sha256=digest),
        lambda _path, done, total: seen.append(done),
    )
    assert target.read_bytes() == CONTENT
    assert seen[-1] == len(CONTENT)
    assert checksum(target, "sha256") == digest
    assert [path.name for path in target.parent.iterdir()] == ["a"]


def test_goes_on_after_every_cut(server: Server, tmp_path: Path) -> None:
    server.files["/a"], server.cut = CONTENT, 300_000
    fetch(f"{server.url}/a", tmp_path / "a", wanted(size=len(CONTENT)), wait=0.0)
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=300000-", "bytes=600000-", "bytes=900000-"]


def test_goes_on_in_the_next_run(server: Server, tmp_path: Path) -> None:
    server.files["/a"] = CONTENT
    (tmp_path / "a.part").write_bytes(CONTENT[:500_000])
    (tmp_path / "a.part.json").write_text(json.dumps({"url": f"{server.url}/a", "version": '"one"'}))
    fetch(f"{server.url}/a", tmp_path / "a", wanted())
    assert server.ranges == ["bytes=500000-"]
    assert (tmp_path / "a").read_bytes() == CONTENT


@pytest.mark.parametrize("case", ["changed", "not resumable", "other address", "no mark"])
def test_starts_anew_when_the_rest_would_not_fit(server: Server, tmp_path: Path, case: str) -> None:
    server.files["/a"] = CONTENT
    (tmp_path / "a.part").write_bytes(b"old" * 1000)
    mark = {"url": f"{server.url}/a", "version": '"one"'}
    if case == "changed":
        server.version = '"two"'
    elif case == "not resumable":
        server.resumable = False
    elif case == "other address":
        mark["url"] = "http://elsewhere/a"
    if case != "no mark":
        (tmp_path / "a.part.json").write_text(json.dumps(mark))
    fetch(f"{server.url}/a", tmp_path / "a", wanted())
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_complete_part_only_takes_its_name(server: Server, tmp_path: Path) -> None:
    server.files["/a"] = CONTENT
    (tmp_path / "a.part").write_bytes(CONTENT)
    (tmp_path / "a.part.json").write_text(json.dumps({"url": f"{server.url}/a", "version": '"one"'}))
    fetch(f"{server.url}/a", tmp_path / "a", wanted(md5=hashlib.md5(CONTENT).hexdigest()))
    assert (tmp_path / "a").read_bytes() == CONTENT


@pytest.mark.parametrize("known", [{"sha256": "0" * 64}, {"md5": "0" * 32}])
def test_another_file_is_refused_and_removed(server: Server, tmp_path: Path, known: dict[str, str]) -> None:
    server.files["/a"] = CONTENT
    with pytest.raises(DataError, match="not the published file"):
        fetch(f"{server.url}/a", tmp_path / "a", wanted(**known))
    assert list(tmp_path.iterdir()) == []


def test_unreachable(server: Server, tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="404"):
        fetch(f"{server.url}/gone", tmp_path / "a", wanted())
    server.files["/a"] = CONTENT
    with pytest.raises(Unreachable, match="were published"):
        fetch(f"{server.url}/a", tmp_path / "a", wanted(size=5))
    server.files["/a"], server.cut = CONTENT, 0
    with pytest.raises(Unreachable, match="ended early"):
        fetch(f"{server.url}/a", tmp_path / "a", wanted(), tries=2, wait=0.0)
    with pytest.raises(DataError, match="only http"):
        fetch("file:///etc/passwd", tmp_path / "a", wanted())


def zipped(entries: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return stream.getvalue()


def tarred(entries: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in entries.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


def test_a_release_is_fetched_unpacked_and_left_alone(server: Server, tmp_path: Path) -> None:
    server.files["/a.zip"] = zipped({"refcoco/instances.json": b"{}"})
    server.files["/b.tar.gz"] = tarred({"images/1.jpg": b"x"})
    files = [
        RemoteFile((f"{server.url}/dead.zip", f"{server.url}/a.zip"), "archives/a.zip", ""),
        RemoteFile((f"{server.url}/b.tar.gz",), "archives/b.tar.gz", "images", pictures=True),
        RemoteFile((f"{server.url}/none",), "none"),
        RemoteFile((), "form", manual="fill in the form"),
    ]
    first = fetch_all(files, tmp_path)
    assert [result.state for result in first] == ["unpacked", "unpacked", "manual", "manual"]
    assert (tmp_path / "refcoco" / "instances.json").read_bytes() == b"{}"
    assert (tmp_path / "images" / "images" / "1.jpg").read_bytes() == b"x"
    assert "404" in first[2].message
    assert first[3].message == "fill in the form"
    count = len(server.ranges)
    (tmp_path / "form").write_text("")
    assert [result.state for result in fetch_all(files, tmp_path)] == ["there", "there", "manual", "there"]
    assert len(server.ranges) == count
    assert len(fetch_all(files, tmp_path / "other", pictures=False)) == 3


def test_a_mirror_comes_first(server: Server, tmp_path: Path) -> None:
    server.files["/m/a.zip"] = zipped({"x": b"y"})
    (result,) = fetch_all([RemoteFile(("http://127.0.0.1:9/a.zip",), "a.zip", "")], tmp_path, mirror=f"{server.url}/m/")
    assert result.state == "unpacked"


@pytest.mark.parametrize("name", ["../out", "/etc/out", "a/../../out", "..\\out"])
def test_archives_stay_in_their_folder(tmp_path: Path, name: str) -> None:
    for number, content in enumerate((zipped({name: b"x"}), tarred({name: b"x"}))):
        (tmp_path / f"{number}").write_bytes(content)
        with pytest.raises(DataError, match="leads out of the folder"):
            unpack(tmp_path / f"{number}", tmp_path / "in" / "side")
    assert not list(tmp_path.rglob("out"))


def test_damaged_archives(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"junk")
    with pytest.raises(DataError, match="neither a zip nor a tar"):
        unpack(tmp_path / "a", tmp_path / "x")
    whole = bytearray(zipped({"x": bytes(range(256)) * 100}))
    whole[60] ^= 0xFF
    (tmp_path / "b").write_bytes(whole)
    with pytest.raises(DataError, match="cannot be unpacked"):
        unpack(tmp_path / "b", tmp_path / "x")
    (tmp_path / "c").write_bytes(zipped({"bomb": bytes(201_000_000)}))
    with pytest.raises(DataError, match="far more"):
        unpack(tmp_path / "c", tmp_path / "x")


def test_the_catalogue_is_sound() -> None:
    from refseg.data.catalog import PUBLISHED

    known = {entry.dataset for entry in PUBLISHED}
    for name, entry in RELEASES.items():
        assert name == entry.name
        assert name in known
        assert entry.layout
        assert entry.licence
        assert entry.home.startswith("https://")
        paths = [file.path for file in entry.files]
        assert len(paths) == len(set(paths))
        for file in entry.files:
            assert file.urls or file.manual
            assert file.sha256 is None or len(bytes.fromhex(file.sha256)) == 32
            assert file.md5 is None or len(bytes.fromhex(file.md5)) == 16
    with pytest.raises(DataError, match="did you mean 'refcoco'"):
        release("refcocoo")


def test_the_command(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server.files["/a.zip"] = zipped({"mine/instances.json": b"{}"})
    files = (RemoteFile((f"{server.url}/a.zip",), "archives/a.zip", ""),)
    mine = Release("mine", "Mine", "A paper", "https://x", "CC0", files, ("mine/instances.json",))
    monkeypatch.setitem(catalog.RELEASES, "mine", mine)
    assert main(["data", "get", "mine", "-o", str(tmp_path)]) == 0
    assert "everything is there" in capsys.readouterr().out
    assert (tmp_path / "mine" / "instances.json").is_file()
    form = (RemoteFile((), "y", manual="fill in the form at X"),)
    monkeypatch.setitem(catalog.RELEASES, "mine", Release("mine", "Mine", "P", "https://x", "CC0", form, ("y",)))
    assert main(["data", "get", "mine", "-o", str(tmp_path)]) == 1
    assert "fill in the form at X" in capsys.readouterr().out
    assert main(["data", "get", "refcoco", "--dry-run"]) == 0
    assert "web.archive.org" in capsys.readouterr().out
    assert main(["data", "get"]) == 0
    assert "Ref-YouTube-VOS" in capsys.readouterr().out
    assert main(["data", "get", "refcocoo"]) == 2
    (tmp_path / "file").write_text("")
    monkeypatch.setitem(catalog.RELEASES, "mine", mine)
    assert main(["data", "get", "mine", "-o", str(tmp_path / "file")]) == 2


def test_a_page_in_the_place_of_an_archive_leads_to_the_next_address(server: Server, tmp_path: Path) -> None:
    server.files = {"/dead/x.zip": b"<html>this domain is for sale</html>", "/copy/x.zip": zipped({"x/a.txt": b"a"})}
    urls = tuple(f"{server.url}/{place}/x.zip" for place in ("dead", "copy"))
    (result,) = fetch_all([RemoteFile(urls, "x.zip", unpack="")], tmp_path)
    assert result.state == "unpacked"
    assert (tmp_path / "x" / "a.txt").read_bytes() == b"a"
    with pytest.raises(DataError, match="neither a zip nor a tar archive came"):
        fetch_all([RemoteFile(urls[:1], "y.zip", unpack="")], tmp_path)
    assert not (tmp_path / "y.zip").exists()


def test_an_answer_that_is_no_http_is_told(tmp_path: Path) -> None:
    import socket

    listener = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        for _ in range(2):
            connection, _ = listener.accept()
            connection.recv(1000)
            connection.sendall(b"nonsense\r\n\r\n")
            connection.close()

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/x"
    with pytest.raises(Unreachable, match="nonsense"):
        fetch(url, tmp_path / "x", wanted(), tries=2, wait=0.0)
    thread.join(5)
    listener.close()
