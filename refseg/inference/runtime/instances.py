"""The system `instances` with exchanged networks: parsing and choosing stay, detector, masks and MiniLM are graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from refseg.encoders.text.minilm import MiniLMConfig
from refseg.errors import CheckpointError
from refseg.inference.runtime.graphs import Graph, run
from refseg.models.instances.config import DetectorConfig, InstancesConfig
from refseg.models.instances.masks import InstanceMasks, MaskDecoderConfig
from refseg.models.instances.model import Instances, build_instances
from refseg.models.instances.proposals import Detections, Proposer
from refseg.models.instances.types import FEATURE_DIM, MASK_SIZE
from refseg.models.instances.words import Lexicon
from refseg.types import TextFeatures, Tokens

__all__ = ["with_graphs"]


def with_graphs(config: InstancesConfig, graphs: Mapping[str, Graph], rest: Mapping[str, Tensor]) -> Instances:
    """The model whose networks are `detector`, `regions`, `masks` and (with a language model) `words`.

    `rest` holds the tensors of everything else by the names of the model's state: the chooser's weights and the
    anchors. Raises `CheckpointError` where a graph or a tensor is missing.
    """
    wanted = {"detector", "regions", "masks"} | ({"words"} if config.text is not None else set())
    if wanted - graphs.keys():
        raise CheckpointError(f"graphs that are missing: {', '.join(sorted(wanted - graphs.keys()))}")
    with torch.device("meta"):
        model = build_instances(config)
    model.proposer = GraphProposer(config.detector, graphs)
    if config.text is not None:
        model.text = GraphWords(config.text, graphs["words"])  # type: ignore[assignment]
        means = model.chooser.means
        assert isinstance(means, Lexicon)
        means.encoder = model.text
    names = set(model.state_dict())
    if names != rest.keys():
        different = ", ".join(sorted(names ^ rest.keys())[:8])
        raise CheckpointError(f"the tensors beside the graphs are not those of this configuration: {different}")
    try:
        model.load_state_dict(dict(rest), assign=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(f"exported by another version of refseg: {reason}; export the model again") from error
    model.chooser.weights.requires_grad_(False)
    return model


class GraphProposer(Proposer):
    """A `Proposer` whose three networks are graphs."""

    def __init__(self, config: DetectorConfig, graphs: Mapping[str, Graph]) -> None:
        nn.Module.__init__(self)  # the networks of a Proposer are not wanted
        self.config = config
        self.fine_masks = GraphMasks(config.masks, graphs["masks"])
        self._detector, self._regions = graphs["detector"], graphs["regions"]

    def detect(self, images: Float[Tensor, "N 3 S S"]) -> Detections:
        """As `Proposer.detect`."""
        *pyramid, prototypes, boxes, logits, second_boxes, second_logits = run(self._detector, images)
        return Detections(pyramid, prototypes, boxes, logits, second_boxes, second_logits)

    def describe(
        self,
        pyramid: Sequence[Float[Tensor, "C _ _"]],
        prototypes: Float[Tensor, "P h w"],
        boxes: Float[Tensor, "K 4"],
    ) -> tuple[Float[Tensor, "K D"], Float[Tensor, "K M M"]]:
        """As `Proposer.describe`."""
        if not len(boxes):
            return boxes.new_zeros(0, FEATURE_DIM), boxes.new_zeros(0, MASK_SIZE, MASK_SIZE)
        features, masks = run(self._regions, *pyramid, prototypes, boxes)
        return features, masks


class GraphMasks(InstanceMasks):
    """`InstanceMasks` by a graph."""

    def __init__(self, config: MaskDecoderConfig, graph: Graph) -> None:
        nn.Module.__init__(self)
        self.config = config
        self._graph = graph

    def forward(self, crops: UInt8[Tensor, "N S S 3"]) -> tuple[Float[Tensor, "N S S"], Float[Tensor, "N s s"]]:
        """As `InstanceMasks.forward`."""
        full, rough = run(self._graph, crops)
        return full, rough


class GraphWords(nn.Module):
    """MiniLM by a graph."""

    def __init__(self, config: MiniLMConfig, graph: Graph) -> None:
        super().__init__()
        self.config = config
        self.width = config.hidden_dim
        self._graph = graph

    def forward(self, tokens: Tokens) -> TextFeatures:
        """As `MiniLM.forward`."""
        words, sentence = run(self._graph, tokens.ids, tokens.mask)
        return TextFeatures(words, sentence, tokens.mask)
