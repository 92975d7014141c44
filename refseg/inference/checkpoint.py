"""Models on disk: a folder with config.json, model.safetensors and the tokenizer's own files. Nothing in it is code.

config.json: {"format": 1, "refseg": version, "system": name, "config": {...}, "info": {...}}; `info` is what the
model's maker wants to tell: thresholds, the recipe, scores. Folders are replaced whole: a reader sees the old one or
the new.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from refseg import __version__
from refseg.encoders.text.tokenizer import Tokenizer, load_tokenizer
from refseg.errors import CheckpointError, ConfigError
from refseg.files import recover_folder, replacing_folder
from refseg.state_dicts import load_weights, read_tensors

FORMAT = 1
MODEL_TYPE = "refseg"
"""What the library transformers tells models apart by (`refseg.hf`)."""
CONFIG, WEIGHTS = "config.json", "model.safetensors"
_LEFT = ["pytorch_model*"]
_DOWNLOADED = ["*.json", "*.safetensors", "*.txt", "*.onnx", "*.xml", "*.bin"]
PACKAGED = Path(__file__).parents[1] / "weights"
_REVISION = re.compile(r"[\w./-]+").fullmatch
"""Of a hub id "owner/name@revision": a branch, a tag or a commit."""


def save_model(
    folder: str | os.PathLike[str],
    model: nn.Module,
    tokenizer: Tokenizer | None,
    info: Mapping[str, Any] | None = None,
    half: bool = False,
    state: Mapping[str, Tensor] | None = None,
) -> Path:
    """Write a model folder, whole or not at all.

    `state` takes the place of the model's own weights (a moving average); `half` stores float tensors in 16 bits, which
    `load_model` widens again. Raises `RefsegError` where the folder cannot be written.
    """
    with replacing_folder(folder) as temporary:
        write_model(temporary, model, tokenizer, info, half, state)
    return Path(folder)


def write_model(
    folder: Path,
    model: nn.Module,
    tokenizer: Tokenizer | None,
    info: Mapping[str, Any] | None = None,
    half: bool = False,
    state: Mapping[str, Tensor] | None = None,
) -> None:
    """Put the files of a model into `folder`, which exists; `save_model` leaves nothing half-written."""
    from safetensors.torch import save_file

    tensors = {}
    for name, value in (model.state_dict() if state is None else state).items():
        narrow = half and value.is_floating_point()
        # A copy each: safetensors refuses tensors that share memory, such as tied embeddings.
        tensors[name] = value.detach().to("cpu", torch.float16 if narrow else value.dtype, copy=True).contiguous()
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    if tokenizer is not None:
        tokenizer.save(folder)
    write_config(folder, model.config, info)


def write_config(folder: Path, config: Any, info: Mapping[str, Any] | None = None) -> None:
    """Write config.json alone: a model's configuration and its maker's `info`."""
    from refseg.models import config_to_dict

    values = dict(config_to_dict(config))
    document = {
        "format": FORMAT,
        "refseg": __version__,
        "system": values.pop("system"),
        "config": values,
        "info": dict(info or {}),
        "model_type": MODEL_TYPE,
    }
    (folder / CONFIG).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def load_model(
    name: str | os.PathLike[str], device: torch.device | str = "cpu"
) -> tuple[nn.Module, Tokenizer, dict[str, Any]]:
    """The model (in eval mode, float32), its tokenizer and its info, from a folder, a packaged name or a hub id.

    Raises `CheckpointError` when there is no such model, the folder is damaged or of a newer format, or its tensors are
    not exactly the model's; the message lists them.
    """
    from refseg.models import build

    folder = locate_model(name)
    document = read_config(folder)
    model = build(config_of(folder, document))
    load_weights(model, read_tensors(folder / WEIGHTS), f"{folder / WEIGHTS}")
    return model.to(device).eval(), load_tokenizer(folder), document["info"]


def locate_model(name: str | os.PathLike[str]) -> Path:
    """The folder of a model: a local folder, a name that ships with the package, or a hub id (downloaded once)."""
    if not isinstance(name, (str, os.PathLike)):
        raise CheckpointError(f"a model is the name of packaged weights, a folder or a hub id, not {name!r}")
    if not os.fspath(name):
        raise CheckpointError("the model's name is empty; give the name of packaged weights, a folder or a hub id")
    folder = Path(name)
    recover_folder(folder)
    if folder.is_dir():
        return folder
    if folder.is_file():
        raise CheckpointError(f"{folder} is a file; a model is a folder with {CONFIG} and {WEIGHTS}")
    text = os.fspath(name)
    if re.fullmatch(r"[\w.-]+", text) and (PACKAGED / text).is_dir():
        return PACKAGED / text
    hub_id, at, revision = text.partition("@")
    if re.fullmatch(r"[\w.-]+/[\w.-]+", hub_id) and not hub_id.startswith(".") and (not at or _REVISION(revision)):
        return _download(hub_id, revision or None)
    shipped = sorted(entry.name for entry in PACKAGED.iterdir() if entry.is_dir()) if PACKAGED.is_dir() else []
    _check_preset(text, shipped)
    raise CheckpointError(
        f"{text}: no such model folder; give a folder, a hub id (owner/name or owner/name@revision)"
        + (f" or a name that ships with refseg: {', '.join(shipped)}" if shipped else "")
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


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a model folder, checked: keys format, system, config, info."""
    path = folder / CONFIG
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); a model folder holds {CONFIG}") from error
    except ValueError as error:
        raise CheckpointError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(document, dict) or not {"format", "system", "config"} <= document.keys():
        raise CheckpointError(f"{path}: not the configuration of a refseg model (format, system and config are wanted)")
    if document["format"] != FORMAT:
        raise CheckpointError(f"{path}: format {document['format']!r}; this version of refseg reads format {FORMAT}")
    document.setdefault("info", {})
    return document


def config_of(folder: Path, document: Mapping[str, Any]) -> Any:
    from refseg.models import MODELS, config_from_dict

    system = document["system"]
    if system not in MODELS:
        raise CheckpointError(
            f"{folder / CONFIG}: a model of the system {system!r}, which this version does not have; "
            f"it has {', '.join(MODELS)}"
        )
    try:
        return config_from_dict({"system": system, **document["config"]})
    except ConfigError as error:
        raise CheckpointError(f"{folder / CONFIG}: {error}") from error


def _download(hub_id: str, revision: str | None = None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(hub_id, revision=revision, allow_patterns=_DOWNLOADED, ignore_patterns=_LEFT))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"{hub_id}{f'@{revision}' if revision else ''}: no such folder here, and it cannot be had from the hub "
            f"({reason}); check the name and the connection, or give a local folder"
        ) from error
