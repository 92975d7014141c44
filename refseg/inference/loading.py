"""`load`: a `Segmenter` of a trained model, by name, folder or hub id."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import torch

from refseg.errors import RefsegError
from refseg.inference import DEFAULT_MODEL
from refseg.inference.device import choose_device
from refseg.inference.locate import PACKAGED, is_detections, locate_model, split_proposals, split_sources
from refseg.inference.segmenter import Segmenter
from refseg.precision import Precision, check_precision, store_in

if TYPE_CHECKING:  # imported by the branches that need them
    from refseg.inference.placement import DeviceMap
    from refseg.inference.proposals import Proposals
    from refseg.inference.runtime.graphs import Runtime
    from refseg.models.foundation.base import FoundationModel

__all__ = ["list_models", "load"]


def load(
    model: str | os.PathLike[str] = DEFAULT_MODEL,
    device: str | torch.device = "auto",
    precision: Precision = "float32",
    runtime: Runtime | Literal["torch"] | None = None,
    proposals: Proposals | None = None,
    device_map: DeviceMap | None = None,
    compile: bool | str = False,
) -> Segmenter:
    """A `Segmenter` from a model folder, the name of packaged weights (`list_models()`), or a hub id ("owner/name", or
    "owner/name@revision" with a branch, tag or commit).

    `device` is "auto" (a CUDA GPU, else Apple's, else the CPU), "cpu", "cuda", "cuda:1" or "mps". `runtime` says what
    runs the networks of a folder that `refseg export` wrote: "onnxruntime" or "openvino", on the CPU in float32; None
    takes the one that the folder was made for, torch for other folders. `proposals` has the system `instances` choose
    among another model's instances ("facebook/sam3"), or those of a .json file of detections
    (`refseg.inference.detections`); the name "instances@facebook/sam3" says the same.

    Networks of transformers, whether they answer or propose, also take `device_map`, which lays their parts on several
    devices in place of `device` ("auto", or a table; `refseg.inference.placement`), and `compile`: True, or the name of
    a backend of torch.compile.

    Raises `RefsegError` when the device, the runtime or the compiler is not there, or the model does not choose among
    instances, `CheckpointError` when the model is not there, or its files are damaged.
    """
    from refseg.inference.checkpoint import load_model
    from refseg.inference.runtime.exported import is_exported, load_exported

    chosen = choose_device(device)  # before the weights are read: a wrong name should not cost that time
    model, named = split_proposals(model)
    if named is not None and proposals is not None:
        raise RefsegError(f"proposals: {model}@{named} names its own already; leave one of them")
    proposals = proposals if named is None else named
    if device_map is not None:
        from refseg.inference.placement import check_device_map

        check_device_map(device_map)
        if device != "auto":
            raise RefsegError(f"device {str(device)!r}: a device_map says where the parts go; leave one of them")
    alone = len(split_sources(model)) == 1
    if runtime not in (None, "torch") or (runtime is None and alone and is_exported(locate_model(model))):
        if device != "auto" and chosen.type != "cpu":
            raise RefsegError(f"device {str(device)!r}: exported models run on the CPU; use 'cpu' or 'auto'")
        if precision != "float32":
            raise RefsegError(f"precision {precision!r}: exported models compute in float32")
        if proposals is not None:
            raise RefsegError("proposals: exported models have their own detector; give the folder that was exported")
        if device_map is not None or compile:
            raise RefsegError("device_map and compile are for networks of transformers, not for exported models")
        kind = cast("Runtime | None", runtime)
        return Segmenter(*load_exported(locate_model(model), kind), device="cpu")
    if proposals is None:
        network, tokenizer, info = load_model(model, device_map=device_map)
        store_in(network, check_precision(precision))
        chosen = chosen if device_map is None else cast("FoundationModel", network).device
        segmenter = Segmenter(network, tokenizer, info, device=chosen, precision=precision)
        if compile:
            from refseg.inference.placement import compile_networks

            compile_networks(segmenter.model, "inductor" if compile is True else compile)
        return segmenter
    from refseg.inference.proposals import over_proposals

    network, tokenizer, info = load_model(model)
    store_in(network, check_precision(precision))
    if isinstance(proposals, (str, os.PathLike)) and not is_detections(proposals):
        other = load(proposals, device, precision, device_map=device_map, compile=compile)
        chosen, proposals = other.device, cast(Any, other.model)
    elif device_map is not None or compile:
        raise RefsegError("device_map and compile are for networks of transformers, not for given proposals")
    found = Path(proposals) if isinstance(proposals, (str, os.PathLike)) else proposals
    return Segmenter(over_proposals(network, found), tokenizer, info, device=chosen, precision=precision)


def list_models() -> list[str]:
    """The names of the weights that come with the package, each of which `load` takes."""
    return sorted(path.parent.name for path in PACKAGED.glob("*/config.json"))
