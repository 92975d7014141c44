"""`refseg models` and `refseg import`: what there is, what it costs, and authors' checkpoints as model folders."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, is_dataclass
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Annotated, Any

from refseg.cli import foundation, options
from refseg.cli.app import App
from refseg.cli.options import arg, flag, opt
from refseg.cli.tables import print_table
from refseg.errors import CheckpointError, RefsegError

if TYPE_CHECKING:
    from torch import nn

    from refseg.encoders.text.tokenizer import Tokenizer

TOKENIZER = "google-bert/bert-base-uncased"
_CRIS = {"tokenizer": "openai/clip-vit-base-patch32", "input_size": 416, "max_words": 17}
"""Of whose published models text and sizes are not those of the other systems."""

app = App()


def _names() -> list[str]:
    from refseg.models import MODELS, preset_names, row_names

    return [*MODELS, *preset_names(), *row_names()]


@app.command("models")
def models(
    name: Annotated[
        str | None,
        arg(
            "NAME",
            "system (rela), preset (rela-paper), ablation (rela: table 4: 8x8 regions), network by id",
            names=_names,
        ),
    ] = None,
    fields: Annotated[bool, flag("--fields", "with a name: type, value and text of every field")] = False,
    cost: Annotated[bool, flag("--cost", "with a name: parameters and operations of its parts")] = False,
    size: Annotated[int | None, opt("PX", "with --cost: side of the picture in pixels (default: the preset's)")] = None,
    json: options.Json = False,
) -> None:
    """List systems, presets, ablations, networks of transformers and the weights that are here; with a name, its
    configuration."""
    from refseg.models import MODELS

    if size is not None and not cost:
        raise RefsegError("--size belongs to --cost")
    if name is None:
        if cost or fields:
            raise RefsegError(f"{'--cost' if cost else '--fields'} wants the name of a preset, such as rela-mini")
        _print_all(json)
    elif name.lower() in MODELS:
        if cost or fields:
            presets = ", ".join(_label(name.lower(), key) for key in MODELS[name.lower()].presets)
            raise RefsegError(f"{name} is a system; {'--cost' if cost else '--fields'} wants a preset: {presets}")
        _print_system(name.lower(), json)
    elif foundation.is_network(name):
        if not cost or size is not None:
            raise RefsegError(f"{name}: of a folder or a repository --cost alone is told, what its weights take")
        foundation.print_size(name, json)
    elif cost:
        _print_cost(name, size, json)
    elif fields:
        _print_fields(name, json)
    else:
        _print_one(name, json)


def _print_all(as_json: bool) -> None:
    from refseg.models import MODELS

    installed = options.model_names()
    if as_json:
        systems = {name: _system_document(name) for name in MODELS}
        print(json.dumps({"systems": systems, "weights": installed, "networks": foundation.families()}, indent=1))
        return
    for name in MODELS:
        _print_system(name, False)
    foundation.print_families()
    print(f"weights that came with refseg: {', '.join(installed) or 'none'}")


def _system_document(name: str) -> dict[str, Any]:
    """A system's paper, presets and rows of ablation tables as JSON values."""
    from refseg.models import MODELS

    system = MODELS[name]
    return {
        "title": system.title,
        "presets": {_label(name, key): _summary(config) for key, config in system.presets.items()},
        "ablations": [f"{name}: {row}" for row in system.ablations],
    }


def _print_system(name: str, as_json: bool) -> None:
    document = _system_document(name)
    if as_json:
        print(json.dumps(document, indent=1))
        return
    print(document["title"])
    installed = options.model_names()
    width = max(map(len, document["presets"]))
    for label, summary in document["presets"].items():
        print(f"  {label:<{width}}  {summary}{'  [weights here]' if label in installed else ''}")
    if document["ablations"]:
        print("  ablations:")
        for row in document["ablations"]:
            print(f"    {row}")


def _print_one(name: str, as_json: bool) -> None:
    from refseg.config import to_dict, to_toml
    from refseg.models import build, preset

    config = preset(name)
    count = sum(parameter.numel() for parameter in build(config).parameters())
    if as_json:
        print(json.dumps({"name": name, "parameters": count, "config": to_dict(config)}, indent=1))
    else:
        print(f"# {name}: {count / 1e6:.2f} M parameters\n{to_toml(config)}", end="")


def _print_fields(name: str, as_json: bool) -> None:
    from refseg.models import preset

    rows = list(_fields(preset(name)))
    if as_json:
        print(json.dumps([dict(zip(("name", "type", "value", "text"), row, strict=True)) for row in rows], indent=1))
        return
    for field, kind, value, text in rows:
        print(f"{field}: {kind}" + ("" if value is None else f" = {value!r}"))
        if text:
            print(
                fill(
                    text, min(shutil.get_terminal_size().columns, 120), initial_indent="    ", subsequent_indent="    "
                )
            )


def _fields(config: Any, prefix: str = "") -> Iterator[tuple[str, str, Any, str]]:
    """Name, type, value and text of each field, those of a nested configuration behind it."""
    from refseg.config import describe

    for entry in describe(type(config)):
        if "." in entry.name:
            continue  # fields of a default that this configuration may not have
        value = getattr(config, entry.name)
        nested = is_dataclass(value)
        yield f"{prefix}{entry.name}", entry.type, None if nested else value, entry.text
        if nested:
            yield from _fields(value, f"{prefix}{entry.name}.")


