"""Model folders for others: a card written from what is stored with the weights, and the way to the hub.

The card says what the folder itself knows (system, sizes, thresholds, recipe, scores of the calibration) and no more.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from torch import nn

from refseg import __version__
from refseg.encoders.text.tokenizer import Tokenizer
from refseg.errors import RefsegError
from refseg.files import replacing_folder
from refseg.inference.checkpoint import write_model
from refseg.models.foundation.base import FoundationModel
from refseg.types import ModelConfig

__all__ = ["CARD", "model_card", "push_to_hub", "save_pretrained"]

CARD = "README.md"


def save_pretrained(
    folder: str | os.PathLike[str],
    model: nn.Module,
    tokenizer: Tokenizer,
    info: Mapping[str, Any],
    *,
    half: bool = False,
    name: str | None = None,
) -> Path:
    """Write a model folder with its card, whole or not at all; `half` stores 16 bits a float.

    Raises `RefsegError` for an exported model (its folder is complete as it is) and where nothing can be written.
    """
    if isinstance(model, FoundationModel):
        raise RefsegError("a network of transformers is not saved here: copy its own folder, or name its repository")
    if not any(True for _ in model.parameters()):
        raise RefsegError("an exported model has no weights to save; copy the folder that it was loaded from")
    target = Path(folder)
    with replacing_folder(target) as temporary:
        write_model(temporary, model, tokenizer, info, half)
        (temporary / CARD).write_text(model_card(model, info, name or target.name), encoding="utf-8")
    return target


def push_to_hub(
    repository: str,
    model: nn.Module,
    tokenizer: Tokenizer,
    info: Mapping[str, Any],
    *,
    half: bool = False,
    private: bool | None = None,
    revision: str | None = None,
    token: str | None = None,
    message: str = "Upload model",
) -> str:
    """Put a model folder with its card into a hub repository ("owner/name"), which is made where it is not there.

    `revision` is a branch, made where it is not there; `token` None takes the stored login. Returns the commit. Raises
    `RefsegError` where the hub refuses or cannot be reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    api = HfApi(token=token)
    try:
        with TemporaryDirectory() as scratch:
            folder = save_pretrained(Path(scratch) / "model", model, tokenizer, info, half=half, name=repository)
            api.create_repo(repository, private=private, exist_ok=True)
            if revision is not None:
                api.create_branch(repository, branch=revision, exist_ok=True)
            done = api.upload_folder(folder_path=folder, repo_id=repository, revision=revision, commit_message=message)
    except (HfHubHTTPError, HFValidationError, OSError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise RefsegError(
            f"{repository}: the hub did not take it ({reason}); check name, login and connection"
        ) from error
    return str(done.oid)


def model_card(model: nn.Module, info: Mapping[str, Any], name: str) -> str:
    """The card in Markdown, from the model's configuration and what was stored with its weights."""
    from refseg.models import MODELS, config_to_dict

    system = str(config_to_dict(cast(ModelConfig, model.config))["system"])
    parameters = sum(value.numel() for value in model.parameters())
    stored = sum(value.numel() for value in model.buffers())
    parts = [
        "---",
        "library_name: refseg",
        "pipeline_tag: image-segmentation",
        "tags: [referring-image-segmentation, referring-expression-segmentation, refseg]",
        "---",
        f"# {name}",
        "",
        f"Referring expression segmentation: a picture and an expression to the pixels that are meant, or none. "
        f"System `{system}` of refseg {__version__}: {MODELS[system].title}.",
        "",
        "```python",
        "import refseg",
        "",
        f'segmenter = refseg.load("{name}")',
        'answer = segmenter("photo.jpg", "the second dog from the left")',
        'answer.save("mask.png")',
        "```",
        "",
        "## What it is",
        "",
        f"- {parameters:,} parameters"
        + (f", {stored:,} stored values besides (eight-bit weights, statistics)" if stored else ""),
        f"- input: {_input(cast(Any, model.config).input)}",
        f"- thresholds: {float(info.get('threshold', 0.5)):g} for a pixel, "
        f"{float(info.get('no_target_threshold', 0.5)):g} for none",
        "",
        *_calibration(info.get("calibration")),
        *_training(info.get("training"), info.get("source")),
    ]
    return "\n".join(parts).rstrip() + "\n"


def _input(config: Any) -> str:
    ways = {
        "warp": "stretched to {0} x {0} pixels",
        "letterbox": "in the middle of {0} x {0} pixels",
        "longest": "{0} pixels on the longer side",
        "shrink": "as it is, up to {0} pixels on the longer side",
    }
    return ways[config.resize].format(config.size)


def _calibration(calibration: object) -> list[str]:
    if not isinstance(calibration, Mapping) or not isinstance(calibration.get("metrics"), Mapping):
        return []
    metrics = cast(Mapping[str, float], calibration["metrics"])
    return [
        "## Scores",
        "",
        f"Of the pictures on which the thresholds were chosen ({calibration.get('data', 'not said')}, "
        f"{calibration.get('sentences', '?')} expressions; protocol `native`), not of a test set:",
        "",
        f"| {' | '.join(metrics)} |",
        f"|{'---|' * len(metrics)}",
        f"| {' | '.join(f'{value:.3f}' for value in metrics.values())} |",
        "",
    ]


def _training(training: object, source: object) -> list[str]:
    import tomli_w

    lines = ["## Training", ""]
    if isinstance(source, str):
        lines += [f"Imported from {source}.", ""]
    if not isinstance(training, Mapping):
        return [*lines, "How it was trained is not stored with the weights.", ""]
    for key, value in training.items():
        if not isinstance(value, Mapping):
            lines.append(f"- {key}: {value}")
    recipe = training.get("recipe")
    if isinstance(recipe, Mapping):
        lines += ["", "The recipe:", "", "```toml", tomli_w.dumps(_without_none(recipe)).strip(), "```", ""]
    return lines


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    """TOML has no null: such fields are left out."""
    return {
        key: _without_none(value) if isinstance(value, Mapping) else value
        for key, value in values.items()
        if value is not None
    }
