"""`refseg import`: an authors' checkpoint becomes a model folder that every other verb takes."""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import Any

from refseg.errors import CheckpointError, RefsegError

DEFAULT_TOKENIZER = "google-bert/bert-base-uncased"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.epilog = (
        "The file's sizes and variant are read off its tensors; names that nothing explains are listed and nothing is "
        "written. Only tensors are read: a checkpoint cannot run code here."
    )
    parser.add_argument("system", help="whose checkpoint it is, such as rela")
    parser.add_argument(
        "checkpoint", type=Path, help="the authors' file: .pth, .pkl, .pt, .bin, .safetensors; for vlt .npz or .h5 too"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="model folder to write")
    parser.add_argument(
        "--tokenizer",
        default=DEFAULT_TOKENIZER,
        metavar="FOLDER_OR_HUB_ID",
        help="BERT's word pieces: a folder with tokenizer.json or vocab.txt, or a hub id (default: %(default)s)",
    )
    parser.add_argument(
        "--glove",
        metavar="FILE",
        help="vlt: word vectors for the words of --tokenizer, which then is a folder with vocabulary.txt",
    )
    parser.add_argument("--input-size", type=int, default=480, help="side of the input (default: %(default)s)")
    parser.add_argument("--max-words", type=int, default=20, help="word pieces of a sentence (default: %(default)s)")
    parser.add_argument("--half", action="store_true", help="store the weights in 16 bits")


def run(arguments: argparse.Namespace) -> None:
    """Read, check, write."""
    from refseg.encoders.text.tokenizer import WordPieceTokenizer, load_tokenizer
    from refseg.inference.checkpoint_files import read_state
    from refseg.official import load

    _check_output(arguments.output)
    if arguments.system == "vlt":
        _run_vlt(arguments)
        return
    state = read_state(arguments.checkpoint)
    try:
        model = load(arguments.system, state, input_size=arguments.input_size, max_words=arguments.max_words)
    except CheckpointError as error:
        raise CheckpointError(f"{arguments.checkpoint}: {error}") from error
    tokenizer = load_tokenizer(arguments.tokenizer, arguments.max_words)
    rows = model.config.text.vocabulary_size  # type: ignore[union-attr]
    if not isinstance(tokenizer, WordPieceTokenizer) or tokenizer.vocabulary_size != rows:
        raise CheckpointError(
            f"--tokenizer {arguments.tokenizer}: {tokenizer.vocabulary_size} entries, but the checkpoint's text "
            f"encoder has {rows}; give the word pieces that it was trained with"
        )
    _save(arguments, model, tokenizer, len(state))


def _run_vlt(arguments: argparse.Namespace) -> None:
    """VLT reads whole words, whose vectors are not among its weights; its input size is in them."""
    from refseg.encoders.text.glove import read_vectors
    from refseg.encoders.text.tokenizer import WordTokenizer, load_tokenizer
    from refseg.encoders.vision.darknet_weights import read_arrays
    from refseg.official import load

    tokenizer = load_tokenizer(arguments.tokenizer, arguments.max_words) if arguments.glove else None
    if not isinstance(tokenizer, WordTokenizer) or arguments.glove is None:
        raise RefsegError(
            "vlt: the weights hold no word vectors; give --glove FILE (the authors' are GloVe 840B, 300 channels) and "
            "--tokenizer FOLDER with the vocabulary.txt of the words that the model shall know"
        )
    vectors = read_vectors(arguments.glove, tokenizer.words).table
    state = read_arrays(arguments.checkpoint)
    try:
        model = load("vlt", state, max_words=arguments.max_words, vectors=vectors)
    except CheckpointError as error:
        raise CheckpointError(f"{arguments.checkpoint}: {error}") from error
    _save(arguments, model, tokenizer, len(state), threshold=0.35)


def _save(arguments: argparse.Namespace, model: Any, tokenizer: Any, tensors: int, **more: float) -> None:
    """The model's folder, with where it comes from."""
    from refseg.inference.checkpoint import save_model

    source = {
        "system": arguments.system,
        "file": arguments.checkpoint.name,
        "sha256": _sha256(arguments.checkpoint),
        "tokenizer": arguments.tokenizer,
    }
    save_model(arguments.output, model, tokenizer, {"source": source, **more}, half=arguments.half)
    count = sum(parameter.numel() for parameter in model.parameters())
    print(f"{arguments.output}: {arguments.system}, {count / 1e6:.1f} M parameters, {tensors} tensors read")


def _check_output(folder: Path) -> None:
    """A model folder is replaced, anything else that lies there is not touched."""
    if folder.is_file():
        raise RefsegError(f"{folder} is a file; -o wants a folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "config.json").is_file():
        raise RefsegError(f"{folder} is not empty and no model folder; choose another one for -o")


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        digest = hashlib.sha256()
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
