"""How one game runs: where its files lie, its limits, its address."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from refseg.errors import ConfigError

SECRET_VARIABLE = "REFSEG_ANNOTATE_SECRET"
KEEP_ALIVE = 75
"""Seconds for which the server keeps an idle connection: longer than proxies and clients keep theirs, so that none is
closed under a request."""


@dataclass(frozen=True)
class Settings:
    """The settings of a game; lengths of time are in seconds."""

    data: Path
    """The folder of pictures, secret and, unless `database` says otherwise, the database."""
    database: str = ""
    """SQLAlchemy's address of the database; "" is game.db in the data folder."""
    name: str = "refseg game"
    """The title of the pages."""
    root_path: str = ""
    """The path under which a proxy shows the game, such as /game."""
    allowed_hosts: tuple[str, ...] = ()
    """Host names that are answered; () answers all."""
    secure_cookies: bool = False
    """Mark cookies as for HTTPS only even where the request seems plain (a proxy that does not say so)."""
    daily_goal: int = 50
    """Sentences and verdicts that a person sets out to do in a day."""
    max_text: int = 200
    """The longest sentence, in characters."""
    lease_seconds: int = 900
    """How long an item is held without a sign of life."""
    skip_seconds: int = 86_400
    """How long a skipped item is not handed to the same person again."""
    session_seconds: int = 14 * 86_400
    """How long a login lasts."""
    draw_objects_power: float = 1.0
    """A picture is drawn in proportion to its number of objects to this power ..."""
    draw_samples_power: float = 2.0
    """... over its number of sentences plus one to this power: few samples first, many objects first."""
    draw_hard_weight: float = 4.0
    """A picture on which the helping model is always wrong is drawn so many times more often."""
    login_attempts: int = 10
    """Failed logins of a name from an address within five minutes, before both have to wait."""
    writes_per_minute: int = 120
    """Submissions and verdicts of a person in a minute."""
    requests_per_minute: int = 1200
    """Requests of a person that change something, in a minute (drafts and leases too)."""
    max_body: int = 256 * 1024
    """The largest request in bytes, uploads aside."""
    max_upload: int = 4 << 30
    """The largest uploaded import in bytes."""
    max_picture_bytes: int = 64 << 20
    """The largest picture in an uploaded archive, in bytes."""
    busy_seconds: float = 10.0
    """How long a request waits for the database before it is told to come back."""
    help_model: str = ""
    """A refseg model that answers after submission; "" leaves it out."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "data", Path(self.data))
        if self.root_path and (not self.root_path.startswith("/") or self.root_path.endswith("/")):
            raise ConfigError(
                f"root_path starts with a slash and does not end with one, such as /game: {self.root_path!r}"
            )
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type in ("int", "float") and value < (least := 1 if field.type == "int" else 0):
                raise ConfigError(f"{field.name} is at least {least}, not {value}")
        if "+" not in self.database.partition(":")[0] and self.database.startswith(("postgresql:", "postgres:")):
            address = "postgresql+psycopg:" + self.database.partition(":")[2]
            object.__setattr__(self, "database", address)

    @property
    def url(self) -> str:
        """The database's address."""
        return self.database or f"sqlite:///{self.data / 'game.db'}"

    @property
    def pictures(self) -> Path:
        """The folder of the pictures, named by their numbers."""
        return self.data / "pictures"

    def secret(self) -> bytes:
        """What cookies are signed with: the environment's, or the data folder's, made at the first call (mode 0600)."""
        given = os.environ.get(SECRET_VARIABLE, "")
        if given:
            if len(given) < 32:
                raise ConfigError(f"{SECRET_VARIABLE} has {len(given)} characters; at least 32 random ones are wanted")
            return given.encode()
        path = self.data / "secret"
        if not path.exists():
            self.data.mkdir(parents=True, exist_ok=True)
            try:
                handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            except FileExistsError:  # another worker was first
                pass
            else:
                with os.fdopen(handle, "w") as file:
                    file.write(secrets.token_urlsafe(48))
        text = path.read_text().strip()
        if len(text) < 32:
            raise ConfigError(f"{path} is cut short; delete it, and everybody logs in anew")
        return text.encode()

    def to_json(self) -> str:
        """For worker processes; `from_json` reads it."""
        return json.dumps({**asdict(self), "data": str(self.data.absolute())})

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """The settings that `to_json` wrote."""
        content: dict[str, Any] = json.loads(text)
        return cls(**{**content, "data": Path(content["data"]), "allowed_hosts": tuple(content["allowed_hosts"])})

    def change(self, **fields: Any) -> Settings:
        """The same but for some fields."""
        return replace(self, **fields)
