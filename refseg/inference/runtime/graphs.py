"""One exported graph, run by ONNX Runtime or by OpenVINO: named arrays in, named arrays out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from refseg.errors import CheckpointError, RefsegError

if TYPE_CHECKING:
    import onnxruntime
    import openvino

__all__ = ["RUNTIMES", "Graph", "Runtime", "open_graph", "run"]

Runtime: TypeAlias = Literal["onnxruntime", "openvino"]
RUNTIMES: tuple[Runtime, ...] = ("onnxruntime", "openvino")
Arrays: TypeAlias = Mapping[str, NDArray[np.generic]]


@runtime_checkable
class Graph(Protocol):
    """A graph ready to run; `inputs` and `outputs` are its names in order."""

    inputs: Sequence[str]
    outputs: Sequence[str]

    def __call__(self, arrays: Arrays, /) -> dict[str, NDArray[np.generic]]:
        """The outputs by name. Raises `RefsegError` where the runtime refuses the inputs."""
        ...


def open_graph(path: Path, runtime: Runtime, threads: int | None = None) -> Graph:
    """The graph of a file: .onnx (both runtimes) or .xml with .bin beside it (OpenVINO).

    `threads` is the number of CPU threads; None takes torch's. Raises `RefsegError` where the runtime is not installed,
    `CheckpointError` where the file is missing, damaged or of the other runtime.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; export the model again")
    if runtime == "onnxruntime" and path.suffix != ".onnx":
        raise CheckpointError(f"{path}: ONNX Runtime reads .onnx; load it with runtime='openvino'")
    wanted = threads or torch.get_num_threads()
    return OnnxGraph(path, wanted) if runtime == "onnxruntime" else OpenVinoGraph(path, wanted)


def run(graph: Graph, *values: Tensor) -> list[Tensor]:
    """A graph's outputs in order for its inputs in order; the tensors are the caller's own."""
    arrays = {name: value.detach().numpy(force=True) for name, value in zip(graph.inputs, values, strict=True)}
    found = graph(arrays)
    return [torch.from_numpy(np.array(found[name])) for name in graph.outputs]


class OnnxGraph:
    """A graph in ONNX Runtime, on the CPU."""

    def __init__(self, path: Path, threads: int) -> None:
        onnxruntime = _imported("onnxruntime", "onnx")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        try:
            self.session: onnxruntime.InferenceSession = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # exceptions of its own C++ classes, by kind of fault
            raise CheckpointError(f"{path}: ONNX Runtime cannot read it ({_first_line(error)})") from error
        self.path = path
        self.inputs: Sequence[str] = [each.name for each in self.session.get_inputs()]
        self.outputs: Sequence[str] = [each.name for each in self.session.get_outputs()]

    def __call__(self, arrays: Arrays, /) -> dict[str, NDArray[np.generic]]:
        """The outputs by name."""
        try:
            found = self.session.run(self.outputs, dict(arrays))
        except Exception as error:
            raise RefsegError(f"{self.path}: {_first_line(error)}") from error
        return dict(zip(self.outputs, found, strict=True))


class OpenVinoGraph:
    """A graph in OpenVINO, on the CPU, in float32."""

    def __init__(self, path: Path, threads: int) -> None:
        openvino = _imported("openvino", "openvino")
        settings = {
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "f32",  # some CPUs would compute in bfloat16 otherwise
            "PERFORMANCE_HINT": "LATENCY",
        }
        try:
            self.compiled: openvino.CompiledModel = openvino.Core().compile_model(str(path), "CPU", settings)
        except Exception as error:
            raise CheckpointError(f"{path}: OpenVINO cannot read it ({_first_line(error)})") from error
        self.path = path
        self.inputs: Sequence[str] = [each.get_any_name() for each in self.compiled.inputs]
        self.outputs: Sequence[str] = [each.get_any_name() for each in self.compiled.outputs]

    def __call__(self, arrays: Arrays, /) -> dict[str, NDArray[np.generic]]:
        """The outputs by name."""
        try:
            found = self.compiled(dict(arrays))
        except Exception as error:
            raise RefsegError(f"{self.path}: {_first_line(error)}") from error
        return {name: found[name] for name in self.outputs}


def _imported(package: str, extra: str):  # type: ignore[no-untyped-def]
    from importlib import import_module

    try:
        return import_module(package)
    except ImportError as error:
        raise RefsegError(f"{package} is not installed: pip install 'refseg[{extra}]'") from error


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else type(error).__name__
