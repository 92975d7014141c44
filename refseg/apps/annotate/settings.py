"""How one game runs: where its files lie, its limits, its address."""

from __future__ import annotations

import json
import os
import secrets
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from refseg.apps.annotate.states import ROLES
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
    """Failed logins of a name from an address before the name has to wait there; ten times as many of all names."""
    login_wait: int = 30
    """The first such wait; each further failure doubles it, up to an hour."""
    writes_per_minute: int = 120
    """Submissions and verdicts of a person in a minute."""
    requests_per_minute: int = 1200
    """Requests of a person that change something, in a minute (drafts and leases too)."""
    max_body: int = 256 * 1024
    """The largest request in bytes, uploads aside."""
    max_upload: int = 4 << 30
    """The largest uploaded import in bytes."""
    body_seconds: int = 30
    """How long a request's body may take; of an upload, how long it may stand still."""
    upload_pace: int = 16 * 1024
    """Bytes a second that an upload makes at least, on average."""
    uploads_at_once: int = 2
    """Uploads that one process takes in at the same time."""
    disk_reserve: int = 256 << 20
    """Bytes that uploads and imports leave free on the disk, for the database."""
    max_picture_bytes: int = 64 << 20
    """The largest picture in an uploaded archive, in bytes."""
    busy_seconds: float = 10.0
    """How long a request waits for the database before it is told to come back."""
    second_opinion: bool = False
    """A rejected sample goes to a second validator, instead of ending with the first one's rejection."""
    return_days: float = 3.0
    """Days after which a sample that waits for a second validator goes back to its author, if nobody who could be one
    has been here since; 0: never."""
    practice_first: int = 0
    """Right answers in practice before there is work; 0 asks for none. Needs gold samples."""
    practice_every: int = 0
    """Verdicts after which one practice answer is due; 0 asks for none."""
    oidc_issuer: str = ""
    """The issuer's address of an OpenID Connect provider, for single sign-on; "" leaves it out."""
    oidc_client: str = ""
    """This game's client id there; a client secret stands in the environment, REFSEG_ANNOTATE_OIDC_SECRET."""
    oidc_name: str = "single sign-on"
    """What the login page calls the provider."""
    oidc_roles: tuple[str, ...] = ()
    """Roles of accounts made at a first login there; () lets in only those whose account has their e-mail as name."""
    propose_model: str = "instances"
    """A refseg model that proposes masks to editors, in a process of its own; "" leaves it out."""
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
            least = 0 if field.type == "float" or field.name.startswith("practice_") else 1
            if field.type in ("int", "float") and value < least:
                raise ConfigError(f"{field.name} is at least {least}, not {value}")
        if bool(self.oidc_issuer) != bool(self.oidc_client):
            raise ConfigError(
                "oidc_issuer and oidc_client go together: the provider's address, and this game's id there"
            )
        if unknown := [role for role in self.oidc_roles if role not in ROLES]:
            raise ConfigError(f"oidc_roles: {unknown[0]!r} is no role; there are {', '.join(ROLES)}")
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

    def make_folder(self) -> None:
        """Make the data folder, for its owner alone; one that is a game's already is closed to others."""
        if not self.data.exists():
            self.data.mkdir(parents=True, exist_ok=True)
        elif any(self.data.iterdir()) and not any((self.data / name).is_file() for name in ("secret", "game.db")):
            return  # somebody's folder with other things in it
        with suppress(OSError):  # another's, or a file system without modes
            self.data.chmod(0o700)

    def secret(self) -> bytes:
        """What cookies are signed with: the environment's, or the data folder's, made at the first call (mode 0600)."""
        given = os.environ.get(SECRET_VARIABLE, "")
        if given:
            if len(given) < 32:
                raise ConfigError(f"{SECRET_VARIABLE} has {len(given)} characters; at least 32 random ones are wanted")
            return given.encode()
        path = self.data / "secret"
        if not path.exists():
            self.make_folder()
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
        return cls(
            **{
                **content,
                "data": Path(content["data"]),
                **{name: tuple(content[name]) for name in ("allowed_hosts", "oidc_roles")},
            }
        )

    def change(self, **fields: Any) -> Settings:
        """The same but for some fields."""
        return replace(self, **fields)
