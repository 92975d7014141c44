"""Published VLT weights: every name and size explained, and the published code's numbers reproduced."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from refseg.encoders.text.tokenizer import WordTokenizer
from refseg.encoders.vision.darknet_weights import read_arrays
from refseg.errors import CheckpointError
from refseg.models.vlt.official import _normalised
from refseg.official import load
from refseg.types import Targets
from tests.support.keras_files import write_keras

GOLDEN = Path(__file__).parents[1] / "golden" / "vlt"
TOLERANCE = 1e-4  # of the largest value


def fill(name: str, shape: list[int]) -> Tensor:
    """The golden file's rule for Keras: the same weights anywhere."""
    values = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape).astype(np.float32)
    if len(shape) >= 2:
        values = values / np.float32(np.sqrt(np.prod(shape[:-1])))
    elif "moving_variance" in name:
        values = 0.75 + 0.25 * np.abs(values)
    elif "gamma" in name:
        values = 1 + 0.1 * values
    else:
        values = 0.1 * values
    return torch.from_numpy(values.astype(np.float32))


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    return json.loads((GOLDEN / "official_416.json").read_text())


@pytest.fixture(scope="module")
def state(described) -> dict[str, Tensor]:
    return {name: fill(name, shape) for name, shape in described["keys"].items()}


