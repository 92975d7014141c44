"""Pretrained weights into the encoders of a built model: from a local folder or file, or from the hub by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from refseg.encoders.build import TEXT, VISION, Encoder
from refseg.encoders.text.glove import WordVectors, read_vectors
from refseg.encoders.text.glove_transformer import GloveTransformer
from refseg.encoders.text.recurrent import RecurrentText
from refseg.encoders.text.transformer import WordTransformer
from refseg.encoders.vision.resnet import ResNet
from refseg.errors import CheckpointError
from refseg.state_dicts import listed

__all__ = ["load_backbones", "load_word_vectors"]

FILES = ("model.safetensors", "pytorch_model.bin", "weights.safetensors")
"""Names of weight files in a folder or on the hub, in the order in which they are tried."""


def load_backbones(model: nn.Module, vision: str | None = None, text: str | None = None) -> None:
    """Put pretrained weights into `model.vision` and `model.text`.

    Each name is a folder, a file (.safetensors, .bin, .pth, .pt) or a hub id, such as
    `microsoft/swin-base-patch4-window12-384-in22k`, `google-bert/bert-base-uncased` (the names inside are
    transformers'; `microsoft/resnet-50` and `google/vit-base-patch16-224-in21k` too), a ResNet under torchvision's
    names, a ViT under timm's, or a NanoDet-Plus or MobileNetV2 whose tensors are numbered as
    they are computed, or a DarkNet in any format that `refseg.encoders.vision.darknet_weights` reads. Strict: raises
    `CheckpointError` for tensors that are missing, unexplained or of another size, and when the model has no such
    encoder.
    """
    for part, name, table in (("vision", vision, VISION), ("text", text, TEXT)):
        if name is None:
            continue
        encoder = getattr(model, part, None)
        kind = next((kind for kind in table.values() if type(encoder) is kind.module), None)
        if encoder is None or kind is None or kind.read is None:
            known = " or ".join(kind.module.__name__ for kind in table.values() if kind.read is not None)
            raise CheckpointError(f"{name}: pretrained {part} weights fit {known}, not {type(encoder).__name__}")
        path = _locate(name)
        _put(encoder, kind, part, path, kind.read(path, encoder))


def load_word_vectors(model: nn.Module, path: str | Path, words: Sequence[str]) -> list[str]:
    """Put the vectors of a GloVe or word2vec file into the word table of `model.text`; `words` are its rows in order.

    A `WordTransformer` has the vectors, scaled to a mean length of 1, beside its learnt embeddings, which begin at zero
    for those words. Words that the file does not have get zeros, and are returned. Raises `CheckpointError` when the
    encoder has no such table, or the file's vectors have another width.
    """
    encoder = getattr(model, "text", None)
    if isinstance(encoder, WordTransformer) and encoder.given is not None:
        vectors = _read_vectors(path, words, encoder.given, "text.vectors")
        with torch.no_grad():
            encoder.given.copy_(vectors.table / vectors.table[vectors.known].norm(dim=1).mean().clamp(min=1e-6))
            encoder.words.weight[vectors.known] = 0.0
    elif isinstance(encoder, (RecurrentText, GloveTransformer)):
        width = "text.embedding" if isinstance(encoder, RecurrentText) else "text.width"
        vectors = _read_vectors(path, words, encoder.words.weight, width)
        with torch.no_grad():
            encoder.words.weight.copy_(vectors.table)
    else:
        raise CheckpointError(
            f"{path}: word vectors fit RecurrentText, GloveTransformer and, with text.vectors, WordTransformer, "
            f"not {type(encoder).__name__}"
        )
    return [word for word, known in zip(words, vectors.known.tolist(), strict=True) if not known]


def _read_vectors(path: str | Path, words: Sequence[str], table: Tensor, field: str) -> WordVectors:
    vectors = read_vectors(path, words)
    if vectors.table.shape != table.shape:
        raise CheckpointError(
            f"{path}: {len(words)} words of {vectors.table.shape[1]} channels, the model wants {len(table)} of "
            f"{table.shape[1]} ({field}={table.shape[1]}); choose the file of that width, or set the field"
        )
    return vectors


def _put(encoder: nn.Module, kind: Encoder, part: str, path: Path, weights: dict[str, Tensor]) -> None:
    own = encoder.state_dict()
    missing = [key for key in own if key not in weights and not key.startswith(kind.fresh)]
    spare = kind.spare
    if isinstance(encoder, ResNet):  # a model may leave out the stages behind the map that it takes
        spare += tuple(f"stages.{number}." for number in range(len(encoder.stages), 4))
    weights = {key: value for key, value in weights.items() if key in own or not key.startswith(spare)}
    unexpected = [key for key in weights if key not in own]
    if missing or unexpected:
        raise CheckpointError(
            f"{path}: does not fit the model's {part} encoder"
            + (f"; missing: {listed(missing)}" if missing else "")
            + (f"; without a place: {listed(unexpected)}" if unexpected else "")
        )
    for key, value in weights.items():
        if value.shape != own[key].shape:
            raise CheckpointError(f"{path}: {key} is {tuple(value.shape)}, the model wants {tuple(own[key].shape)}")
    encoder.load_state_dict(weights, strict=False)


def _locate(name: str) -> Path:
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
