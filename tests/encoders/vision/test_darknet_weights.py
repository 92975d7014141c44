"""Darknet's own files and Keras's arrays into the encoder: every number in its place, and damaged files say where."""

import struct

import numpy as np
import pytest
import torch

from refseg.encoders.pretrained import load_backbones
from refseg.encoders.vision.darknet import DarkNet, DarkNetConfig
from refseg.encoders.vision.darknet_weights import from_keras, read_arrays
from refseg.errors import CheckpointError
from tests.support.keras_files import write_keras

SMALL = DarkNetConfig(widths=(2, 4, 4, 8, 12, 16), depths=(1, 1, 1, 1, 1), freeze="none")
NORMS = ("bias", "weight", "running_mean", "running_var")


def random_darknet(config=SMALL):
    model = DarkNet(config)
    with torch.no_grad():
        for value in model.state_dict().values():
            if value.is_floating_point():
                value.copy_(torch.randn(value.shape))
    return model


def parent(config=SMALL):
    model = torch.nn.Module()
    model.vision = DarkNet(config)
    return model


def numbers_of(model):
    """The floats in the order of the Darknet project's `load_convolutional_weights`."""
    parts = []
    for conv in model.convolutions():
        parts += [getattr(conv.norm, name) for name in NORMS] + [conv.conv.weight]
    return np.concatenate([part.detach().numpy().ravel() for part in parts]).astype("<f4")


def keras_of(model, first=0):
    def number(index):
        return "" if index + first == 0 else f"_{index + first}"

    arrays = {}
    for index, conv in enumerate(model.convolutions()):
        arrays[f"conv2d{number(index)}/kernel:0"] = conv.conv.weight.detach().permute(2, 3, 1, 0).numpy()
        for theirs, ours in zip(("beta", "gamma", "moving_mean", "moving_variance"), NORMS, strict=True):
            arrays[f"batch_normalization{number(index)}/{theirs}:0"] = getattr(conv.norm, ours).detach().numpy()
    return arrays


def write(path, numbers, version=(0, 2, 0)):
    seen = struct.pack("<q" if version[0] * 10 + version[1] >= 2 else "<i", 32013312)
    path.write_bytes(struct.pack("<3i", *version) + seen + numbers.tobytes())
    return path


def same(one, other):
    return all(
        torch.equal(value, other.state_dict()[name])
        for name, value in one.state_dict().items()
        if value.is_floating_point()
    )


def detector_size(classes):
    """Numbers behind the 58 convolutions of a YOLOv3 of these widths, counted layer by layer."""
    outputs = 3 * (5 + classes)

    def conv(inputs, outputs, kernel):
        return outputs * (4 + inputs * kernel**2)

    def detect(inputs):
        return outputs * (1 + inputs)

    def block(inputs, half, width):
        return conv(inputs, half, 1) + conv(half, width, 3) + 2 * (conv(width, half, 1) + conv(half, width, 3))

    return (
        (detect(16) + conv(8, 6, 1) + block(6 + 12, 6, 12))
        + (detect(12) + conv(6, 4, 1) + block(4 + 8, 4, 8))
        + detect(8)
    )


@pytest.mark.parametrize("version", [(0, 1, 0), (0, 2, 0), (0, 2, 5)])
@pytest.mark.parametrize("classes", [None, 1, 80])
def test_weights_files_of_both_headers(tmp_path, version, classes):
    model = random_darknet()
    rest = 0 if classes is None else detector_size(classes)
    path = write(tmp_path / "yolo.weights", np.append(numbers_of(model), np.zeros(rest, dtype="<f4")), version)
    other = parent()
    load_backbones(other, vision=str(path))
    assert same(model, other.vision)


def test_a_whole_file_serves_a_model_without_head(tmp_path):
    model = random_darknet()
    numbers = np.append(numbers_of(model), np.zeros(detector_size(80), dtype="<f4"))
    other = parent(DarkNetConfig(SMALL.widths, SMALL.depths, head=False, freeze="none"))
    load_backbones(other, vision=str(write(tmp_path / "yolo.weights", numbers)))
    assert same(other.vision, model)


def test_the_published_file_has_its_published_size():
    """yolov3.weights has 248,007,048 bytes; of its numbers 56,367,712 are ours."""
    from refseg.encoders.vision.darknet_weights import _is_detector

    with torch.device("meta"):
        model = DarkNet(DarkNetConfig())
    rest = (248_007_048 - 20) // 4 - 56_367_712
    assert _is_detector(model, rest)
    assert not _is_detector(model, rest + 1)


