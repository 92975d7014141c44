"""Servers as people start them: processes, signals, ports; the client, the load, the container's files."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from refseg.apps.serve.client import Client
from refseg.apps.serve.load import Load, lines, measure
from refseg.cli.app import root, spell_out
from refseg.cli.main import main
from refseg.errors import RefsegError
from refseg.serve import create_app
from tests.apps.serve.conftest import MODEL, encoded, scene, segmenter

ROOT = Path(__file__).parents[3]


class Process:
    """`refseg serve OPTIONS` in a process of its own."""

    def __init__(self, *words: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        command = [sys.executable, "-m", "refseg", "serve", "--port", str(self.port), "--model", MODEL, *words]
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment)
        self.url = f"http://127.0.0.1:{self.port}"

    def wait(self, seconds: float = 600) -> None:
        """Return once it is ready."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            assert self.process.poll() is None, self.process.stdout and self.process.stdout.read().decode()
            try:
                with urllib.request.urlopen(f"{self.url}/readyz", timeout=5):
                    return
            except OSError:
                time.sleep(0.1)
        raise TimeoutError(self.url)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(20)
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.mark.timeout(900)  # a process takes its time to start where others work
def test_sigterm_finishes_what_was_taken_and_ends_well() -> None:
    """Twelve requests are on the way when the signal comes: each is answered, then the process ends with 0."""
    server = Process("--no-page", "--max-batch", "1")
    try:
        server.wait()
        client = Client(server.url)
        data = encoded(scene().image)
        client.segment(data, ["red car"])
        results: list[int | str] = []

        def ask() -> None:
            try:
                results.append(len(client.segment(data, ["red car", "all chairs"])))
            except RefsegError as error:
                results.append(str(error))

        threads = [threading.Thread(target=ask) for _ in range(12)]
        for thread in threads:
            thread.start()
        _until(lambda: _metric(server.url, "refseg_request_bytes") > 11 * len(data))  # all are in
        server.process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join(300)
        assert results == [2] * 12
        assert server.process.wait(120) == 0
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", server.port), timeout=5)
    finally:
        server.end()


@pytest.mark.timeout(900)
def test_workers_answer_about_each_others_pictures_and_count_together() -> None:
    server = Process("--workers", "2")
    try:
        server.wait()
        kept = Client(server.url).keep(encoded(scene().image))
        found = set()
        for _ in range(60):  # each call is a connection of its own, which either worker may take
            [answer] = Client(server.url).ask(kept, ["red car"])
            found.add(int(answer.mask.sum()))
            if _metric(server.url, 'refseg_batch_seconds_count{kind="encode"}') > 1:
                break
        assert _metric(server.url, 'refseg_batch_seconds_count{kind="encode"}') > 1, "only one worker answered"
        assert len(found) == 1
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(180) == 0
    finally:
        server.end()


def _metric(url: str, name: str) -> float:
    with urllib.request.urlopen(f"{url}/metrics", timeout=30) as response:
        text = response.read().decode()
    found = re.findall(rf"^{re.escape(name)}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE)
    return sum(map(float, found))


def _until(holds: Callable[[], bool], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--host", "127.0.0.1", "--port", "{taken}"], "cannot be had"),
        (["--host", "no.such.host.invalid", "--port", "0"], "no such address"),
        (["--port", "0", "--model", "nowhere"], "no such model"),
        (["--port", "0", "--model", "nowhere", "--workers", "2"], "no such model"),
        (["--port", "0", "--model", MODEL, "--index", "nowhere"], "no such index"),
        (["--port", "0", "--pictures", "nowhere"], "no such folder"),
        (["--port", "0", "--api-key-file", "nowhere"], "cannot be read"),
        (["--max-batch", "0"], "at least 1"),
    ],
)
def test_what_cannot_be_served_is_one_line(capsys: pytest.CaptureFixture[str], words: list[str], said: str) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        given = [word.replace("{taken}", str(taken.getsockname()[1])) for word in words]
        assert main(["serve", *given]) == 2
    signal.signal(signal.SIGTERM, before)
    printed = capsys.readouterr().err
    assert said in printed
    assert printed.count("\n") == 1


