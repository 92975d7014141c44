"""The three modules (section 3.2) and the function that compares a region with a phrase.

    F(v, q) = <MLP(v) / |MLP(v)|, MLP(q) / |MLP(q)|>                       two layers with ReLU each

    subject       A = ReLU(W_a [C3, C4])            attribute blob, every cell; its mean tells the attributes   eq. (5)
                  a = softmax(w . tanh(W_v V + W_q q)) over the cells of V = [C4, A]                            eq. (6)
                  S = F(sum_g a_g V_g, q)                                                                       eq. (7)
    location      S = F(W_l [l_i ; dl_ij of the nearest of the same class] + b, q)                              eq. (8)
    relationship  S = max_j F(W_r [mean C4 of j ; dm_ij] + b, q)     over the things around                     eq. (9)

What of this no expression changes is computed once a region: blob, W_v V, both locations and contexts with their MLPs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from refseg.models.mattnet.config import MAttNetConfig

__all__ = [
    "LocationModule",
    "RelationshipModule",
    "Scale",
    "SubjectFeatures",
    "SubjectModule",
    "compare",
    "embedding_mlp",
]


class Scale(nn.Module):
    """Vectors of length 1, times a learnt factor for each channel; the identity where the factor would start at 0."""

    def __init__(self, channels: int, start: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), start)) if start else None

    def forward(self, vectors: Float[Tensor, "*n C"]) -> Float[Tensor, "*n C"]:
        """Along the last axis."""
        return vectors if self.weight is None else F.normalize(vectors, dim=-1) * self.weight


class RowNorm(nn.BatchNorm1d):
    """Batch normalisation over all axes but the last; a single row is normalised by what earlier ones left."""

    def forward(self, vectors: Float[Tensor, "*n C"]) -> Float[Tensor, "*n C"]:
        """The same shape."""
        rows = vectors.reshape(-1, vectors.shape[-1])
        if len(rows) == 0:
            return vectors
        if self.training and len(rows) == 1:
            found = F.batch_norm(
                rows, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
            )
        else:
            found = super().forward(rows)
        return found.view(vectors.shape)


def embedding_mlp(inputs: int, config: MAttNetConfig) -> nn.Sequential:
    """Two linear layers into the space of comparison: linear, (norm), ReLU, dropout, linear, (norm)."""
    width = config.embed_dim

    def norm() -> nn.Module:
        return RowNorm(width) if config.batch_norm else nn.Identity()

    return nn.Sequential(
        nn.Linear(inputs, width),
        norm(),
        nn.ReLU(),
        nn.Dropout(config.matching_dropout),
        nn.Linear(width, width),
        norm(),
    )


def compare(regions: Float[Tensor, "*#n E"], phrases: Float[Tensor, "*#n E"]) -> Float[Tensor, "*#n"]:
    """The cosine of the angle between embedded regions and phrases, -1 to 1."""
    return (F.normalize(regions, dim=-1) * F.normalize(phrases, dim=-1)).sum(dim=-1)


@dataclass(frozen=True)
class SubjectFeatures:
    """What the subject module knows of K regions before any expression: V, W_v V, and the logits of T attributes."""

    cells: Float[Tensor, "K G V"]
    projected: Float[Tensor, "K G E"] | None
    attributes: Float[Tensor, "K T"] | None


class SubjectModule(nn.Module):
    """Section 3.2.1, of regions whose cells have `low` (C3) and `high` (C4) channels, and phrases of `phrase` ones."""

    def __init__(self, config: MAttNetConfig, low: int, high: int, phrase: int) -> None:
        super().__init__()
        width, start = config.embed_dim, config.feature_norm
        self.high_scale = Scale(high, start)
        self.low_scale = self.blob = self.blob_scale = self.tell = None
        channels = high
        if config.subject_attributes:
            channels += width
            self.low_scale, self.blob_scale = Scale(low, start), Scale(width, start)
            norm = RowNorm(width) if config.batch_norm else nn.Identity()
            self.blob = nn.Sequential(nn.Linear(low + high, width), norm, nn.ReLU())
            if config.attributes:
                self.tell = nn.Sequential(
                    nn.Dropout(config.attribute_dropout), nn.Linear(width, len(config.attributes))
                )
        self.phrase_scale = self.project_cells = self.project_phrase = self.score = None
        if config.subject_attention:
            self.phrase_scale = Scale(phrase, start)
            self.project_cells = nn.Linear(channels, width, bias=False)
            self.project_phrase = nn.Linear(phrase, width)
            self.score = nn.Linear(width, 1)
        self.channels = channels
        self.embed = embedding_mlp(channels, config) if config.modular else None
        self.embed_phrase = embedding_mlp(phrase, config) if config.modular else None

    def describe(self, low: Float[Tensor, "K G _"], high: Float[Tensor, "K G _"]) -> SubjectFeatures:
        """What no expression changes, from the cells of K regions."""
        cells = self.high_scale(high)
        attributes = None
        if self.blob is not None and self.low_scale is not None and self.blob_scale is not None:
            blob = self.blob(torch.cat([self.low_scale(low), cells], dim=-1))
            attributes = None if self.tell is None else self.tell(blob.mean(dim=1))
            cells = torch.cat([cells, self.blob_scale(blob)], dim=-1)
        projected = None if self.project_cells is None else self.project_cells(cells)
        return SubjectFeatures(cells, projected, attributes)

    def attend(
        self, regions: SubjectFeatures, phrases: Float[Tensor, "B E"]
    ) -> tuple[Float[Tensor, "B K V"], Float[Tensor, "B K G"]]:
        """Attended features of K regions for B phrases, and the attention over cells (rows sum to 1)."""
        count, cells, _ = regions.cells.shape
        if regions.projected is None or self.project_phrase is None or self.phrase_scale is None or self.score is None:
            even = regions.cells.new_full((len(phrases), count, cells), 1 / cells)
            return regions.cells.mean(dim=1).expand(len(phrases), -1, -1), even
        asked = self.project_phrase(self.phrase_scale(phrases))
        hidden = (regions.projected[None] + asked[:, None, None]).tanh()
        attention = self.score(hidden)[..., 0].softmax(dim=-1)
        return torch.einsum("bkg,kgv->bkv", attention, regions.cells), attention


class LocationModule(nn.Module):
    """Section 3.2.2: where a region lies, and where the nearest of its class lie from it."""

    def __init__(self, config: MAttNetConfig, phrase: int) -> None:
        super().__init__()
        self.place_scale = Scale(5, config.feature_norm)
        others = 5 * config.neighbors if config.location_differences else 0
        self.offset_scale = Scale(others, config.feature_norm) if others else None
        self.fuse = nn.Linear(5 + others, config.embed_dim)
        self.embed = embedding_mlp(config.embed_dim, config) if config.modular else None
        self.embed_phrase = embedding_mlp(phrase, config) if config.modular else None

    def describe(self, places: Float[Tensor, "K 5"], offsets: Float[Tensor, "K J 5"]) -> Float[Tensor, "K E"]:
        """Embedded location features, ready to be compared; of the baseline the features themselves."""
        parts = [self.place_scale(places)]
        if self.offset_scale is not None:
            parts.append(self.offset_scale(offsets.flatten(1)))
        features = self.fuse(torch.cat(parts, dim=-1))
        return features if self.embed is None else self.embed(features)


class RelationshipModule(nn.Module):
    """Section 3.2.3: the things around a region, the best of which counts."""

    def __init__(self, config: MAttNetConfig, high: int, phrase: int) -> None:
        super().__init__()
        self.feature_scale, self.offset_scale = Scale(high, config.feature_norm), Scale(5, config.feature_norm)
        self.fuse = nn.Linear(high + 5, config.embed_dim)
        self.embed = embedding_mlp(config.embed_dim, config)
        self.embed_phrase = embedding_mlp(phrase, config)
        self.padded = config.padded_context

    def describe(self, features: Float[Tensor, "K J _"], offsets: Float[Tensor, "K J 5"]) -> Float[Tensor, "K J E"]:
        """Embedded context things, ready to be compared."""
        return self.embed(self.fuse(torch.cat([self.feature_scale(features), self.offset_scale(offsets)], dim=-1)))

    def scores(
        self, contexts: Float[Tensor, "K J E"], real: Bool[Tensor, "K J"], phrases: Float[Tensor, "B E"]
    ) -> tuple[Float[Tensor, "B K"], Bool[Tensor, "B K J"]]:
        """The score of every region for embedded phrases, and which of its context things decided it (none where it has
        none: its score is then 0)."""
        each = compare(contexts[None], phrases[:, None, None])
        missing = 0.0 if self.padded else -torch.inf
        # A region without anything around it scores 0 in either way.
        each = each.masked_fill(~real, missing).masked_fill(~real.any(dim=1, keepdim=True), 0.0)
        best = each.max(dim=-1)
        chosen = F.one_hot(best.indices, contexts.shape[1]).bool() & real
        return best.values, chosen
