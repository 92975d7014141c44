"""Checkpoints of LAVT's published code (yz93/LAVT-RIS) into our model.

The code keeps the network and BERT apart: a file holds `model` and `bert_model`, which `refseg.state_dicts.read_state`
joins (BERT's names begin with `bert_model.`). Files of its later variant `lavt_one` hold BERT in the network, as
`text_encoder`. Sizes are read off the names and shapes. Left out are tensors that the code never uses: the gate behind
the last stage, and BERT's pooler.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor, nn

from refseg.errors import CheckpointError
from refseg.models.lavt.config import OFFICIAL, LAVTConfig
from refseg.models.lavt.model import build_lavt
from refseg.models.renaming import (
    Rule,
    bert_config,
    convert,
    language_swin_rules,
    learned,
    reading,
    swin_config,
    without_kernels,
)

__all__ = ["RULES", "config_of", "load_state"]

_UNUSED = ("backbone.layers.3.res_gate.", "bert_model.pooler.", "text_encoder.pooler.")

RULES: list[Rule] = [
    (r"(?:bert_model|text_encoder)\.(embeddings|encoder)\.(.+)", r"text.bert.\1.\2"),
    *language_swin_rules(r"backbone\."),
    *(
        rule
        for block, level in enumerate((4, 3, 2))
        for layer in (1, 2)
        for rule in (
            (rf"classifier\.conv{layer}_{level}\.weight", f"pixel_decoder.blocks.{block}.{layer - 1}.conv.weight"),
            (rf"classifier\.bn{layer}_{level}\.(\w+)", rf"pixel_decoder.blocks.{block}.{layer - 1}.norm.\1"),
        )
    ),
    (r"classifier\.conv1_1\.(\w+)", r"pixel_decoder.classes.\1"),
]


def load_state(
    state: Mapping[str, Tensor], *, input_size: int = 480, max_words: int = 20, text_heads: int | None = None
) -> nn.Module:
    """The model of a published state dict, in eval mode.

    `text_heads` are BERT's (None: one for each 64 channels, as every published BERT has). `input_size` and `max_words`
    are kept with the model for the images and expressions to come. Pixel-word attention has one head, as in the
    released models; the code's option --mha leaves no trace in a file and is not known here. Raises `CheckpointError`.
    """
    tensors = {name: value for name, value in learned(state).items() if not name.startswith(_UNUSED)}
    config = config_of(tensors, input_size=input_size, max_words=max_words, text_heads=text_heads)
    return convert(build_lavt(config), tensors, RULES, _parts)


def config_of(state: Mapping[str, Tensor], *, input_size: int, max_words: int, text_heads: int | None) -> LAVTConfig:
    """The configuration that the tensors' names and shapes tell. Raises `CheckpointError` when they are no LAVT's."""
    with reading("LAVT"):
        width = len(state["classifier.conv1_4.weight"])
        bert = next(
            (name for name in ("bert_model.", "text_encoder.") if any(key.startswith(name) for key in state)), ""
        )
        if not bert:
            raise CheckpointError(
                "LAVT without its BERT: a file of the published code holds the network under 'model' and BERT under "
                "'bert_model'; give the whole file"
            )
        return replace(
            OFFICIAL,
            input=replace(OFFICIAL.input, size=input_size),
            vision=swin_config(state, "backbone."),
            text=bert_config(state, bert, max_words, text_heads),
            width=width,
        )


def _parts(name: str, value: Tensor) -> dict[str, Tensor]:
    return without_kernels(name, value) if name.startswith("language_stages.") else {name: value}
