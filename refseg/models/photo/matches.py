"""What regions and pixels are told of how a picture fits a sentence's words: nouns, colours, order and size.

shares of words in classes x probabilities of classes -> matches at stride 8 -> features of each region
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from refseg.models.rela.region_heads import masks_of

__all__ = [
    "MATCH_FEATURES",
    "RANK_FEATURES",
    "TINT_FEATURES",
    "BestVerdict",
    "HiddenMask",
    "match_features",
    "rank_features",
    "tint_features",
]

MATCH_FEATURES, TINT_FEATURES, RANK_FEATURES = 6, 3, 6
"""Of `match_features`, `tint_features` and `rank_features`."""
_MOST = 5.0
_BLURS = (3, 7)


def match_features(fits: Float[Tensor, "B P P"]) -> Float[Tensor, "B R F"]:
    """What regions are told of how they fit a sentence's nouns: how well; how well beside the best one; and where they
    lie among those that fit, across and down, in standard deviations, by itself and times how well they fit."""
    grid = fits.shape[1]
    places = torch.linspace(-1, 1, grid, device=fits.device, dtype=torch.float32)
    fits = fits.float().flatten(1)
    relative = fits / fits.amax(dim=1, keepdim=True).clamp(min=0.05)
    weights = relative.square() + 1e-3
    weights = weights / weights.sum(dim=1, keepdim=True)
    features = [fits, relative]
    for axis in (places.repeat(grid), places.repeat_interleave(grid)):
        mean = (weights * axis).sum(dim=1, keepdim=True)
        spread = ((weights * (axis - mean).square()).sum(dim=1, keepdim=True) + 0.01).sqrt()
        place = ((axis - mean) / spread).clamp(-3, 3)
        features += [place, place * relative]
    return torch.stack(features, dim=2)


def tint_features(tints: Float[Tensor, "B R"], relative: Float[Tensor, "B R"]) -> Float[Tensor, "B R F"]:
    """What regions are told of how their colours fit a sentence's: how well; the same times how well they fit the nouns
    (`relative`, 0 to 1); and by how many standard deviations better than those that fit the nouns, times that too."""
    weights = relative.square() + 1e-3
    weights = weights / weights.sum(dim=1, keepdim=True)
    mean = (weights * tints).sum(dim=1, keepdim=True)
    spread = ((weights * (tints - mean).square()).sum(dim=1, keepdim=True) + 0.0025).sqrt()
    return torch.stack([tints, tints * relative, ((tints - mean) / spread).clamp(-3, 3) * relative], dim=2)


def rank_features(matches: Float[Tensor, "B u v"], relative: Float[Tensor, "B R"], grid: int) -> Float[Tensor, "B R F"]:
    """What regions are told of order and size among what fits: how many things begin at or before their column, counted
    from the left and from the right, and their row from above and below (in halves, at most 2.5); and how much fits in
    the 3 x 3 and 7 x 7 regions around them, beside the most anywhere. All times how well they fit (`relative`).

    A thing is a run of columns (rows) in which some place fits well; things behind one another count as one.
    """
    fits = matches.detach().float()
    fits = fits / fits.amax(dim=(1, 2), keepdim=True).clamp(min=0.05)
    features = []
    for axis in (1, 2):
        profile = ((fits.amax(dim=axis) - 0.5) * 12).sigmoid()
        for flipped in (False, True):
            line = profile.flip(1) if flipped else profile
            starts = (line - F.pad(line, (1, 0))[:, :-1]).clamp(min=0)
            count = starts.cumsum(dim=1).clamp(max=_MOST) / 2
            count = F.adaptive_max_pool1d(count[:, None], grid)[:, 0]
            count = count.flip(1) if flipped else count
            places = count[:, None, :] if axis == 1 else count[:, :, None]
            features.append(places.expand(-1, grid, grid).flatten(1))
    cells = relative.detach().float().square().unflatten(1, (grid, grid))[:, None]
    for blur in _BLURS:
        mass = F.avg_pool2d(cells, blur, stride=1, padding=blur // 2)[:, 0].flatten(1)
        features.append(mass / mass.amax(dim=1, keepdim=True).clamp(min=1e-3))
    return torch.stack(features, dim=2) * relative[..., None]


class HiddenMask(nn.Module):
    """A perceptron of one hidden layer over pixels, whose weights are linear maps of the sentence and of the sum of the
    filters of the regions that are meant. It begins as nothing: its output weights are 0 at first."""

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
        picture: Int[Tensor, " B"] | None,
    ) -> Float[Tensor, "B h w"]:
        """Logits at the size of `mask_features`; `maps` are the sentence's own, as many as the module was made for."""
        about = torch.cat([self.norm(kernels), sentence], dim=1)
        inner = self.inner(about).unflatten(1, (self.units, self.inputs + 1))
        outer = self.outer(about)
        width = mask_features.shape[1]
        hidden = masks_of(inner[..., :width], mask_features, picture)
        hidden = hidden + torch.einsum("bue,behw->buhw", inner[..., width:-1], maps)
        hidden = (hidden + inner[..., -1, None, None]).relu()
        return torch.einsum("bu,buhw->bhw", outer[:, :-1], hidden) + outer[:, -1, None, None]


class BestVerdict(nn.Module):
    """What the regions most wanted say of whether anything is meant; 0 at first. `features` are those that regions were
    told of how they fit, of which the largest anywhere counts."""

    def __init__(self, width: int, features: int) -> None:
        super().__init__()
        self.inner = nn.Linear(width + features + 1, width)
        self.outer = nn.Linear(width, 1)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(
        self, regions: Float[Tensor, "B R C"], minimap: Float[Tensor, "B R"], features: Float[Tensor, "B R F"] | None
    ) -> Float[Tensor, " B"]:
        """A logit that is added to the verdict."""
        weights = minimap.softmax(dim=1).to(regions.dtype)
        seen = [torch.einsum("br,brc->bc", weights, regions), minimap.amax(dim=1, keepdim=True)]
        if features is not None:
            seen.append(features.amax(dim=1))
        about = torch.cat([each.to(regions.dtype) for each in seen], dim=1)
        return self.outer(F.gelu(self.inner(about)))[:, 0]
