"""Pretrained encoders into a built model: a step of its own, from a local folder or file, or from the hub by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from refseg.encoders.text import bert
from refseg.encoders.text.glove import read_vectors
from refseg.encoders.text.glove_transformer import GloveTransformer
from refseg.encoders.text.recurrent import RecurrentText
from refseg.encoders.text.transformer import WordTransformer
from refseg.encoders.vision import mobilenet, resnet, shufflenet, swin, vit
from refseg.encoders.vision.darknet import DarkNet
from refseg.errors import CheckpointError
from refseg.inference.checkpoint_files import read_state

__all__ = ["load_backbones", "load_word_vectors"]

FILES = ("model.safetensors", "pytorch_model.bin", "weights.safetensors")
"""What is looked for in a folder or on the hub, in this order."""

_FRESH: dict[type[nn.Module], tuple[str, ...]] = {swin.Swin: ("norm0.", "norm1.", "norm2.", "norm3.")}
"""What the files do not hold, since a classifier has none of it: the normalisation of each outgoing map."""

_SPARE: dict[type[nn.Module], tuple[str, ...]] = {bert.Bert: ("bert.pooler.",)}
"""What files may hold though the encoder has no place for it."""


def load_backbones(model: nn.Module, vision: str | None = None, text: str | None = None) -> None:
    """Put pretrained weights into `model.vision` and `model.text`.

    Each name is a folder, a file (.safetensors, .bin, .pth, .pt) or a hub id, such as
    `microsoft/swin-base-patch4-window12-384-in22k`, `google-bert/bert-base-uncased` (the names inside are
    transformers'), a ResNet under torchvision's names, or a NanoDet-Plus or MobileNetV2 whose tensors are numbered as
    they are computed, or a DarkNet in any form that `refseg.encoders.vision.darknet_weights` reads. Strict: raises
    `CheckpointError`
    for tensors that are missing, unexplained or of another size, and when the model has no such encoder.
    """
    encoder = getattr(model, "vision", None)
    if vision is not None and isinstance(encoder, DarkNet):
        from refseg.encoders.vision.darknet_weights import read_darknet

        path = _find(vision)
        _fit(encoder, "vision", path, read_darknet(path, encoder))
    elif vision is not None:
        readers = {
            swin.Swin: swin.from_transformers,
            resnet.ResNet: resnet.from_torchvision,
            vit.ViT: vit.from_transformers,
            shufflenet.ShuffleNet: shufflenet.from_nanodet,
            mobilenet.MobileNet: mobilenet.from_execution_order,
        }
        _load(model, "vision", vision, readers)
    if text is not None:
        _load(model, "text", text, {bert.Bert: bert.from_transformers})


def load_word_vectors(model: nn.Module, path: str | Path, words: Sequence[str]) -> list[str]:
    """Put the vectors of a GloVe or word2vec file into the word table of `model.text`; `words` are its rows in order.

    Words that the file does not have get zeros, and are returned. Raises `CheckpointError` when the encoder has no
    such table, or the file's vectors have another width.
    """
    encoder = getattr(model, "text", None)
    if isinstance(encoder, WordTransformer) and encoder.given is not None:
        return _give_vectors(encoder, encoder.given, path, words)
    if not isinstance(encoder, (RecurrentText, GloveTransformer)):
        raise CheckpointError(
            f"{path}: word vectors fit RecurrentText, GloveTransformer and, with text.vectors, WordTransformer, "
            f"not {type(encoder).__name__}"
        )
    vectors, own = read_vectors(path, words), encoder.words.weight
    if vectors.table.shape != own.shape:
        raise CheckpointError(
            f"{path}: {len(words)} words of {vectors.table.shape[1]} channels, the model wants {len(own)} of "
            f"{own.shape[1]}; choose the file of that width, or set the text encoder's"
        )
    with torch.no_grad():
        own.copy_(vectors.table)
    return [word for word, found in zip(words, vectors.found.tolist(), strict=True) if not found]


def _give_vectors(encoder: WordTransformer, table: Tensor, path: str | Path, words: Sequence[str]) -> list[str]:
    """Put vectors, scaled to a mean length of 1, beside the learnt embeddings; those of words that have one begin at
    zero. Returns the words without."""
    vectors = read_vectors(path, words)
    if vectors.table.shape != table.shape:
        raise CheckpointError(
            f"{path}: {len(words)} words of {vectors.table.shape[1]} channels, the model wants {len(table)} of "
            f"text.vectors={table.shape[1]}"
        )
    with torch.no_grad():
        table.copy_(vectors.table / vectors.table[vectors.found].norm(dim=1).mean().clamp(min=1e-6))
        encoder.words.weight[vectors.found] = 0.0
    return [word for word, found in zip(words, vectors.found.tolist(), strict=True) if not found]


def _load(
    model: nn.Module, part: str, name: str, readers: Mapping[type, Callable[[dict[str, Tensor]], dict[str, Tensor]]]
) -> None:
    encoder = getattr(model, part, None)
    reader = readers.get(type(encoder))
    if encoder is None or reader is None:
        known = " or ".join(kind.__name__ for kind in readers)
        raise CheckpointError(f"{name}: pretrained {part} weights fit {known}, not {type(encoder).__name__}")
    path = _find(name)
    _fit(encoder, part, path, reader(read_state(path)))


def _fit(encoder: nn.Module, part: str, path: Path, weights: dict[str, Tensor]) -> None:
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
