"""Names of transformers' Swin and ViT blocks (in files on the hub and in version 5) under ours."""

from __future__ import annotations

import torch
from torch import Tensor

from refseg.errors import CheckpointError

_PARTS = {
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    "attention.output.dense": "attn.proj",
    "attention.o_proj": "attn.proj",
    "intermediate.dense": "mlp.fc1",
    "mlp.fc1": "mlp.fc1",
    "output.dense": "mlp.fc2",
    "mlp.fc2": "mlp.fc2",
}
_PROJECTIONS = {"query": "query", "key": "key", "value": "value", "q_proj": "query", "k_proj": "key", "v_proj": "value"}


class BlockNames:
    """Collects the tensors of blocks: those with one counterpart at once, queries, keys and values until all three are
    there."""

    def __init__(self) -> None:
        self.renamed: dict[str, Tensor] = {}
        self._projections: dict[str, dict[str, Tensor]] = {}

    def take(self, block: str, inner: str, value: Tensor) -> bool:
        """Put the tensor called `inner` ("attention.o_proj.weight") into our `block`; False where it is of no block."""
        part, _, kind = inner.rpartition(".")
        if part in _PARTS:
            self.renamed[f"{block}.{_PARTS[part]}.{kind}"] = value
            return True
        projection = _PROJECTIONS.get(part.rpartition(".")[2])
        if projection is None or not part.startswith("attention."):
            return False
        self._projections.setdefault(f"{block}.attn.qkv.{kind}", {})[projection] = value
        return True

    def finish(self) -> dict[str, Tensor]:
        """All tensors, queries, keys and values stacked. Raises `CheckpointError` where one of the three is missing."""
        for name, parts in self._projections.items():
            if len(parts) != 3:
                raise CheckpointError(f"{name}: query, key and value are wanted, only {sorted(parts)} are there")
            self.renamed[name] = torch.cat([parts["query"], parts["key"], parts["value"]])
        return self.renamed
