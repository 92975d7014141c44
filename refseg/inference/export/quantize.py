"""Graphs in eight bits: convolutions and matrix products in integers, with ranges measured on example inputs."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from refseg.errors import RefsegError

__all__ = ["quantize_graph"]

Feeds = Sequence[Mapping[str, NDArray[np.generic]]]


def quantize_graph(path: Path, feeds: Feeds, excluded: Sequence[str] = ()) -> None:
    """Replace a float ONNX file by one in eight bits.

    Weights get a scale for every output channel, activations one range a tensor: the least and the greatest value that
    `feeds` (inputs by name) show. `excluded` are names of nodes that stay in float32. Raises `RefsegError` without
    feeds.
    """
    if not feeds:
        raise RefsegError("int8 needs example pictures to measure ranges on")
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.feeds: Iterator[Mapping[str, NDArray[np.generic]]] = iter(feeds)

        def get_next(self) -> dict[str, NDArray[np.generic]] | None:
            found = next(self.feeds, None)
            return None if found is None else dict(found)

    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it writes hints on the root logger
    try:
        with TemporaryDirectory() as folder:
            prepared = Path(folder) / "prepared.onnx"
            quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
            quantize_static(
                str(prepared),
                str(path),
                Reader(),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=["Conv", "MatMul", "Gemm"],
                per_channel=True,
                reduce_range=False,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=list(excluded),
                extra_options={"CalibMovingAverage": True},
            )
    finally:
        root.setLevel(level)
