"""How much a model's class seed looks at pixels and at words, layer by layer: ReSTR's table 3a, over a data set.

Kim et al., ReSTR, CVPR 2022, table 3a: the mean over a data set's expressions of the attention that the seed gives to
all visual and to all linguistic features in each layer of the fusion encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from refseg.data.batches import collate
from refseg.data.sample import Sample
from refseg.errors import DataError, RefsegError
from refseg.types import Tokens

__all__ = ["attention_shares"]

NAME = "modalities"
"""Of the map (B, layers, 2) in `Output.attention_maps`."""


@torch.no_grad()
def attention_shares(
    model: nn.Module,
    tokenizer: Callable[[list[str]], Tokens],
    samples: Sequence[Sample],
    batch_size: int = 16,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """A score document: "breakdowns" by "layer" ("layer 1", ...), each with the mean share (0 to 1) of "attention on
    pixels" and "attention on words", and "counts". Expressions whose picture cannot be read are left out.

    Raises `RefsegError` where the model does not tell such shares, and `DataError` where no picture can be read.
    """
    config: Any = model.config
    total: torch.Tensor | None = None
    device = next(model.parameters()).device
    count, left_out = 0, 0
    for start in range(0, len(samples), batch_size):
        chosen = [samples[index] for index in range(start, min(start + batch_size, len(samples)))]
        try:
            batch, _ = collate(chosen, tokenizer, config.input, on_error="skip")
        except DataError:
            left_out += len(chosen)
            continue
        maps = model.eval()(batch.to(device)).attention_maps
        if NAME not in maps:
            system = type(model).__name__
            raise RefsegError(f"{system} does not tell how much pixels and words are looked at; ReSTR does")
        shares = maps[NAME].double().sum(dim=0).cpu()
        total = shares if total is None else total + shares
        count, left_out = count + len(maps[NAME]), left_out + len(chosen) - len(maps[NAME])
        if progress is not None:
            progress(start + len(chosen), len(samples))
    if total is None:
        raise DataError("no picture of the data set can be read")
    layers = (total / count).tolist()
    return {
        "metrics": {},
        "protocol": {"name": "attention"},
        "counts": {"sentences": count, "unreadable": left_out},
        "breakdowns": {
            "layer": {
                f"layer {number}": {"attention on pixels": pixels, "attention on words": words}
                for number, (pixels, words) in enumerate(layers, 1)
            }
        },
    }
