"""Where a model's files are: a folder, weights that came with the package, or a hub repository, downloaded once.

A name may be of two networks of transformers: "detector+segmenter" (`refseg.inference.foundation`), and of a model that
chooses among the instances of another one or of a file: "instances@facebook/sam3", "instances@dets.json"
(`refseg.inference.proposals`).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from refseg.errors import CheckpointError
from refseg.files import recover_folder
from refseg.models.foundation.families import family_of, supported

__all__ = [
    "CONFIG", "MODEL_TYPE", "PACKAGED", "WEIGHTS", "full_name", "is_detections", "locate_config", "locate_model",
    "short_name", "split_proposals", "split_sources",
]  # fmt: skip

MODEL_TYPE = "refseg"
"""What the library transformers tells models apart by (`refseg.hf`)."""
CONFIG, WEIGHTS = "config.json", "model.safetensors"
PACKAGED = Path(__file__).parents[1] / "weights"
_NO_LONGER_SHIPPED = {"rela-mini": "recipes/rela-mini-scenes.toml"}
"""Weights that came with earlier versions, and the recipe that trains them anew."""
_LEFT = ["pytorch_model*", "original/*", "onnx/*"]
_DOWNLOADED = ["*.json", "*.safetensors", "*.txt", "*.onnx", "*.xml", "*.bin"]
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+").fullmatch
_REVISION = re.compile(r"[\w./-]+").fullmatch
"""Of a hub id "owner/name@revision": a branch, a tag or a commit."""


def split_sources(name: str | os.PathLike[str]) -> tuple[str, ...]:
    """The parts of "detector+segmenter"; one where the name has no + or is a folder's as it stands."""
    text = os.fspath(name) if isinstance(name, (str, os.PathLike)) else ""
    if "+" not in text or Path(text).exists():
        return (text,)
    parts = tuple(part.strip() for part in text.split("+"))
    if len(parts) != 2 or not all(parts):
        raise CheckpointError(
            f"{text}: two models are joined as DETECTOR+SEGMENTER, such as google/owlv2+facebook/sam2"
        )
    return parts


def split_proposals(name: str | os.PathLike[str]) -> tuple[str | os.PathLike[str], str | None]:
    """The model and its proposals of "model@proposals", where the model is a folder or packaged weights; else the name
    itself and None: in "owner/name@revision" of the hub nothing is proposed."""
    text = os.fspath(name) if isinstance(name, (str, os.PathLike)) else ""
    base, _, proposals = text.partition("@")
    if not base or not proposals or Path(text).exists() or not (Path(base).is_dir() or _packaged(base)):
        return name, None
    return base, proposals


def is_detections(proposals: str | os.PathLike[str]) -> bool:
    """Whether the name of proposals is that of a file of detections."""
    path = Path(proposals)
    return path.suffix.lower() == ".json" or path.is_file()


def full_name(name: str | os.PathLike[str]) -> str:
    """The name by which other processes find the model: folders and files as absolute paths."""
    base, proposals = split_proposals(name)
    if proposals is not None:
        return f"{full_name(base)}@{full_name(proposals)}"
    return "+".join(str(Path(part).absolute()) if Path(part).exists() else part for part in split_sources(name))


def short_name(name: str) -> str:
    """The last part of each path and hub id in a name."""
    base, proposals = split_proposals(name)
    if proposals is not None:
        return f"{short_name(str(base))}@{short_name(proposals)}"
    return "+".join(Path(part).name or part for part in split_sources(name))


def _packaged(name: str) -> bool:
    return re.fullmatch(r"[\w.-]+", name) is not None and (PACKAGED / name).is_dir()


def locate_model(name: str | os.PathLike[str]) -> Path:
    """The folder of a model: a local folder, a name that ships with the package, or a hub id (downloaded once)."""
    folder, hub_id, revision = _look(name)
    return folder if folder is not None else _download(hub_id, revision)


def locate_config(name: str | os.PathLike[str]) -> Path:
    """A folder with a model's config.json; of a hub repository nothing else is downloaded."""
    folder, hub_id, revision = _look(name)
    return folder if folder is not None else _download_config(hub_id, revision)


