"""A game of drawn scenes behind a real server: in a thread, where tests turn its clock, or in a process to kill."""

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from dataclasses import replace
from pathlib import Path

import uvicorn
from sqlalchemy.orm import Session

from refseg.apps.annotate.app import VARIABLE, create_app
from refseg.apps.annotate.auth import people
from refseg.apps.annotate.game import Game
from refseg.apps.annotate.services.importing import ImportResult, import_pictures
from refseg.apps.annotate.services.sources import scenes
from refseg.apps.annotate.settings import Settings

PASSWORD = "correct horse 7"
PEOPLE = {
    "anna": ("annotator", "validator"),
    "viktor": ("annotator", "validator"),
    "vera": ("annotator", "validator"),
    "ada": ("administrator", "annotator", "validator"),
}


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def add_people(game: Game) -> None:
    """The accounts above."""

    def work(session: Session) -> None:
        for name, roles in PEOPLE.items():
            people.add_person(session, game, name, PASSWORD, roles)

    game.database.write(work)


def fill(data: Path, pictures: int, seed: int = 3, size: int = 320, **settings) -> Game:
    """A new game with the people above and drawn scenes."""
    game = Game.open(Settings(data=data, **settings))
    add_people(game)
    game.rng = random.Random(seed)
    # One split: each picture has others to take suggestions from.
    found = (replace(scene, split="train") for scene in scenes(pictures, seed, size))
    import_pictures(game, found, ImportResult(), "scenes")
    return game


class ThreadServer:
    """The game in a thread of this process; `turn(seconds)` moves its clock on."""

    def __init__(self, game: Game) -> None:
        self.ahead = 0.0
        game.clock = lambda: time.time() + self.ahead
        game.rng = random.Random(5)
        self.game = game
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        application = create_app(game.settings, game)
        self.server = uvicorn.Server(uvicorn.Config(application, port=port, log_level="warning", lifespan="off"))
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        wait_for(self.url)

    def turn(self, seconds: float) -> None:
        self.ahead += seconds

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(10)
        self.game.database.close()


class ProcessServer:
    """The game in a process of its own, started and killed again on the same port."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "uvicorn", "--factory", "refseg.apps.annotate.app:from_environment"]
        command += ["--port", str(self.port), "--log-level", "warning"]
        environment = {**os.environ, VARIABLE: self.settings.to_json()}
        self.process = subprocess.Popen(command, env=environment)
        wait_for(self.url)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)


def wait_for(url: str, seconds: float = 60) -> None:
    """Return once the server answers."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(f"{url}/healthz", timeout=2):
                return
        except OSError:
            time.sleep(0.05)
    raise TimeoutError(f"{url} does not answer")
