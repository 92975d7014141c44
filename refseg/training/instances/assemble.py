"""Parts of `instances` put together: detector and masks that a recipe trained, MiniLM as it was published, rules."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from refseg.encoders.text.tokenizer import ByteTokenizer
from refseg.inference.checkpoint import save_model
from refseg.models.instances.config import InstancesConfig
from refseg.models.instances.model import build_instances, load_language
from refseg.models.instances.proposals import Proposer

__all__ = ["assemble"]


def assemble(
    folder: str | os.PathLike[str],
    proposer: Proposer,
    language: Path | None,
    config: InstancesConfig | None = None,
    info: Mapping[str, Any] | None = None,
    weights: Float[Tensor, " W"] | None = None,
) -> Path:
    """Write a model folder in 16 bits (the language model in 8).

    Args:
        proposer: a trained one, such as `load_proposer` reads from a recipe's folder.
        language: a transformers folder of all-MiniLM-L6-v2 (config.json, model.safetensors, vocab.txt); None reads
            nouns by the lists alone.
        weights: of the chooser; None keeps the rules.
        info: thresholds, and what else the model's maker wants to tell.

    Raises `CheckpointError` for parts that do not fit together.
    """
    config = config or InstancesConfig(detector=proposer.config)
    model = build_instances(config if language is not None else replace(config, text=None)).eval()
    model.proposer.load_state_dict(proposer.state_dict())
    if model.text is not None and language is not None:
        load_language(model, language)
    if weights is not None:
        with torch.no_grad():
            model.chooser.weights.copy_(weights)
    return save_model(folder, model, ByteTokenizer(), info, half=True)
