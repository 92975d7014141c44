"""Networks of transformers from a folder or the hub, with the adapter that asks them (`refseg.models.foundation`).

>>> refseg.load("IDEA-Research/grounding-dino-tiny+facebook/sam2.1-hiera-small")("photo.jpg", "the zebra")

`model_type` in config.json decides. Weights are read from safetensors alone, and no code of a repository is run. What
calibration finds is stored in a small model folder that names the networks: {"system": "foundation", "config":
{"sources": [...], ...}, "info": {...}}.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from refseg import __version__
from refseg.config import from_dict, to_dict
from refseg.encoders.text.tokenizer import ByteTokenizer
from refseg.errors import CheckpointError, ConfigError, RefsegError
from refseg.files import replacing_folder, write_text
from refseg.inference.locate import (
    CONFIG,
    MODEL_TYPE,
    WEIGHTS,
    full_name,
    locate_config,
    locate_model,
    split_sources,
)
from refseg.inference.placement import DEVICE_MAPS, DeviceMap
from refseg.models.foundation.base import BYTES, FoundationModel
from refseg.models.foundation.config import FoundationConfig
from refseg.models.foundation.families import Family, family_of, supported
from refseg.models.foundation.placing import Warp
from refseg.state_dicts import listed

__all__ = [
    "SYSTEM",
    "NetworkSize",
    "foundation_sources",
    "holds_networks",
    "is_foundation",
    "load_foundation",
    "measure",
    "save_foundation",
]

SYSTEM = "foundation"
"""`system` of a folder that names networks and holds none."""
_SMALLER = "take a smaller model, more devices, or the CPU alone"
SETTINGS = ("preprocessor_config.json", "processor_config.json")


def is_foundation(document: Mapping[str, Any]) -> bool:
    """Whether a config.json is of a network of transformers, or of a folder that names some."""
    if document.get("system") is not None:
        return document["system"] == SYSTEM
    return "model_type" in document and document["model_type"] != MODEL_TYPE


def foundation_sources(name: str | os.PathLike[str]) -> tuple[str, ...]:
    """The parts of a name that is of networks of transformers, located; none where it is another model's.

    Raises `CheckpointError` where a part is not to be had.
    """
    sources = split_sources(name)
    try:
        found = [_read(locate_model(source)) for source in sources]
    except CheckpointError:
        if len(sources) > 1 or not (locate_model(sources[0]) / CONFIG).is_file():
            raise
        return ()  # what is wrong with it is told by whoever reads it
    return sources if len(sources) > 1 or is_foundation(found[0]) else ()


def holds_networks(name: str | os.PathLike[str]) -> bool:
    """Whether a name is of transformers' own weights, rather than of a folder of this package that may name some."""
    sources = foundation_sources(name)
    return bool(sources) and (len(sources) > 1 or _read(locate_model(sources[0])).get("system") != SYSTEM)


def load_foundation(
    *sources: str, device_map: DeviceMap | None = None
) -> tuple[FoundationModel, ByteTokenizer, dict[str, Any]]:
    """The model (in eval mode, float32), its tokenizer and its info, of one name or of a detector's and a segmenter's.

    `device_map` (`refseg.inference.placement`) is for each of them; a table of parts is for one network alone.

    Raises `CheckpointError` for families that are not supported, missing and damaged files.
    """
    info: dict[str, Any] = {}
    config: FoundationConfig | None = None
    folders = [locate_model(source) for source in sources]
    if len(sources) == 1:
        document = _read(folders[0])
        if document.get("system") == SYSTEM:
            config, info = _stored(folders[0], document), dict(document.get("info") or {})
            sources, folders = config.sources, [locate_model(source) for source in config.sources]
    family, kind = _family(folders[0])
    behind = [_family(folder) for folder in folders[1:]]
    _check_roles(sources, family, behind)
    if config is None:
        named = tuple(full_name(source) for source in sources)
        config = replace(FoundationConfig(**family.settings), sources=named, family=kind)
    if len(folders) > 1 and not isinstance(device_map, str | None):
        raise RefsegError(f"device_map: a table of parts is for one network; of two, take {', '.join(DEVICE_MAPS)}")
    segmenter: nn.Module | None = None
    for folder, (masks, masks_kind) in zip(folders[1:], behind, strict=True):
        segmenter = masks.load_adapter()(_network(folder, masks, masks_kind, device_map), _processor(folder, masks))
    network = _network(folders[0], family, kind, device_map)
    adapter, processor = family.load_adapter(), _processor(folders[0], family)
    model = cast(FoundationModel, adapter(config, network, processor, _tokenizer(folders[0]), segmenter))
    return model.eval(), BYTES, info


