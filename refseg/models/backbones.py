"""Pretrained encoders into a built model: a step of its own, from a local folder or file, or from the hub by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor, nn

from refseg.checkpoint_files import read_state
from refseg.errors import CheckpointError
from refseg.text import bert
from refseg.vision import resnet, swin, vit

__all__ = ["load_backbones"]

FILES = ("model.safetensors", "pytorch_model.bin")
"""What is looked for in a folder or on the hub, in this order."""

_FRESH = {swin.Swin: ("norm0.", "norm1.", "norm2.", "norm3.")}
"""What the files do not hold, since a classifier has none of it: the normalisation of each outgoing map."""

_SPARE = {bert.Bert: ("bert.pooler.",)}
"""What files may hold though the encoder has no place for it."""


def load_backbones(model: nn.Module, vision: str | None = None, text: str | None = None) -> None:
    """Put pretrained weights into `model.vision` and `model.text`.

    Each name is a folder, a file (.safetensors, .bin, .pth, .pt) or a hub id, such as
    `microsoft/swin-base-patch4-window12-384-in22k`, `google-bert/bert-base-uncased` (the names inside are
    transformers'), or a ResNet under torchvision's names. Strict: raises `CheckpointError` for tensors that are
    missing, unexplained or of another size, and when the model has no such encoder.
    """
    if vision is not None:
        readers = {
            swin.Swin: swin.from_transformers,
            resnet.ResNet: resnet.from_torchvision,
            vit.ViT: vit.from_transformers,
        }
        _load(model, "vision", vision, readers)
    if text is not None:
        _load(model, "text", text, {bert.Bert: bert.from_transformers})


def _load(
    model: nn.Module, part: str, name: str, readers: Mapping[type, Callable[[dict[str, Tensor]], dict[str, Tensor]]]
) -> None:
    encoder = getattr(model, part, None)
    reader = readers.get(type(encoder))
    if encoder is None or reader is None:
        known = " or ".join(kind.__name__ for kind in readers)
        raise CheckpointError(f"{name}: pretrained {part} weights fit {known}, not {type(encoder).__name__}")
    path = _find(name)
    weights = reader(read_state(path))
    own = encoder.state_dict()
    fresh = _FRESH.get(type(encoder), ())
    missing = [key for key in own if key not in weights and not key.startswith(fresh)]
    spare = _SPARE.get(type(encoder), ())
    weights = {key: value for key, value in weights.items() if key in own or not key.startswith(spare)}
    unexpected = [key for key in weights if key not in own]
    if missing or unexpected:
        raise CheckpointError(
            f"{path}: does not fit the model's {part} encoder"
            + (f"; missing: {', '.join(missing[:8])}" if missing else "")
            + (f"; without a place: {', '.join(unexpected[:8])}" if unexpected else "")
        )
    for key, value in weights.items():
        if value.shape != own[key].shape:
            raise CheckpointError(f"{path}: {key} is {tuple(value.shape)}, the model wants {tuple(own[key].shape)}")
    encoder.load_state_dict(weights, strict=False)


def _find(name: str) -> Path:
    path = Path(name)
    if path.is_file():
        return path
    if path.is_dir():
        for file in FILES:
            if (path / file).is_file():
                return path / file
        raise CheckpointError(f"{path}: none of {', '.join(FILES)} is there")
    return _download(name)


def _download(name: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    problem: Exception | None = None
    for file in FILES:
        try:
            return Path(hf_hub_download(name, file))
        except LocalEntryNotFoundError as error:
            problem = error
            break
        except EntryNotFoundError as error:
            problem = error
        except (HfHubHTTPError, HFValidationError, OSError) as error:
            problem = error
            break
    reason = (str(problem).strip() or type(problem).__name__).splitlines()[0]
    raise CheckpointError(
        f"{name}: no such folder or file, and the hub does not give it ({reason}); check the name and the connection, "
        f"or give a local folder with {FILES[0]}"
    ) from problem