def test_the_client(running: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("0123456789abcdef\n")
    server = running(api_key_file=str(file))
    client = Client(server.url, key="0123456789abcdef")
    picture = tmp_path / "scene.png"
    picture.write_bytes(encoded(scene().image))
    texts = ["red car", "the pink chair"]
    direct = segmenter()(scene().image, texts)
    for answers in (client.segment(picture, texts), client.ask(client.keep(picture.read_bytes()), texts)):
        assert [bool(answer) for answer in answers] == [bool(answer) for answer in direct] == [True, False]
        assert (answers[0].mask ^ direct[0].mask).mean() < 1e-4
    with pytest.raises(RefsegError, match="key is wanted"):
        Client(server.url).segment(picture, texts)
    with pytest.raises(RefsegError, match="no such picture"):
        client.ask("x" * 22, texts)
    with pytest.raises(RefsegError, match="cannot be opened"):
        client.keep(tmp_path / "nowhere.png")
    with pytest.raises(RefsegError, match="cannot be reached"):
        Client("http://127.0.0.1:1").keep(picture)


def test_the_client_comes_back_to_a_busy_server(running: Callable[..., Any]) -> None:
    server = running()
    server.state.engine._waiting = server.state.settings.queue
    threading.Timer(0.3, lambda: setattr(server.state.engine, "_waiting", 0)).start()
    server.state.engine._seconds_each = 0.001
    assert len(Client(server.url).segment(encoded(scene().image), ["red car"])) == 1
    server.state.engine._waiting = server.state.settings.queue
    with pytest.raises(RefsegError, match="wait already"):
        Client(server.url, timeout=0.1).segment(encoded(scene().image), ["red car"])
    server.state.engine._waiting = 0


def test_the_load_is_measured(
    running: Callable[..., Any], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = running(queue=32)
    monkeypatch.setattr("refseg.apps.serve.load.PICTURES", 2)
    out = tmp_path / "load.json"
    words = ["serve-load", "--url", server.url, "--clients", "4", "--seconds", "1", "--json", str(out)]
    assert main(words) == 0
    report = json.loads(out.read_text())
    assert report["errors"] == 0
    assert report["answers"] == sum(
        report["routes"].get(name, {"requests": 0})["requests"] for name in ("ask", "segment")
    )
    assert report["answers"] > 0
    assert all(row["median"] <= row["p95"] <= row["p99"] <= row["slowest"] for row in report["routes"].values())
    assert "errors: 0" in capsys.readouterr().out


def test_errors_under_load_are_counted(running: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    server = running()
    import refseg.apps.serve.load as load

    monkeypatch.setattr(load, "PICTURES", 2)
    drawn = load.draw()
    monkeypatch.setattr(load, "draw", lambda: [*drawn, *[(b"no picture", ["a"])] * 40])
    report = measure(Load(clients=3, seconds=0.5, kept=0.0), server.url)
    assert report["errors"] > 0
    assert "422" in report["first_errors"][0]
    assert any("422" in line for line in lines(report))


def test_a_server_that_is_not_there_is_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    clock = iter(range(10**6))
    monkeypatch.setattr("time.monotonic", lambda: float(next(clock)))
    monkeypatch.setattr("refseg.apps.serve.load.draw", lambda: [])
    assert main(["serve-load", "--url", "http://127.0.0.1:1", "--clients", "1"]) == 2
    assert "not ready" in capsys.readouterr().err


def test_create_app_has_a_public_name() -> None:
    assert create_app.__module__ == "refseg.apps.serve.app"


def test_the_commands_of_the_containers_are_commands_of_ours() -> None:
    """What Dockerfile and compose.yaml start is parsed by the command line as it is."""
    docker = (ROOT / "Dockerfile").read_text()
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
    commands = [json.loads(docker.rpartition("\nCMD ")[2])]
    for name in ("serve", "game"):
        service = compose["services"][name]
        commands.append(
            [word.replace("${POSTGRES_PASSWORD:?put it into .env}", "secret") for word in service["command"]]
        )
        port = commands[-1][commands[-1].index("--port") + 1]
        assert service["ports"] == [f"127.0.0.1:{port}:{port}"]
        assert service["read_only"]
    assert set(compose["volumes"]) == {"game", "database"}
    for command in commands:
        assert command[0] == "refseg"
        with root().make_context("refseg", command[1:]) as context:
            verb, words = root().resolve_command(context, command[1:])[1:]
            while hasattr(verb, "commands"):
                verb, words = verb.commands[words[0]], words[1:]
            verb.make_context("verb", spell_out(verb, words), parent=context)


def test_the_image_runs_without_root_and_holds_what_it_copies() -> None:
    docker = (ROOT / "Dockerfile").read_text()
    assert docker.index("\nUSER refseg") < docker.index("\nCMD")
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line.startswith("!")]
    for line in re.findall(r"^COPY (.+)$", docker, re.MULTILINE):
        for name in shlex.split(line)[:-1]:
            assert (ROOT / name).exists()
            assert name in kept
