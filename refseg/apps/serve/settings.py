"""What a server serves, and its limits."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from refseg.errors import ConfigError
from refseg.inference import DEFAULT_MODEL
from refseg.inference.locate import short_name

KEEP_ALIVE = 75
"""Seconds for which an idle connection is kept: longer than proxies and clients keep theirs."""
MB = 1 << 20


@dataclass(frozen=True)
class Settings:
    """The settings of a server; lengths of time are in seconds, memory is in megabytes of 2**20 bytes.

    With several workers each process has a queue, a cache and models of its own; the limits are those of one process.
    """

    models: tuple[str, ...] = (DEFAULT_MODEL,)
    """Packaged weights, model folders or hub ids; the first answers where a request names none."""
    device: str = "auto"
    precision: str = "float32"
    threads: int = 0
    """Threads of torch; 0 leaves torch's choice."""
    index: str = ""
    """An index of `refseg index` that is searched; "" has no search."""
    page: bool = True
    """Whether the page is served beside the API."""
    max_batch: int = 8
    """Expressions that are computed at once."""
    queue: int = 64
    """Expressions (or pictures to encode) that wait at most; further ones are refused with 429."""
    max_wait: float = 60.0
    """How long a request waits for its turn before it is refused with 429."""
    max_body: int = 32
    """The largest request."""
    max_pixels: int = 50_000_000
    """The largest picture, in pixels."""
    max_images: int = 16
    """Pictures of one request."""
    max_texts: int = 32
    """Expressions of one request."""
    max_letters: int = 500
    """Letters of an expression."""
    request_memory: int = 512
    """Bodies and decoded pictures of all requests in work, in all."""
    cache_memory: int = 512
    """Pictures that are kept encoded, in all."""
    cache_seconds: float = 1800.0
    """How long a picture is kept after it was last asked about."""
    spool: str = ""
    """A folder that workers share, so that each can encode a picture that another one received; "" for one worker."""
    spool_memory: int = 2048
    """What the folder holds at most."""
    api_key_file: str = ""
    """A file with one key a line, one of which requests must bring; "" asks for none."""
    allowed_hosts: tuple[str, ...] = ()
    """Host names that are answered; () answers all."""
    pictures: str = ""
    """The folder of Label Studio's local files and uploads; "" reads none."""

    def __post_init__(self) -> None:
        if not self.models:
            raise ConfigError("models: at least one is wanted")
        if len(set(self.model_names)) < len(self.models):
            raise ConfigError(f"models: two have the same name: {', '.join(self.model_names)}")
        if self.precision not in ("float32", "bfloat16"):
            raise ConfigError(f"precision is float32 or bfloat16, not {self.precision!r}")
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type in ("int", "float") and value < (least := 0 if field.name == "threads" else 1):
                raise ConfigError(f"{field.name} is at least {least}, not {value}")
        if self.queue < self.max_texts:
            raise ConfigError(f"queue={self.queue}: one request of max_texts={self.max_texts} would never fit")
        if self.api_key_file:
            self.keys()

    @property
    def model_names(self) -> tuple[str, ...]:
        """What requests call the models: the last part of a folder's path, the name otherwise; of two networks that are
        joined by a +, both."""
        return tuple(short_name(model) for model in self.models)

    def keys(self) -> frozenset[bytes]:
        """SHA-256 of the keys in `api_key_file`; empty lines and those that begin with # are none.

        Raises `ConfigError` where the file cannot be read, or holds none, or one of fewer than 16 letters.
        """
        if not self.api_key_file:
            return frozenset()
        try:
            lines = Path(self.api_key_file).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "no text in UTF-8"
            raise ConfigError(f"{self.api_key_file}: the keys cannot be read ({reason})") from error
        keys = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
        if not keys:
            raise ConfigError(f"{self.api_key_file}: it holds no key; write one a line")
        if min(map(len, keys)) < 16:
            raise ConfigError(f"{self.api_key_file}: a key has at least 16 letters; `openssl rand -hex 24` makes one")
        return frozenset(hashlib.sha256(key.encode()).digest() for key in keys)

    def to_json(self) -> str:
        """For worker processes; `from_json` reads it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """The settings that `to_json` wrote."""
        stored: dict[str, Any] = json.loads(text)
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in stored.items()
        }
        return cls(**values)


def is_key(given: str, keys: frozenset[bytes]) -> bool:
    """Whether it is one of the keys."""
    digest = hashlib.sha256(given.encode("utf-8", "replace")).digest()
    return any(hmac.compare_digest(digest, key) for key in keys)
