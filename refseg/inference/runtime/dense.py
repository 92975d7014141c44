"""Any other system by graphs: late fusion as `encode` (a picture) and `answer` (expressions), else `answer` alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from refseg.errors import CheckpointError, RefsegError
from refseg.inference.runtime.graphs import Graph, run
from refseg.types import Batch, Needs, Output, SystemConfig, Targets, TextFeatures, Tokens

__all__ = ["OUTPUTS", "EncodedPictures", "GraphModel", "TokenFeatures"]

OUTPUTS = ("mask_logits", "no_target_logits", "boxes")
"""Fields of `Output` that an answer graph has, those that the system gives, in this order."""


class EncodedPictures(NamedTuple):
    """The arrays that a picture graph gives for N pictures; those of a network without late fusion are its inputs."""

    arrays: Sequence[Tensor]


@dataclass(frozen=True)
class TokenFeatures(TextFeatures):
    """Expressions that the answer graph encodes itself: their tokens."""

    ids: Int[Tensor, "B L"] | None = None

    def select(self, rows: Int[Tensor, " S"]) -> TokenFeatures:
        """The expressions with these numbers, which may repeat."""
        assert self.ids is not None
        return token_features(Tokens(self.ids[rows], self.mask[rows]))


def token_features(tokens: Tokens) -> TokenFeatures:
    """Tokens as what `ReferringModel.encode_text` returns."""
    letters = tokens.ids[..., None].float()
    return TokenFeatures(letters, letters.sum(dim=1), tokens.mask, ids=tokens.ids)


class GraphModel(nn.Module):
    """A `ReferringModel` by graphs; `config` is the exported model's own."""

    def __init__(self, config: SystemConfig, graphs: Mapping[str, Graph]) -> None:
        super().__init__()
        self.config = config
        self.needs: Needs = replace(config.needs, reads_phrases=False)  # a graph has no input for them
        self.late_fusion = "encode" in graphs
        if "answer" not in graphs:
            raise CheckpointError("graphs that are missing: answer")
        self._graphs = dict(graphs)

    def forward(self, batch: Batch) -> Output:
        """The answers to B expressions."""
        if self.late_fusion:
            state = self.encode_image(batch.images, batch.pixel_mask)
            return self.decode(state, self.encode_text(batch.tokens), batch.image_index)
        pictures = EncodedPictures([batch.images, batch.pixel_mask])
        return self.decode(pictures, self.encode_text(batch.tokens), batch.image_index)

    def encode_image(self, images: Float[Tensor, "N 3 H W"], pixel_mask: Bool[Tensor, "N H W"]) -> EncodedPictures:
        """What no expression changes."""
        if not self.late_fusion:
            raise RefsegError("this system reads the expression inside its picture encoder: call it with both")
        graph = self._graphs["encode"]
        inputs = {"images": images, "pixel_mask": pixel_mask}
        return EncodedPictures(run(graph, *(inputs[name] for name in graph.inputs)))

    def encode_text(self, tokens: Tokens) -> TokenFeatures:
        """The tokens: the answer graph encodes them."""
        return token_features(tokens)

    def decode(
        self, state: EncodedPictures, text: TextFeatures, image_index: Int[Tensor, " B"] | None = None
    ) -> Output:
        """The answers to B expressions; `image_index[b]` is the image of expression b, None means one to one."""
        ids = cast(TokenFeatures, text).ids
        if ids is None:
            raise RefsegError("graphs answer what their own encode_text made")
        graph = self._graphs["answer"]
        index = torch.arange(len(ids)) if image_index is None else image_index
        known = {"image_index": index, "ids": ids, "mask": text.mask}
        arrays = iter(state.arrays)
        # An input that the traced network does not need is none of the graph's: arrays go by name.
        named = {f"state{number}": value for number, value in enumerate(arrays)}
        if not self.late_fusion:
            named = {"images": state.arrays[0], "pixel_mask": state.arrays[1]}
        values = {**named, **known}
        found = dict(zip(graph.outputs, run(graph, *(values[name] for name in graph.inputs)), strict=True))
        return Output(found["mask_logits"], found.get("no_target_logits"), found.get("boxes"))

    def losses(self, output: Output, targets: Targets) -> dict[str, Tensor]:
        """Raises `RefsegError`: graphs are not trained."""
        raise RefsegError("an exported model answers and is not trained; train the model that it was exported from")