def _print_cost(name: str, size: int | None, as_json: bool) -> None:
    from refseg.models import preset
    from refseg.studies.operation_counts import count_cost

    cost = count_cost(preset(name), size)
    if as_json:
        document = {"name": name, **asdict(cost), "parameters": cost.parameters, "macs": cost.macs}
        print(json.dumps(document, indent=1))
        return
    print(f"{name}: one picture of {cost.size} x {cost.size} pixels, one expression of {cost.words} words")
    rows = [*((part.name, part.parameters, part.macs) for part in cost.parts), ("total", cost.parameters, cost.macs)]
    print_table(
        ("", "parameters", "G MACs"),
        [(label, f"{parameters:,}", f"{macs / 1e9:.3f}") for label, parameters, macs in rows],
        lines=False,
    )
    if cost.further_sentence is None:
        print("a further expression on the same picture costs the same again")
    else:
        print(f"a further expression on the same picture: {cost.further_sentence / 1e9:.3f} G MACs")


def _label(system: str, key: str) -> str:
    return f"{system}-{key}".lower().replace("_", "-")


def _summary(config: Any) -> str:
    """What a preset is made of, in a few words."""
    from refseg.models.lavt.config import LAVTConfig

    encoders = [getattr(config, part, None) for part in ("vision", "detector", "text")]
    parts = [type(encoder).__name__.removesuffix("Config") for encoder in encoders if encoder is not None]
    parts.append(f"{config.input.size} pixels")
    inside = getattr(config, "language_in_vision", isinstance(config, LAVTConfig))
    parts.append("words inside the picture encoder" if inside else "a picture is encoded once")
    return ", ".join(parts)


@app.command("import")
def import_weights(
    system: Annotated[str, arg("SYSTEM", "whose checkpoint it is, such as rela")],
    checkpoint: Annotated[Path, arg("FILE", "the authors' .pth, .pkl, .pt, .bin, .safetensors, .npz or .h5")],
    output: Annotated[Path, options.output("model folder to write")],
    tokenizer: Annotated[
        str | None,
        opt("NAME", f"folder with tokenizer.json or vocab.txt, or hub id (default: {TOKENIZER}; cris: CLIP's)"),
    ] = None,
    glove: Annotated[Path | None, opt("FILE", "vlt: vectors of the words in --tokenizer's vocabulary.txt")] = None,
    input_size: Annotated[int | None, opt("PX", "side of the input (default: 480; cris: 416)")] = None,
    max_words: Annotated[int | None, opt("N", "word pieces of an expression (default: 20; cris: 17)")] = None,
    layers: Annotated[int | None, opt("N", "restr: of the fusion, where its blocks are shared")] = None,
    half: Annotated[bool, flag("--half", "store the weights in 16 bits")] = False,
) -> None:
    """Turn an authors' checkpoint into a model folder, which every other verb takes.

    The file's sizes and variant are read off its tensors; names that nothing explains are listed and nothing is
    written. Only tensors are read: a checkpoint cannot run code here.
    """
    from refseg.inference.checkpoint import save_model
    from refseg.official import load

    options.check_model_folder(output)
    usual: dict[str, Any] = _CRIS if system == "cris" else {}
    tokenizer = tokenizer or usual.get("tokenizer", TOKENIZER)
    input_size, max_words = input_size or usual.get("input_size", 480), max_words or usual.get("max_words", 20)
    settings: dict[str, Any] = {"max_words": max_words}
    # What the authors' own evaluation asks of a pixel's probability.
    more: dict[str, float] = {"threshold": 0.35} if system in ("cris", "vlt") else {}
    if layers is not None:
        settings["layers"] = layers
    if system == "vlt":
        from refseg.encoders.vision.darknet_weights import read_arrays

        words, settings["vectors"] = _vectors(tokenizer, glove, max_words)
        state = read_arrays(checkpoint)
    else:
        from refseg.state_dicts import read_state

        state, settings["input_size"] = read_state(checkpoint), input_size
    try:
        model = load(system, state, **settings)
    except CheckpointError as error:
        raise CheckpointError(f"{checkpoint}: {error}") from error
    if system != "vlt":
        words = _word_pieces(tokenizer, max_words, model)
    source = {"system": system, "file": checkpoint.name, "sha256": _sha256(checkpoint), "tokenizer": tokenizer}
    save_model(output, model, words, {"source": source, **more}, half=half)
    count = sum(parameter.numel() for parameter in model.parameters())
    print(f"{output}: {system}, {count / 1e6:.1f} M parameters, {len(state)} tensors read")


def _vectors(tokenizer: str, glove: Path | None, max_words: int) -> tuple[Tokenizer, Any]:
    """VLT reads whole words, whose vectors are not among its weights."""
    from refseg.encoders.text.glove import read_vectors
    from refseg.encoders.text.tokenizer import WordTokenizer, load_tokenizer

    words = load_tokenizer(tokenizer, max_words) if glove else None
    if not isinstance(words, WordTokenizer) or glove is None:
        raise RefsegError(
            "vlt: the weights hold no word vectors; give --glove FILE (the authors' are GloVe 840B, 300 channels) and "
            "--tokenizer FOLDER with the vocabulary.txt of the words that the model shall know"
        )
    return words, read_vectors(glove, words.words).table


def _word_pieces(tokenizer: str, max_words: int, model: nn.Module) -> Tokenizer:
    """The word pieces of a model that has BERT, checked to be as many as it knows."""
    from refseg.encoders.text.tokenizer import WordPieceTokenizer, load_tokenizer

    words = load_tokenizer(tokenizer, max_words)
    rows = model.config.text.vocabulary_size  # type: ignore[union-attr]
    if not isinstance(words, WordPieceTokenizer) or words.vocabulary_size != rows:
        raise CheckpointError(
            f"--tokenizer {tokenizer}: {words.vocabulary_size} entries, but the checkpoint's text encoder has {rows}; "
            "give the word pieces that it was trained with"
        )
    return words


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
