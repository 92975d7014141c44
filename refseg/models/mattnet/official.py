"""MAttNet's published checkpoints (RefCOCO, RefCOCO+, RefCOCOg) into our model.

The files are pickled modules of the authors' own class, saved by PyTorch 0.2: whoever has that code writes their state
dict (`checkpoint["model"].state_dict()`) to a file that is none. It holds everything but the Mask R-CNN whose features
it reads; those are a ResNet-101's under torchvision's names (`resnet.layer3...`), a file of their own, which
`pretrained.vision` takes once `resnet.` is cut off.

An attention over cells is one linear layer on [cell; phrase] there, and two here, of which the phrase's runs once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from refseg.encoders.vision.resnet import RESNET101, ResNetConfig
from refseg.errors import CheckpointError, ConfigError
from refseg.models.mattnet.config import OFFICIAL, LanguageConfig, MAttNetConfig
from refseg.models.mattnet.model import build_mattnet
from refseg.models.renaming import Rule, fit, learned, reading, rename

__all__ = ["config_of", "load_state"]

_MODULES = (("sub", "subject"), ("loc", "location"), ("rel", "relationship"))

RULES: list[Rule] = [
    (r"rnn_encoder\.embedding\.weight", r"text.embedding.weight"),
    (r"rnn_encoder\.mlp\.0\.(\w+)", r"text.project.\1"),
    (r"rnn_encoder\.rnn\.(\w+)", r"text.lstm.\1"),
    (r"weight_fc\.(\w+)", r"text.module_scores.\1"),
    (r"(sub|loc|rel)_attn\.fc\.(\w+)", r"word_scores.\1.\2"),
    (r"sub_encoder\.pool5_normalizer\.weight", r"subject.low_scale.weight"),
    (r"sub_encoder\.fc7_normalizer\.weight", r"subject.high_scale.weight"),
    (r"sub_encoder\.att_normalizer\.weight", r"subject.blob_scale.weight"),
    (r"sub_encoder\.phrase_normalizer\.weight", r"subject.phrase_scale.weight"),
    (r"sub_encoder\.att_fuse\.([01])\.(\w+)", r"subject.blob.\1.\2"),
    (r"sub_encoder\.att_fc\.(\w+)", r"subject.tell.1.\1"),
    (r"sub_encoder\.attn_fuse\.0\.(\w+)", r"attention.\1"),
    (r"sub_encoder\.attn_fuse\.2\.(\w+)", r"subject.score.\1"),
    (r"loc_encoder\.lfeat_normalizer\.weight", r"location.place_scale.weight"),
    (r"loc_encoder\.dif_lfeat_normalizer\.weight", r"location.offset_scale.weight"),
    (r"loc_encoder\.fc\.(\w+)", r"location.fuse.\1"),
    (r"rel_encoder\.vis_feat_normalizer\.weight", r"relationship.feature_scale.weight"),
    (r"rel_encoder\.lfeat_normalizer\.weight", r"relationship.offset_scale.weight"),
    (r"rel_encoder\.fc\.(\w+)", r"relationship.fuse.\1"),
]
for theirs, ours in _MODULES:
    RULES += [
        (rf"{theirs}_matching\.vis_emb_fc\.(\d)\.(\w+)", rf"{ours}.embed.\1.\2"),
        (rf"{theirs}_matching\.lang_emb_fc\.(\d)\.(\w+)", rf"{ours}.embed_phrase.\1.\2"),
    ]


def load_state(
    state: Mapping[str, Tensor],
    *,
    attributes: Sequence[str] = (),
    max_words: int = 10,
    contexts: int = 5,
    vision: ResNetConfig = RESNET101,
) -> nn.Module:
    """The model of a published state dict, in eval mode; detector and `vision` keep their first weights.

    `attributes` are the words that `att_to_ix` of the checkpoint's JSON file lists, in its order; without them they are
    called "attribute 0" and so on. `max_words` is 20 for RefCOCOg; `contexts` is `--num_cxt`. Raises `CheckpointError`
    for tensors that are missing, unexplained or of another size, `ConfigError` for too few attributes.
    """
    tensors = learned(state)
    config = config_of(tensors, attributes=attributes, max_words=max_words, contexts=contexts, vision=vision)
    model = build_mattnet(config)
    names, unexplained = rename(list(tensors), RULES)
    found: dict[str, Tensor] = {}
    origin: dict[str, str] = {}
    for published, name in names.items():
        for key, value in _parts(name, tensors[published], model).items():
            found[key], origin[key] = value, published
    for kind in ("weight", "bias"):
        pieces = [found.pop(f"word_scores.{theirs}.{kind}", None) for theirs, _ in _MODULES]
        if any(piece is None for piece in pieces):
            raise CheckpointError(f"not a checkpoint of MAttNet: an attention over words has no {kind}")
        found[f"text.word_scores.{kind}"] = torch.cat([piece for piece in pieces if piece is not None])
    # The detector and its features are no part of the file.
    own = model.state_dict()
    kept = {name: value for name, value in own.items() if name.startswith(("proposer.", "vision."))}
    kept |= {name: value for name, value in own.items() if name.endswith("num_batches_tracked")}
    fit(model, {**kept, **found}, origin, unexplained)
    return model.eval()


def config_of(
    state: Mapping[str, Tensor], *, attributes: Sequence[str], max_words: int, contexts: int, vision: ResNetConfig
) -> MAttNetConfig:
    """The configuration that the tensors' names and shapes tell. Raises as `load_state` does."""
    with reading("MAttNet"):
        embedding = state["rnn_encoder.embedding.weight"]
        count = len(state["sub_encoder.att_fc.bias"])
        others = state["loc_encoder.dif_lfeat_normalizer.weight"].numel()
        low, high = (state[f"sub_encoder.{name}_normalizer.weight"].numel() for name in ("pool5", "fc7"))
        text = LanguageConfig(
            vocabulary_size=len(embedding),
            max_words=max_words,
            embedding=embedding.shape[1],
            projection=len(state["rnn_encoder.mlp.0.bias"]),
            hidden=state["rnn_encoder.rnn.weight_hh_l0"].shape[1],
            module_context="final_states",
        )
        width = len(state["sub_encoder.att_fuse.0.bias"])
    if (vision.widths[2], vision.widths[3]) != (low, high):
        raise ConfigError(
            f"vision: the checkpoint reads features of {low} and {high} channels, not {vision.widths[2:]}"
        )
    if attributes and len(attributes) != count:
        raise ConfigError(f"attributes: the checkpoint tells {count}, {len(attributes)} are named")
    names = tuple(attributes) or tuple(f"attribute {number}" for number in range(count))
    return replace(
        OFFICIAL,
        vision=vision,
        text=text,
        embed_dim=width,
        attributes=names,
        neighbors=others // 5,
        contexts=contexts,
    )


def _parts(name: str, value: Tensor, model: nn.Module) -> dict[str, Tensor]:
    """Our tensors for a renamed one: flat scales, and the attention's layer in its two parts."""
    if name.endswith("_scale.weight"):
        return {name: value.flatten()}
    if name == "attention.bias":
        return {"subject.project_phrase.bias": value}
    if name == "attention.weight":
        cells: Tensor = model.get_parameter("subject.project_cells.weight")
        return {
            "subject.project_cells.weight": value[:, : cells.shape[1]],
            "subject.project_phrase.weight": value[:, cells.shape[1] :],
        }
    return {name: value}
