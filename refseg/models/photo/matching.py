"""How well regions and pixels fit an expression's concepts: features of regions, and two heads that read them.

Shares of the expression in concepts times probabilities of the concepts at stride 8 are a similarity at every place;
what is computed here is relative to where in the image the similarity is high.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from refseg.nn.conv import masks_of

__all__ = [
    "FEATURES",
    "BestRegion",
    "DynamicMaskHead",
    "class_features",
    "color_features",
    "rank_features",
    "region_features",
]


FEATURES = 15
"""Of `region_features`: 6 of `class_features`, 3 of `color_features`, 6 of `rank_features`."""
_MAX_COUNT = 5.0
_WINDOWS = (3, 7)


def region_features(
    class_similarity: Float[Tensor, "B u v"], color_similarity: Float[Tensor, "B u v"], grid: int
) -> Float[Tensor, "B R F"]:
    """Class, colour and rank features of grid x grid regions."""
    classes = class_features(F.adaptive_max_pool2d(class_similarity[:, None], grid)[:, 0])
    relative = classes[..., 1]
    colors = F.adaptive_avg_pool2d(color_similarity[:, None].float(), grid).flatten(1)
    ranks = rank_features(class_similarity, relative, grid)
    return torch.cat([classes, color_features(colors, relative), ranks], dim=2)


def class_features(similarity: Float[Tensor, "B P P"]) -> Float[Tensor, "B R F"]:
    """Six features a region of its class similarity s (row by row, R = P^2).

    [s, s / max s, x, x s / max s, y, y s / max s], where x and y are the region's place, -3 to 3, in standard
    deviations from the mean place of all regions, weighted by (s / max s)^2.
    """
    grid = similarity.shape[1]
    places = torch.linspace(-1, 1, grid, device=similarity.device, dtype=torch.float32)
    similarity = similarity.float().flatten(1)
    relative = similarity / similarity.amax(dim=1, keepdim=True).clamp(min=0.05)
    weights = relative.square() + 1e-3
    weights = weights / weights.sum(dim=1, keepdim=True)
    features = [similarity, relative]
    for axis in (places.repeat(grid), places.repeat_interleave(grid)):
        mean = (weights * axis).sum(dim=1, keepdim=True)
        spread = ((weights * (axis - mean).square()).sum(dim=1, keepdim=True) + 0.01).sqrt()
        place = ((axis - mean) / spread).clamp(-3, 3)
        features += [place, place * relative]
    return torch.stack(features, dim=2)


def color_features(similarity: Float[Tensor, "B R"], relative: Float[Tensor, "B R"]) -> Float[Tensor, "B R F"]:
    """Three features a region of its colour similarity c; `relative` is its class similarity over the largest, 0 to 1.

    [c, c relative, z relative], where z, -3 to 3, is c in standard deviations from its mean weighted by relative^2.
    """
    weights = relative.square() + 1e-3
    weights = weights / weights.sum(dim=1, keepdim=True)
    mean = (weights * similarity).sum(dim=1, keepdim=True)
    spread = ((weights * (similarity - mean).square()).sum(dim=1, keepdim=True) + 0.0025).sqrt()
    return torch.stack(
        [similarity, similarity * relative, ((similarity - mean) / spread).clamp(-3, 3) * relative], dim=2
    )


def rank_features(
    similarity: Float[Tensor, "B u v"], relative: Float[Tensor, "B R"], grid: int
) -> Float[Tensor, "B R F"]:
    """Six features a region of order and size among what has the classes, each times `relative`, detached.

    Half the number of things (at most 5) that begin at or before the region's column from the left, from the right, and
    its row from above and from below; and the sum of relative^2 over the 3 x 3 and 7 x 7 regions around it, over the
    largest such sum. A thing is a run of columns (rows) with some place of high similarity; things behind one another
    count as one.
    """
    near = similarity.detach().float()
    near = near / near.amax(dim=(1, 2), keepdim=True).clamp(min=0.05)
    features = []
    for axis in (1, 2):
        profile = ((near.amax(dim=axis) - 0.5) * 12).sigmoid()
        for flipped in (False, True):
            line = profile.flip(1) if flipped else profile
            starts = (line - F.pad(line, (1, 0))[:, :-1]).clamp(min=0)
            count = starts.cumsum(dim=1).clamp(max=_MAX_COUNT) / 2
            count = F.adaptive_max_pool1d(count[:, None], grid)[:, 0]
            count = count.flip(1) if flipped else count
            places = count[:, None, :] if axis == 1 else count[:, :, None]
            features.append(places.expand(-1, grid, grid).flatten(1))
    cells = relative.detach().float().square().unflatten(1, (grid, grid))[:, None]
    for window in _WINDOWS:
        mass = F.avg_pool2d(cells, window, stride=1, padding=window // 2)[:, 0].flatten(1)
        features.append(mass / mass.amax(dim=1, keepdim=True).clamp(min=1e-3))
    return torch.stack(features, dim=2) * relative[..., None]


class DynamicMaskHead(nn.Module):
    """An MLP of one hidden layer over pixels, whose weights are linear maps of the expression and of the sum of the
    regions' filters (CondInst: Tian et al., ECCV 2020); its output weights are 0 at first."""

    def __init__(self, units: int, width: int, text_width: int, maps: int) -> None:
        super().__init__()
        self.units, self.inputs = units, width + maps
        self.norm = nn.LayerNorm(width)
        self.inner = nn.Linear(width + text_width, units * (self.inputs + 1))
        self.outer = nn.Linear(width + text_width, units + 1)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(
        self,
        kernels: Float[Tensor, "B C"],
        sentence: Float[Tensor, "B W"],
        mask_features: Float[Tensor, "N C h w"],
        maps: Float[Tensor, "B E h w"],
        image_index: Int[Tensor, " B"] | None,
    ) -> Float[Tensor, "B h w"]:
        """Logits at the size of `mask_features`; `maps` are further inputs, `maps` of the constructor in number."""
        about = torch.cat([self.norm(kernels), sentence], dim=1)
        inner = self.inner(about).unflatten(1, (self.units, self.inputs + 1))
        outer = self.outer(about)
        width = mask_features.shape[1]
        hidden = masks_of(inner[..., :width], mask_features, image_index)
        hidden = hidden + torch.einsum("bue,behw->buhw", inner[..., width:-1], maps)
        hidden = (hidden + inner[..., -1, None, None]).relu()
        return torch.einsum("bu,buhw->bhw", outer[:, :-1], hidden) + outer[:, -1, None, None]


class BestRegion(nn.Module):
    """A part of the no-target logit from the most probable regions (their mean by the minimap's softmax), the largest
    minimap logit and the largest value of each region feature; 0 at first."""

    def __init__(self, width: int, features: int) -> None:
        super().__init__()
        self.inner = nn.Linear(width + features + 1, width)
        self.outer = nn.Linear(width, 1)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(
        self, regions: Float[Tensor, "B R C"], minimap: Float[Tensor, "B R"], features: Float[Tensor, "B R F"]
    ) -> Float[Tensor, " B"]:
        """A logit an expression."""
        weights = minimap.softmax(dim=1).to(regions.dtype)
        best = torch.einsum("br,brc->bc", weights, regions)
        parts = (best, minimap.amax(dim=1, keepdim=True), features.amax(dim=1))
        about = torch.cat([each.to(regions.dtype) for each in parts], dim=1)
        return self.outer(F.gelu(self.inner(about)))[:, 0]