def test_damaged_weights_say_where(tmp_path):
    numbers = numbers_of(random_darknet())
    path, model = tmp_path / "yolo.weights", parent()
    write(path, numbers[:100])
    with pytest.raises(CheckpointError, match=r"yolo\.weights: cut short at byte 420, in convolution \d+ of 22 \("):
        load_backbones(model, vision=str(path))
    write(path, np.append(numbers, np.zeros(7, dtype="<f4")))
    with pytest.raises(
        CheckpointError, match=rf"7 numbers are left over after convolution 22, at byte {20 + 4 * len(numbers)}"
    ):
        load_backbones(model, vision=str(path))
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(CheckpointError, match="whole 32-bit numbers"):
        load_backbones(model, vision=str(path))
    path.write_bytes(b"short")
    with pytest.raises(CheckpointError, match="5 bytes are too few"):
        load_backbones(model, vision=str(path))
    path.write_bytes(b"\xff" * 40)
    with pytest.raises(CheckpointError, match=r"version -1\.-1"):
        load_backbones(model, vision=str(path))


@pytest.mark.parametrize("first", [0, 1])
def test_keras_arrays_in_an_archive(tmp_path, first):
    model, other = random_darknet(), parent()
    np.savez(tmp_path / "yolo.npz", **keras_of(model, first))
    load_backbones(other, vision=str(tmp_path / "yolo.npz"))
    assert same(model, other.vision)


def test_our_own_names_are_taken_too(tmp_path):
    from safetensors.torch import save_file

    model, other = random_darknet(), parent()
    save_file(model.state_dict(), tmp_path / "darknet.safetensors")
    load_backbones(other, vision=str(tmp_path / "darknet.safetensors"))
    assert same(model, other.vision)


def test_keras_hdf5_needs_its_package_or_reads(tmp_path):
    path, model = tmp_path / "yolo.h5", random_darknet()
    try:
        import h5py
    except ImportError:
        path.write_bytes(b"")
        with pytest.raises(CheckpointError, match="pip install 'refseg"):
            read_arrays(path)
        return
    for named, prefix in ((True, "model_weights/"), (True, ""), (False, "model_weights/"), (False, "")):
        with h5py.File(path, "w") as file:
            write_keras(file, keras_of(model, 1), prefix, named)
            file["optimizer_weights/step:0"] = np.zeros(1, dtype="f4")
        other = parent()
        load_backbones(other, vision=str(path))
        assert same(model, other.vision)
    with h5py.File(path, "r+") as file:
        file["conv2d_1"].attrs["weight_names"] = [b"conv2d_1/kernel:0", b"conv2d_1/lost:0"]
    with pytest.raises(CheckpointError, match="conv2d_1/lost:0 is listed and not there"):
        read_arrays(path)
    path.write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="not an HDF5 file"):
        read_arrays(path)


def test_keras_arrays_that_do_not_fit(tmp_path):
    model = random_darknet()
    arrays = {name: torch.from_numpy(value.copy()) for name, value in keras_of(model).items()}
    with pytest.raises(CheckpointError, match=r"22 convolutions and 22 normalisations.*unexplained: dense/kernel:0"):
        from_keras({**arrays, "dense/kernel:0": torch.zeros(2, 2)}, model)
    lost = {name: value for name, value in arrays.items() if not name.startswith("conv2d_3/")}
    with pytest.raises(CheckpointError, match="21 convolutions and 22 normalisations, 22 of each wanted"):
        from_keras(lost, model)
    biased = {**arrays, "conv2d_3/bias:0": torch.zeros(2)}
    with pytest.raises(CheckpointError, match=r"the arrays of stages\.\d.* are kernel, bias"):
        from_keras(biased, model)
    wrong = {name: value[..., :1] if name == "conv2d_3/kernel:0" else value for name, value in keras_of(model).items()}
    np.savez(tmp_path / "yolo.npz", **wrong)
    with pytest.raises(CheckpointError, match=r"conv\.weight is \(1, .*the model wants"):
        load_backbones(parent(), vision=str(tmp_path / "yolo.npz"))
    (tmp_path / "yolo.npz").write_bytes(b"PK damaged")
    with pytest.raises(CheckpointError, match="not an archive of arrays"):
        load_backbones(parent(), vision=str(tmp_path / "yolo.npz"))