def save_foundation(folder: Path, model: FoundationModel, info: Mapping[str, Any]) -> Path:
    """Write a folder that names the networks of `model`, its settings and `info`; the weights stay where they are."""
    document = {
        "format": 1,
        "refseg": __version__,
        "system": SYSTEM,
        "config": to_dict(model.config),
        "info": dict(info),
        "model_type": MODEL_TYPE,
    }
    with replacing_folder(folder) as temporary:
        write_text(temporary / CONFIG, json.dumps(document, indent=1) + "\n")
    return folder


@dataclass(frozen=True)
class NetworkSize:
    """What a network takes, by its configuration alone."""

    source: str
    family: str
    parts: dict[str, int]
    """Parameters of its parts."""

    @property
    def parameters(self) -> int:
        """Of all parts."""
        return sum(self.parts.values())


def measure(name: str) -> list[NetworkSize]:
    """The sizes of the networks of a name, of which nothing but config.json is read or downloaded."""
    sources = split_sources(name)
    folders = [locate_config(source) for source in sources]
    document = _read(folders[0])
    if document.get("system") == SYSTEM:
        sources = _stored(folders[0], document).sources
        folders = [locate_config(source) for source in sources]
    sizes = []
    for source, folder in zip(sources, folders, strict=True):
        family, kind = _family(folder)
        cls: Any = family.load_network(kind)
        with _quiet(), _reading(folder), torch.device("meta"):
            network = cls(cls.config_class.from_pretrained(folder, local_files_only=True))
        seen: set[int] = set()
        parts: dict[str, int] = {}
        for part, values in network.named_parameters():
            if id(values) not in seen:
                seen.add(id(values))
                top = ".".join(part.split(".")[: 2 if part.startswith("model.") else 1])
                parts[top] = parts.get(top, 0) + values.numel()
        sizes.append(NetworkSize(source, kind, parts))
    return sizes


def _stored(folder: Path, document: Mapping[str, Any]) -> FoundationConfig:
    try:
        config = from_dict(FoundationConfig, document["config"])
    except (ConfigError, KeyError) as error:
        raise CheckpointError(f"{folder / CONFIG}: {error}") from error
    if not config.sources:
        raise CheckpointError(f"{folder / CONFIG}: config.sources names no network")
    return config


def _read(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); a model folder holds {CONFIG}") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(document, dict):
        raise CheckpointError(f"{path}: a table of fields is wanted, not {type(document).__name__}")
    return document


def _family(folder: Path) -> tuple[Family, str]:
    """The family of a folder's network, and its `model_type`."""
    document = _read(folder)
    kind = document.get("model_type")
    family = family_of(kind)
    if family is None:
        raise CheckpointError(
            f"{folder / CONFIG}: a model of the type {kind!r}, which refseg cannot ask; it asks {supported()}"
        )
    if kind == "florence2" and document.get("vision_config", {}).get("model_type") == "davit":
        raise CheckpointError(
            f"{folder / CONFIG}: written for its authors' own code, which is not run here; take the same weights in "
            "transformers' form: florence-community/Florence-2-base-ft"
        )
    return family, str(kind)