def _look(name: str | os.PathLike[str]) -> tuple[Path | None, str, str | None]:
    """The folder that is here, or the repository and its revision."""
    if not isinstance(name, (str, os.PathLike)):
        raise CheckpointError(f"a model is the name of packaged weights, a folder or a hub id, not {name!r}")
    if not os.fspath(name):
        raise CheckpointError("the model's name is empty; give the name of packaged weights, a folder or a hub id")
    folder = Path(name)
    recover_folder(folder)
    if folder.is_dir():
        return folder, "", None
    if folder.is_file():
        raise CheckpointError(f"{folder} is a file; a model is a folder with {CONFIG} and {WEIGHTS}")
    text = os.fspath(name)
    if _packaged(text):
        return PACKAGED / text, "", None
    hub_id, at, revision = text.partition("@")
    if _HUB_ID(hub_id) and not hub_id.startswith(".") and (not at or _REVISION(revision)):
        return None, hub_id, revision or None
    shipped = sorted(entry.name for entry in PACKAGED.iterdir() if entry.is_dir()) if PACKAGED.is_dir() else []
    _check_no_longer_shipped(text, shipped)
    _check_preset(text, shipped)
    raise CheckpointError(
        f"{text}: no such model folder; give a folder, a hub id (owner/name or owner/name@revision)"
        + (f" or a name that ships with refseg: {', '.join(shipped)}" if shipped else "")
    )


def _check_no_longer_shipped(name: str, shipped: list[str]) -> None:
    """Raises `CheckpointError` where the name is that of weights that came with earlier versions."""
    if name in _NO_LONGER_SHIPPED:
        raise CheckpointError(
            f"{name}: these weights are no longer shipped; give one of those that are ({', '.join(shipped)}), or train "
            f"them anew with `refseg train {_NO_LONGER_SHIPPED[name]}` and give the folder that it writes"
        )


def _check_preset(name: str, shipped: list[str]) -> None:
    """Raises `CheckpointError` where the name is a preset's, which is a configuration without weights."""
    from refseg.models import preset_names
    from refseg.official import SYSTEMS

    if name not in preset_names():
        return
    system = name.partition("-")[0]
    imported = f"turn the authors' checkpoint into one with `refseg import {system} FILE -o FOLDER`, or "
    raise CheckpointError(
        f"{name} is a preset, a configuration without weights; {imported if system in SYSTEMS else ''}train a model "
        f"folder with `refseg train`, and give the folder; weights that ship with refseg: {', '.join(shipped)}"
    )


def _download(hub_id: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download

    _check_family(_download_config(hub_id, revision), hub_id)
    with _hub_errors(hub_id, revision):
        return Path(snapshot_download(hub_id, revision=revision, allow_patterns=_DOWNLOADED, ignore_patterns=_LEFT))


def _download_config(hub_id: str, revision: str | None) -> Path:
    from huggingface_hub import hf_hub_download

    with _hub_errors(hub_id, revision):
        return Path(hf_hub_download(hub_id, CONFIG, revision=revision)).parent


def _check_family(folder: Path, hub_id: str) -> None:
    """Raises `CheckpointError` for a model that nothing here can ask, before its weights are downloaded."""
    try:
        found: Any = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{hub_id}: its {CONFIG} cannot be read ({error})") from error
    kind = found.get("model_type") if isinstance(found, dict) else None
    if kind == MODEL_TYPE or (isinstance(found, dict) and "system" in found) or family_of(kind):
        return
    raise CheckpointError(f"{hub_id}: a model of the type {kind!r}, which refseg cannot ask; it asks {supported()}")


@contextmanager
def _hub_errors(hub_id: str, revision: str | None) -> Iterator[None]:
    """What the hub's client raises, as one line that says what to do."""
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
    )

    named = f"{hub_id}{f'@{revision}' if revision else ''}"
    try:
        yield
    except GatedRepoError as error:
        raise CheckpointError(
            f"{named}: its owner gives access one by one; ask for it at {constants.ENDPOINT}/{hub_id}, then log in: hf "
            "auth login (or set HF_TOKEN)"
        ) from error
    except LocalEntryNotFoundError as error:
        wanted = f"{CONFIG}, {WEIGHTS} (or its parts) and the tokenizer's files"
        place = f"{constants.HF_HUB_CACHE}/models--{hub_id.replace('/', '--')}"
        raise CheckpointError(
            f"{named}: no such folder here, and it cannot be had from the hub ({_reason(error)}); check the name and "
            f"the connection, or give a local folder; missing are {wanted}, which would be in {place}"
        ) from error
    except EntryNotFoundError as error:
        raise CheckpointError(
            f"{named}: the repository holds no {CONFIG} ({_reason(error)}); is it a model's?"
        ) from error
    except Exception as error:
        # The client lets errors of its HTTP library through, which is another one in other versions.
        library = type(error).__module__.partition(".")[0] in ("httpx", "httpx2", "requests")
        if not library and not isinstance(error, (HfHubHTTPError, HFValidationError, OSError)):
            raise
        raise CheckpointError(
            f"{named}: no such folder here, and it cannot be had from the hub ({_reason(error)}); check the name and "
            "the connection, or give a local folder; what was downloaded is kept, and the next try goes on from there"
        ) from error


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
