"""NanoDet-Plus's published tensors under our names, of the whole detector and of its backbone as an encoder.

They are numbered as the published network computes them (`000.conv.weight`, `000.conv.bias`, `001...`). It reads blue,
green, red; the stem's channels are reversed here, so that ours reads RGB under the same normalisation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from refseg.encoders.vision.nanodet import NanoDet, NanoDetConfig, ShuffleNet, ShuffleNetConfig
from refseg.errors import CheckpointError

__all__ = ["encoder_from_nanodet", "encoder_from_state", "from_nanodet"]


def from_nanodet(state: dict[str, Tensor], config: NanoDetConfig | None = None) -> dict[str, Tensor]:
    """The detector's tensors. Raises `CheckpointError` when the numbers or shapes do not fit."""
    config = config or NanoDetConfig()
    renamed = _renamed(state, list(_execution_order(config)), "backbone.stem")
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in NanoDet(config).state_dict().items()}
    wrong = [name for name, shape in shapes.items() if renamed[name].shape != shape]
    if wrong:
        raise CheckpointError(f"not a NanoDet-Plus of these sizes: {wrong[0]} is {tuple(renamed[wrong[0]].shape)}")
    return renamed


def encoder_from_nanodet(state: dict[str, Tensor], config: ShuffleNetConfig | None = None) -> dict[str, Tensor]:
    """The encoder's tensors; the detector's level of stride 64 is left out. Raises `CheckpointError` when the numbers
    do not fit."""
    config = config or ShuffleNetConfig()
    if config.pyramid is None or config.head is None:
        raise CheckpointError("NanoDet-Plus's weights fit a ShuffleNet with its pyramid and head")
    return _renamed(state, list(_encoder_order(config)), "stem")


def encoder_from_state(state: dict[str, Tensor], encoder: ShuffleNet) -> dict[str, Tensor]:
    """Tensors under our names already, as they are; NanoDet-Plus's through `encoder_from_nanodet`, with its errors."""
    return state if state.keys() == encoder.state_dict().keys() else encoder_from_nanodet(state, encoder.config)


def _renamed(state: dict[str, Tensor], names: Sequence[str | None], stem: str) -> dict[str, Tensor]:
    """The tensors of every convolution that has a name, by the order of `names`."""
    wanted = {f"{number:03d}.conv.{what}" for number in range(len(names)) for what in ("weight", "bias")}
    strange, missing = sorted(state.keys() - wanted), sorted(wanted - state.keys())
    if strange or missing:
        raise CheckpointError(
            "not a NanoDet-Plus in order of execution"
            + (f"; unexplained: {', '.join(strange[:8])}" if strange else "")
            + (f"; missing: {', '.join(missing[:8])}" if missing else "")
        )
    renamed = {
        f"{name}.conv.{what}": state[f"{number:03d}.conv.{what}"].float()
        for number, name in enumerate(names)
        if name is not None
        for what in ("weight", "bias")
    }
    renamed[f"{stem}.conv.weight"] = renamed[f"{stem}.conv.weight"].flip(1)
    return renamed


def _execution_order(config: NanoDetConfig) -> Iterator[str]:
    """Our name of every convolution in the order in which the published network computes them."""
    yield "backbone.stem"
    for stage, depth in enumerate(config.depths):
        first = f"backbone.stages.{stage}.0"
        yield from (f"{first}.{part}" for part in ("short.0", "main.0", "main.1", "short.1", "main.2"))
        for block in range(1, depth):
            yield from (f"backbone.stages.{stage}.{block}.main.{number}" for number in range(3))
    ghost = ("first.0", "first.1", "second.0", "second.1", "short.0", "short.1")
    yield "pyramid.reduce.2"  # the coarsest map is reduced first, the next one when it is wanted
    for number in range(2):
        yield f"pyramid.reduce.{1 - number}"
        yield from (f"pyramid.down.{number}.{part}" for part in ghost)
    for number in range(2):
        yield from (f"pyramid.strided.{number}.{part}" for part in (0, 1))
        yield from (f"pyramid.up.{number}.{part}" for part in ghost)
    yield from (f"pyramid.{name}.{part}" for name in ("extra_in", "extra_out") for part in (0, 1))
    yield from (f"heads.{level}.steps.{part}" for level in range(4) for part in (0, 1))
    for level in (3, 2, 1, 0):
        yield from (f"heads.{level}.{part}" for part in ("steps.2", "steps.3", "output"))


def _encoder_order(config: ShuffleNetConfig) -> Iterator[str | None]:
    """Our name of every convolution in the order in which NanoDet-Plus computes them; None where we have none of it:
    its level of stride 64."""
    yield "stem"
    for stage, depth in enumerate(config.depths):
        first = f"stages.{stage}.0"
        yield from (f"{first}.{part}" for part in ("short.0", "main.0", "main.1", "short.1", "main.2"))
        for block in range(1, depth):
            yield from (f"stages.{stage}.{block}.main.{number}" for number in range(3))
    ghost = ("first.0", "first.1", "second.0", "second.1", "short.0", "short.1")
    # The coarsest map is reduced first, the next one when it is wanted.
    yield "pyramid.reduce.2"
    for number in range(2):
        yield f"pyramid.reduce.{1 - number}"
        yield from (f"pyramid.down.{number}.{part}" for part in ghost)
    for number in range(2):
        yield from (f"pyramid.strided.{number}.{part}" for part in (0, 1))
        yield from (f"pyramid.up.{number}.{part}" for part in ghost)
    yield from [None] * 4
    for level in range(3):
        yield from (f"heads.{level}.steps.{part}" for part in (0, 1))
    yield from [None] * 5
    for level in (2, 1, 0):
        yield from (f"heads.{level}.{part}" for part in ("steps.2", "steps.3", "output"))