def _check_roles(sources: tuple[str, ...], family: Family, behind: list[tuple[Family, str]]) -> None:
    if family.segmenter:
        raise RefsegError(
            f"{sources[0]}: {family.name} makes masks of boxes and reads no text; put a detector before it, such as "
            f"IDEA-Research/grounding-dino-tiny+{sources[0]}"
        )
    for source, (other, _) in zip(sources[1:], behind, strict=True):
        if not other.segmenter:
            raise RefsegError(f"{source}: {other.name} makes no masks of boxes; behind the + stands a SAM")
        if "boxes" not in family.says:
            said = " and ".join(family.says[:1])
            raise RefsegError(f"{sources[0]}: {family.name} gives {said}, no boxes for {source}; use it alone")


def _network(folder: Path, family: Family, kind: str, device_map: DeviceMap | None) -> nn.Module:
    """The network with its weights, all of which must be there."""
    cls: Any = family.load_network(kind)
    _check_weights(folder)
    # A table may be changed in there.
    placed = (
        {} if device_map is None else {"device_map": device_map if isinstance(device_map, str) else dict(device_map)}
    )
    with _quiet(), _reading(folder):
        network, report = cls.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True, dtype=torch.float32, **placed
        )
    if missing := sorted(report["missing_keys"]):
        raise CheckpointError(f"{folder}: weights that the network needs are missing: {listed(missing)}")
    if away := sorted(part for part, device in getattr(network, "hf_device_map", {}).items() if device == "disk"):
        # accelerate fetches such parts around a call of the whole network; adapters call its parts, to encode once.
        raise RefsegError(f"{folder}: device_map leaves {listed(away)} on the disk, which is not done here; {_SMALLER}")
    if any(value.is_meta for value in network.parameters()):
        raise RefsegError(f"{folder}: device_map leaves parts on the CPU behind a GPU, not done here; {_SMALLER}")
    return network


def _check_weights(folder: Path) -> None:
    """Raises `CheckpointError` that names the files of weights that are missing."""
    index = folder / f"{WEIGHTS}.index.json"
    names = {WEIGHTS}
    if index.is_file():
        try:
            names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (OSError, ValueError, KeyError, AttributeError, RecursionError) as error:
            raise CheckpointError(f"{index}: cannot be read: {error}") from error
    missing = sorted(name for name in names if not (folder / name).is_file())
    if missing:
        hint = " (weights as pickles, .bin or .pt, are not opened)" if not index.is_file() else ""
        raise CheckpointError(f"{folder}: {listed(missing)} is missing{hint}; download the model again")


def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    with _quiet(), _reading(folder):
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def _processor(folder: Path, family: Family) -> Any:
    """transformers' processor on PIL, or ours where theirs needs torchvision."""
    if family.square is not None:
        return Warp.of(_settings(folder), _side(_read(folder)), *family.square)
    from transformers import AutoImageProcessor

    with _quiet(), _reading(folder):
        return AutoImageProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=False, backend="pil")


def _settings(folder: Path) -> Mapping[str, Any]:
    for name in SETTINGS:
        if (folder / name).is_file():
            found = json.loads((folder / name).read_text(encoding="utf-8"))
            return dict(found.get("image_processor", found))
    return {}


def _side(document: Mapping[str, Any]) -> int:
    """The side of a SAM's input: in its prompt encoder (SAM 2) or its backbone (SAM 3); the published ones else."""
    document = document.get("detector_config") or document
    prompts = document.get("prompt_encoder_config") or {}
    if isinstance(size := prompts.get("image_size"), int):
        return size
    backbone = (document.get("vision_config") or {}).get("backbone_config") or {}
    size = backbone.get("image_size")
    if isinstance(size, list):
        size = size[0]
    return size if isinstance(size, int) else (1008 if "detr_encoder_config" in document else 1024)


@contextmanager
def _reading(folder: Path) -> Iterator[None]:
    """What transformers raises for files that are missing or damaged, as one line."""
    from safetensors import SafetensorError

    try:
        yield
    except RefsegError:
        raise
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError, ImportError) as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise CheckpointError(f"{folder}: cannot be read by transformers: {reason}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' progress bars and its warnings, which are about its own API: what matters is raised."""
    from transformers.utils import logging

    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()