def smaller(size: int) -> int:
    """A size of the published model in one of a sixteenth of the channels; queries, kernels and places stay."""
    kept = {1: 1, 3: 3, 16: 16, 676: 676, 300: 300, 518: 512 // 16 + 6}
    return kept.get(size, size // 16)


@pytest.fixture(scope="module")
def small(described) -> dict[str, Tensor]:
    return {name: fill(name, [smaller(size) for size in shape]) for name, shape in described["keys"].items()}


def near(found: Tensor, expected: Tensor) -> None:
    assert float((found - expected).abs().max()) <= TOLERANCE * float(expected.abs().max())


@torch.no_grad()
def test_golden_values(described, state) -> None:
    with np.load(GOLDEN / "official_416.npz") as file:
        golden = {name: torch.from_numpy(file[name]) for name in ("text", "words", "sentence", "queries", "output")}
        bits, loss, checksum = file["target_packed"], float(file["loss"][0]), float(file["image_checksum"])
    model = load("vlt", state)
    assert not model.training
    numbers = {name: value for name, value in model.state_dict().items() if "num_batches" not in name}
    assert sum(value.numel() for value in numbers.values()) - 3 * 300 == described["parameters"] == 89_377_674
    pictures = np.random.default_rng(20260101).random((2, 416, 416, 3), dtype=np.float32)
    assert pictures.sum(dtype=np.float64) == checksum
    images, real = torch.from_numpy(pictures).permute(0, 3, 1, 2), torch.ones(2, 416, 416, dtype=torch.bool)
    text = model.text.encode(golden["text"], torch.ones(2, 15, dtype=torch.bool))
    near(text.words, golden["words"])
    near(text.sentence, golden["sentence"])
    vision = model.encode_image(images, real)
    source = model.fusion.decode(vision.visual, text.words, text.sentence, text.mask).source
    queries = model.query_generation(model.query_generation.visual_queries(source), text.words, text.mask)
    near(queries.vectors, golden["queries"])
    output = model.decode(vision, text)
    near(output.mask_logits, golden["output"][..., 0])
    masks = torch.from_numpy(np.unpackbits(bits)[: 2 * 208 * 208].reshape(2, 208, 208).astype(bool))
    losses = model.losses(output, Targets(masks, torch.zeros(2, dtype=torch.bool)))
    assert float(losses["mask"]) == pytest.approx(loss, rel=TOLERANCE)
    assert set(losses) == {"mask", "kernel_decay"}
    # The decay is over the trained kernels: all but the frozen body's.
    kernels = [value for name, value in state.items() if value.ndim == 4 and int(number_of(name)) >= 56]
    expected = 5e-4 * float(sum(kernel.square().sum() for kernel in kernels))
    assert float(losses["kernel_decay"]) == pytest.approx(expected, rel=1e-4)


def number_of(name: str) -> str:
    layer = name.partition("/")[0]
    return layer.rpartition("_")[2] if "_" in layer else "0"


def test_sizes_are_read_off_the_arrays_and_words_may_come_along(small) -> None:
    table = torch.randn(7, 300)
    model = load("vlt", small, max_words=20, vectors=table)
    config = model.config
    assert (config.input.size, config.grid, config.width, config.queries.number) == (416, 26, 16, 16)
    assert (config.text.hidden, config.text.embedding, config.text.max_words) == (64, 300, 20)
    assert (config.transformer.encoder_layers, config.transformer.decoder_layers) == (2, 2)
    assert config.vision.widths == (2, 4, 8, 16, 32, 64)
    assert config.text.vocabulary_size == 7
    assert torch.equal(model.text.words.weight, table)


def test_names_of_older_keras_count_from_one() -> None:
    ours = ["conv2d/kernel:0", "conv2d_12/kernel:0", "dense/bias:0", "multi_head_attention/multi_head_attention_Wq:0"]
    older = ["conv2d_1/kernel:0", "conv2d_13/kernel:0", "dense_1/bias:0"]
    older += ["multi_head_attention_1/multi_head_attention_1_Wq:0"]
    gru = "bidirectional/forward_gru/gru_cell/recurrent_kernel:0", "bidirectional_1/forward_gru_1/recurrent_kernel:0"
    one, other = (
        list(_normalised({name: torch.zeros(1) for name in names})) for names in ([*ours, gru[0]], [*older, gru[1]])
    )
    assert one == other
    assert one[-1] == "bidirectional/forward_gru/recurrent_kernel"


def test_what_does_not_fit_is_listed(small) -> None:
    with pytest.raises(CheckpointError, match=r"unexplained: conv2d_80/kernel"):
        load("vlt", {**small, "conv2d_80/kernel:0": torch.zeros(1, 1, 2, 2)})
    lost = {name: value for name, value in small.items() if name != "dense_9/bias:0"}
    with pytest.raises(CheckpointError, match=r"not in the checkpoint.*query_balance\.joint\.bias"):
        load("vlt", lost)
    with pytest.raises(CheckpointError, match=r"conv2d_60/kernel is .*wanted \(32, 32, 1, 1\)"):
        load("vlt", {**small, "conv2d_60/kernel:0": torch.zeros(1, 1, 32, 3)})
    with pytest.raises(CheckpointError, match="not a checkpoint of VLT"):
        load("vlt", {"conv1.weight": torch.zeros(3)})


def test_the_command_makes_a_folder_that_answers(small, tmp_path, capsys) -> None:
    import refseg
    from refseg.cli.main import main

    np.savez(tmp_path / "vlt.npz", **{name: value.numpy() for name, value in small.items()})
    command = ["import", "vlt", str(tmp_path / "vlt.npz"), "-o", str(tmp_path / "vlt"), "--max-words", "15"]
    assert main(command) == 2
    assert "give --glove FILE" in capsys.readouterr().err
    WordTokenizer(["red", "cup", "purple"]).save(tmp_path / "words")
    rows = [f"{word} " + " ".join(["0.5"] * 300) for word in ("cup", "red")]
    (tmp_path / "glove.txt").write_text("\n".join(rows) + "\n")
    options = ["--glove", str(tmp_path / "glove.txt"), "--tokenizer", str(tmp_path / "words")]
    assert main([*command, *options]) == 0
    assert "tensors read" in capsys.readouterr().out
    segmenter = refseg.load(tmp_path / "vlt", device="cpu")
    assert segmenter.info["threshold"] == 0.35
    table = segmenter.model.text.words.weight
    assert table.sum(dim=1).tolist() == [0.0, 0.0, 150.0, 150.0, 0.0]
    found = segmenter(np.zeros((40, 60, 3), dtype=np.uint8), "red cup")
    assert found.mask.shape == (40, 60)


@pytest.mark.parametrize("named", [True, False])
def test_a_keras_file_gives_the_same_model_as_its_arrays(small, tmp_path, named) -> None:
    """Weights of recurrent layers have longer names than others: forward and backward must not become one."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "vlt.h5", "w") as file:
        write_keras(file, {name: value.numpy() for name, value in small.items()}, named=named)
    arrays = read_arrays(tmp_path / "vlt.h5")
    assert arrays.keys() == small.keys()
    read, given = load("vlt", arrays).state_dict(), load("vlt", small).state_dict()
    assert all(torch.equal(read[name], given[name]) for name in given)
