"""Maps on which bilinear sampling is exact."""

import torch


def ramps(stride, side, channels=2):
    """A map whose first channel is x in pixels and whose second is y, at the places of a stride."""
    cells = side // stride
    place = torch.arange(cells) * float(stride)
    return torch.stack([place.expand(cells, -1), place[:, None].expand(-1, cells)])[:channels]
