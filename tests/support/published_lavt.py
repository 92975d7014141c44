"""State dicts under the names that LAVT's authors' code gives its tensors, at any size; written from its structure."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.support.published_rela import Shapes, fill
from tests.support.published_rela import names_and_shapes as rela_names_and_shapes


def names_and_shapes(embed: int = 8, text: int = 64, **sizes) -> tuple[Shapes, Shapes]:
    """Every floating tensor of the network and of BERT, which the code saves apart: name -> shape."""
    shared = rela_names_and_shapes(embed=embed, text=text, **sizes)
    model = {name: shape for name, shape in shared.items() if name.startswith("backbone.")}
    bert = {
        name.removeprefix("text_encoder."): shape for name, shape in shared.items() if name.startswith("text_encoder.")
    }
    widest, hidden = 8 * embed, 4 * embed
    # The code has a gate behind the last stage, too, whose result nobody reads.
    for gate in (0, 2):
        model[f"backbone.layers.3.res_gate.{gate}.weight"] = (widest, widest)
    above = widest
    for level, beside in ((4, widest // 2), (3, widest // 4), (2, widest // 8)):
        model[f"classifier.conv1_{level}.weight"] = (hidden, above + beside, 3, 3)
        model[f"classifier.conv2_{level}.weight"] = (hidden, hidden, 3, 3)
        for layer in (1, 2):
            for part in ("weight", "bias", "running_mean", "running_var"):
                model[f"classifier.bn{layer}_{level}.{part}"] = (hidden,)
        above = hidden
    model["classifier.conv1_1.weight"], model["classifier.conv1_1.bias"] = (2, hidden, 1, 1), (2,)
    return model, bert


def published(**sizes) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Filled state dicts of the network and of BERT, with the integer buffers that real files hold."""
    model, bert = ({name: fill(name, shape) for name, shape in each.items()} for each in names_and_shapes(**sizes))
    model["backbone.layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(16, 16, dtype=torch.long)
    model["classifier.bn1_4.num_batches_tracked"] = torch.tensor(3)
    bert["embeddings.position_ids"] = torch.arange(24)[None]
    return model, bert
