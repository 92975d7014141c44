"""Folders of exported models: export.json names the graphs; config.json, tokenizer and the other tensors lie beside.

export.json   {"format": 1, "kind": "instances" or "dense", "graphs": {name: file}, "int8": ..., "parity": ...}
config.json, tokenizer_options.json, ...   as in a model folder
*.onnx, or *.xml with *.bin                the graphs
rest.safetensors                           what is no network: the chooser's weights, the nouns' vectors
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from refseg.encoders.text.tokenizer import Tokenizer, load_tokenizer
from refseg.errors import CheckpointError, RefsegError
from refseg.inference.checkpoint import config_of, read_config
from refseg.inference.runtime.graphs import RUNTIMES, Graph, Runtime, open_graph
from refseg.state_dicts import read_tensors

__all__ = ["FORMAT", "MANIFEST", "REST", "is_exported", "load_exported", "read_manifest"]

FORMAT = 1
MANIFEST, REST = "export.json", "rest.safetensors"


def is_exported(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder holds an exported model."""
    return (Path(folder) / MANIFEST).is_file()


def read_manifest(folder: Path) -> dict[str, Any]:
    """export.json, checked. Raises `CheckpointError` for another format or a damaged file."""
    path = folder / MANIFEST
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: cannot be read: {error}; export the model again") from error
    graphs = found.get("graphs") if isinstance(found, dict) else None
    if not isinstance(graphs, dict) or found.get("kind") not in ("instances", "dense"):
        raise CheckpointError(f"{path}: not what refseg export writes (kind and graphs are wanted)")
    if found.get("format") != FORMAT:
        raise CheckpointError(f"{path}: format {found.get('format')!r}; this version of refseg reads format {FORMAT}")
    for name, file in graphs.items():
        if not isinstance(file, str) or Path(file).name != file:
            raise CheckpointError(f"{path}: graphs.{name}: a file name in the same folder is wanted, not {file!r}")
    return found


def load_exported(
    folder: str | os.PathLike[str], runtime: Runtime | None = None, threads: int | None = None
) -> tuple[nn.Module, Tokenizer, dict[str, Any]]:
    """A model whose networks are graphs, its tokenizer and its info.

    `runtime` None takes the one that the folder was made for. Raises `CheckpointError` where the folder is no exported
    model or damaged, `RefsegError` where the runtime is unknown or not installed.
    """
    folder = Path(folder)
    if runtime is not None and runtime not in RUNTIMES:
        raise RefsegError(f"runtime={runtime!r} is unknown; use torch, {' or '.join(RUNTIMES)}")
    if not is_exported(folder):
        raise CheckpointError(f"{folder}: no exported model; make one: refseg export MODEL -o DIR --to onnx")
    manifest = read_manifest(folder)
    files: dict[str, str] = manifest["graphs"]
    chosen: Runtime = runtime or ("openvino" if any(file.endswith(".xml") for file in files.values()) else RUNTIMES[0])
    document = read_config(folder)
    config = config_of(folder, document)
    graphs = {name: open_graph(folder / file, chosen, threads) for name, file in files.items()}
    return _model_of(manifest["kind"], config, graphs, folder), load_tokenizer(folder), document["info"]


def _model_of(kind: str, config: Any, graphs: Mapping[str, Graph], folder: Path) -> nn.Module:
    if kind == "instances":
        from refseg.inference.runtime.instances import with_graphs

        return with_graphs(config, graphs, read_tensors(folder / REST))
    from refseg.inference.runtime.dense import GraphModel

    return GraphModel(config, graphs)
