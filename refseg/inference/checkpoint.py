"""Models on disk: a folder with config.json, model.safetensors and the tokenizer's own files. Nothing in it is code.

config.json: {"format": 1, "refseg": version, "system": name, "config": {...}, "info": {...}}; `info` is what the
model's maker wants to tell: thresholds, the recipe, scores. Folders are replaced whole: a reader sees the old one or
the new.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from refseg import __version__
from refseg.encoders.text.tokenizer import Tokenizer, load_tokenizer
from refseg.errors import CheckpointError, ConfigError, RefsegError
from refseg.files import digest, replacing_folder
from refseg.inference.foundation import foundation_sources, load_foundation
from refseg.inference.locate import CONFIG, MODEL_TYPE, WEIGHTS, is_detections, locate_model, split_proposals
from refseg.inference.placement import DeviceMap
from refseg.state_dicts import listed, load_weights, not_finite, read_tensors, write_tensors
from refseg.types import ModelConfig

FORMAT = 1
SUMS = "sha256"
"""The table of config.json that holds the checksums of the files beside it."""


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
    """Put the files of a model into `folder`, which exists; `save_model` leaves nothing half-written.

    Raises `CheckpointError` for weights that are not finite numbers.
    """
    tensors = {}
    for name, value in (model.state_dict() if state is None else state).items():
        narrow = half and value.is_floating_point()
        # A copy each: safetensors refuses tensors that share memory, such as tied embeddings.
        tensors[name] = value.detach().to("cpu", torch.float16 if narrow else value.dtype, copy=True).contiguous()
    if strange := not_finite(tensors):
        raise CheckpointError(f"the model is not saved: these weights are not finite numbers: {listed(strange)}")
    write_tensors(folder / WEIGHTS, tensors)
    if tokenizer is not None:
        tokenizer.save(folder)
    write_config(folder, cast(ModelConfig, model.config), info)


def write_config(folder: Path, config: ModelConfig, info: Mapping[str, Any] | None = None) -> None:
    """Write config.json alone: a model's configuration, its maker's `info`, and the SHA-256 of every file that is there
    already, which `check_files` compares."""
    from refseg.models import config_to_dict

    values = dict(config_to_dict(config))
    document = {
        "format": FORMAT,
        "refseg": __version__,
        "system": values.pop("system"),
        "config": values,
        "info": dict(info or {}),
        "model_type": MODEL_TYPE,
        SUMS: {path.name: digest(path) for path in sorted(folder.iterdir()) if path.is_file() and path.name != CONFIG},
    }
    (folder / CONFIG).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def load_model(
    name: str | os.PathLike[str], device: torch.device | str = "cpu", device_map: DeviceMap | None = None
) -> tuple[nn.Module, Tokenizer, dict[str, Any]]:
    """The model (in eval mode, float32), its tokenizer and its info, from a folder, a packaged name or a hub id.

    `device_map` (`refseg.inference.placement`) is for networks of transformers.

    Raises `CheckpointError` when there is no such model, the folder is damaged or of a newer format, or its tensors are
    not exactly the model's; the message lists them.
    """
    from refseg.models import build

    if sources := foundation_sources(name):
        network, words, info = load_foundation(*sources, device_map=device_map)
        return network.to(device), words, info
    if device_map is not None:
        raise RefsegError(f"device_map: {name} is no network of transformers and computes on one device; leave it out")
    folder = locate_model(name)
    document = read_config(folder)
    check_files(folder, document)
    model = build(config_of(folder, document))
    load_weights(model, read_tensors(folder / WEIGHTS), f"{folder / WEIGHTS}")
    return model.to(device).eval(), load_tokenizer(folder), document["info"]


def check_model(name: str | os.PathLike[str]) -> None:
    """Raises `CheckpointError` where a model is not there, without reading its weights."""
    name, proposals = split_proposals(name)
    if proposals is not None and not is_detections(proposals):
        check_model(proposals)
    if not foundation_sources(name):
        read_config(locate_model(name))


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a model folder, checked: keys format, system, config, info."""
    path = folder / CONFIG
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); a model folder holds {CONFIG}") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(document, dict) or not {"format", "system", "config"} <= document.keys():
        raise CheckpointError(f"{path}: not the configuration of a refseg model (format, system and config are wanted)")
    if document["format"] != FORMAT:
        raise CheckpointError(f"{path}: format {document['format']!r}; this version of refseg reads format {FORMAT}")
    document.setdefault("info", {})
    tables = ("config", "info", SUMS)
    if strange := [name for name in tables if not isinstance(document.get(name, {}), dict)]:
        raise CheckpointError(f"{path}: {strange[0]} is a table of fields, not {type(document[strange[0]]).__name__}")
    return document


def check_files(folder: Path, document: Mapping[str, Any], *, tensors: tuple[str, ...] = (WEIGHTS,)) -> None:
    """Compare a model folder's files with the checksums in its config.json; folders of earlier versions have none.

    Of the files of tensors only those named `tensors` are read, since a checkpoint has some that a model does not need.
    Raises `CheckpointError` for a file that is not as it was written.
    """
    for name, wanted in document.get(SUMS, {}).items():
        path = folder / Path(str(name)).name
        if (path.suffix == ".safetensors" and name not in tensors) or not path.is_file():
            continue
        try:
            found = digest(path)
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
        if found != wanted:
            raise CheckpointError(
                f"{path}: damaged or changed, its SHA-256 is not the one in {CONFIG}; get or copy the folder again"
            )


def config_of(folder: Path, document: Mapping[str, Any]) -> ModelConfig:
    from refseg.models import MODELS, config_from_dict

    system = document["system"]
    if system not in MODELS:
        raise CheckpointError(
            f"{folder / CONFIG}: a model of the system {system!r}, which this version does not have; "
            f"it has {', '.join(MODELS)}"
        )
    try:
        return config_from_dict({"system": system, **document["config"]})
    except (ConfigError, RecursionError) as error:
        raise CheckpointError(f"{folder / CONFIG}: {error}") from error
