"""How good ISFP would be if one of its branches were right: the two halves of the thesis's table 3.2.

Both take what is meant and give an `Output`, which is scored like any other.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from refseg.errors import RefsegError
from refseg.models.isfp.grid import grid_targets
from refseg.models.isfp.model import ISFP, NOWHERE
from refseg.nn.losses import resize_masks
from refseg.types import Batch, Output, Targets

__all__ = ["with_true_location", "with_true_masks"]


def with_true_location(model: ISFP, batch: Batch, targets: Targets) -> Output:
    """The answers when the identification branch names the cell of each target's centre of gravity (table 3.2A);
    sentences without target have no cell and an empty mask."""
    cells = grid_targets(targets, model.config.grid, model.config.wants_instances).centres
    state = model.encode_image(batch.images, batch.pixel_mask)
    return model.decode(state, model.encode_text(batch.tokens), batch.picture, cells)


def with_true_masks(model: ISFP, output: Output, targets: Targets) -> Output:
    """The answers when the segmentation branch draws what the chosen cells stand for (table 3.2B): a positive cell is
    worth its target's mask. Targets do not know the picture's other things, so that any other cell is worth an empty
    mask; in the thesis it is worth the other thing's, which shares next to nothing with what is meant."""
    if "cells" not in output.auxiliary:
        raise RefsegError("this ISFP has no identification branch: there is no chosen cell")
    truth = grid_targets(targets, model.config.grid, model.config.wants_instances)
    size = (output.mask_logits.shape[1], output.mask_logits.shape[2])
    logits: Float[Tensor, "B h w"] = output.mask_logits.new_full(output.mask_logits.shape, NOWHERE)
    for index, (owner, cells) in enumerate(zip(truth.owner, output.auxiliary["cells"], strict=True)):
        things = owner[cells & (owner >= 0)].unique()
        if len(things):
            union = truth.masks[things].any(dim=0)
            logits[index] = (2 * resize_masks(union[None], size)[0] - 1) * -NOWHERE
    return Output(logits, output.no_target_logits, auxiliary=output.auxiliary)
