"""Models as graphs: the same answers as torch's in ONNX Runtime and OpenVINO, or a clear word why not."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip("onnx", reason="onnx is not installed: pip install 'refseg[onnx]'")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'refseg[onnx]'")

import refseg
from refseg.encoders.text.minilm import MiniLMConfig, WordPieces
from refseg.encoders.text.tokenizer import ByteTokenizer
from refseg.encoders.vision.nanodet import NanoDetConfig
from refseg.errors import CheckpointError, RefsegError
from refseg.geometry import InputConfig
from refseg.inference.export.parity import answers_of, compare
from refseg.inference.export.trace import _largest, _mean, _pooled
from refseg.inference.export.write import export
from refseg.inference.predictor import Segmenter
from refseg.inference.segmentation import Segmentation
from refseg.models.instances.config import DetectorConfig, InstancesConfig, ProposalConfig
from refseg.models.instances.masks import MaskDecoderConfig
from refseg.models.instances.model import build_instances
from refseg.types import Output, Targets
from tests.support.instance_pictures import painted
from tests.support.tiny_model import write_model_folder

TEXTS = ["the red ball on the left", "two dogs", "all of the green ball"]


def pictures(count=2):
    return [
        painted((70 + 20 * number, 90), [((30, 30), 20, (200, 30, 30)), ((40, 70), 15, (30, 60, 200))])[0]
        for number in range(count)
    ]


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    return refseg.load(write_model_folder(tmp_path_factory.mktemp("dense") / "model"), device="cpu")


@pytest.fixture(scope="module")
def exported(dense, tmp_path_factory):
    """The dense model as an ONNX folder, with its report."""
    folder = tmp_path_factory.mktemp("onnx") / "model"
    return folder, export(dense, folder, images=pictures(), texts=TEXTS)


@pytest.fixture(scope="module")
def small_instances():
    """`instances` with random weights, a small input and a MiniLM of one layer: it proposes nonsense, a lot of it."""
    torch.manual_seed(3)
    config = InstancesConfig(
        input=InputConfig(size=96, resize="longest"),
        detector=DetectorConfig(
            detector=NanoDetConfig(widths=(16, 32, 64), depths=(1, 1, 1), stem_width=8, side=64),
            proposals=ProposalConfig(min_score=0.0, candidates=30, most=6),
            masks=MaskDecoderConfig(coarse=8, middle=8, fine=4, crop=33),
        ),
        text=MiniLMConfig(hidden_dim=48, layers=1, heads=4, feedforward=64),
        max_masks=3,
    )
    model = build_instances(config).eval()
    pieces = model.chooser.means.pieces
    assert isinstance(pieces, WordPieces)
    model.anchors.fill(model.text, pieces)
    return Segmenter(model, ByteTokenizer(), device="cpu")


def test_parity_is_exact_at_every_batch_size(exported):
    _, report = exported
    assert [entry.batch for entry in report.parity] == [1, 2, 8]
    assert all(entry.exact and entry.answers == 6 for entry in report.parity)
    assert all(entry.score < 1e-4 for entry in report.parity)


def test_folder_describes_itself(exported, dense):
    folder, report = exported
    document = json.loads((folder / "export.json").read_text())
    assert document["graphs"] == {"encode": "encode.onnx", "answer": "answer.onnx"}
    assert document["preprocessing"]
    assert document["postprocessing"]
    assert document["parity"][0]["pixels"] == 0
    assert set(report.files) == {path.name for path in folder.iterdir()}
    loaded = refseg.load(folder)  # the folder says which runtime
    assert loaded.late_fusion
    assert loaded.thresholds == dense.thresholds


def test_lists_of_pictures_and_expressions(exported, dense):
    folder, _ = exported
    loaded = refseg.load(folder, runtime="onnxruntime")
    images = pictures(3)
    for rows, wanted in zip(loaded(images, TEXTS, batch_size=4), dense(images, TEXTS, batch_size=4), strict=True):
        for answer, other in zip(rows, wanted, strict=True):
            assert (answer.mask == other.mask).all()
            assert answer.no_target == other.no_target
            assert answer.score == pytest.approx(other.score, abs=1e-4)


def test_openvino_reads_both_kinds_of_folders(exported, dense, tmp_path):
    pytest.importorskip("openvino", reason="openvino is not installed: pip install 'refseg[openvino]'")
    folder, _ = exported
    reference = answers_of(dense, pictures(), TEXTS, 2)
    for loaded in (refseg.load(folder, runtime="openvino"),):
        assert compare(reference, answers_of(loaded, pictures(), TEXTS, 2), 2).exact
    report = export(dense, tmp_path / "ov", to="openvino", images=pictures(1), texts=TEXTS)
    assert {"encode.xml", "encode.bin", "answer.xml", "answer.bin"} <= report.files.keys()
    assert all(entry.exact for entry in report.parity)
    assert refseg.load(tmp_path / "ov").late_fusion
    with pytest.raises(CheckpointError, match="runtime='openvino'"):
        refseg.load(tmp_path / "ov", runtime="onnxruntime")


def test_instances_keep_python_and_exchange_networks(small_instances, tmp_path):
    texts = ["the red cup on the left", "two dogs", "the whatchamacallit"]
    report = export(small_instances, tmp_path / "model", images=pictures(1), texts=texts)
    assert all(entry.exact for entry in report.parity), report.parity
    assert {"detector.onnx", "regions.onnx", "masks.onnx", "words.onnx", "rest.safetensors"} <= report.files.keys()
    loaded = refseg.load(tmp_path / "model")
    one, other = (each.encode(pictures(2)[1]) for each in (small_instances, loaded))
    found = 0
    for text in texts:
        options = {"threshold": 0.01, "no_target_threshold": 1.0, "probabilities": True}
        mine, theirs = (each.ask(text, **options) for each in (other, one))
        assert np.allclose(mine.probabilities, theirs.probabilities, atol=1e-4)
        assert mine.extra == theirs.extra
        assert [each.label for each in mine.instances] == [each.label for each in theirs.instances]
        found += len(mine.instances)
    assert found  # the comparison saw masks
    # Eight-bit weights of words stay eight bits wide: a float32 graph would have more than four bytes a weight.
    weights = sum(value.numel() for name, value in small_instances.model.text.state_dict().items() if "weight" in name)
    assert report.files["words.onnx"] < 2 * weights + 100_000


def test_eight_bits_are_smaller_and_measured(dense, exported, tmp_path):
    _, plain = exported
    report = export(dense, tmp_path / "model", int8=True, images=pictures(), texts=TEXTS)
    assert report.files["encode.onnx"] < 0.6 * plain.files["encode.onnx"]
    assert report.parity[0].score > 0  # rounding shows
    assert json.loads((tmp_path / "model" / "export.json").read_text())["int8"] is True


@pytest.mark.parametrize(("length", "bins"), [(7, 3), (8, 4), (5, 8), (6, 1)])
def test_plain_pooling_is_adaptive_pooling(length, bins):
    values = torch.randn(2, 3, length, length + 1)
    size = (bins, None)
    mean = torch.nn.functional.adaptive_avg_pool2d(values, size)
    assert torch.allclose(_pooled(values, size, 2, _mean), mean, atol=1e-6)
    assert torch.equal(_pooled(values, size, 2, _largest), torch.nn.functional.adaptive_max_pool2d(values, size))


def test_bad_input(dense, exported, tmp_path):
    folder, _ = exported
    with pytest.raises(RefsegError, match="at least one of each"):
        export(dense, tmp_path / "x")
    assert not list(tmp_path.iterdir())  # nothing half-written
    with pytest.raises(CheckpointError, match="no exported model"):
        refseg.load("rela-photo", runtime="onnxruntime")
    with pytest.raises(RefsegError, match="float32"):
        refseg.load(folder, precision="bfloat16")
    nothing = Output(torch.zeros(1, 4, 4))
    with pytest.raises(RefsegError, match="not trained"):
        refseg.load(folder).model.losses(nothing, Targets(torch.zeros(1, 4, 4, dtype=torch.bool), torch.ones(1).bool()))
    with pytest.raises(RefsegError, match="no weights to save"):
        refseg.load(folder).save_pretrained(tmp_path / "copy")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / "encode.onnx").write_bytes(b"no graph"), "cannot read it"),
        (lambda folder: (folder / "encode.onnx").unlink(), "no such file"),
        (lambda folder: (folder / "export.json").write_text("{"), "export the model again"),
        (lambda folder: edit(folder, format=9), "format 9"),
        (lambda folder: edit(folder, graphs={"encode": "../../etc/passwd"}), "file name in the same folder"),
        (lambda folder: edit(folder, kind="program"), "not what refseg export writes"),
    ],
)
def test_damaged_folders(exported, tmp_path, damage, words):
    folder = shutil.copytree(exported[0], tmp_path / "model")
    damage(folder)
    with pytest.raises(CheckpointError, match=words):
        refseg.load(folder, runtime="onnxruntime")


def edit(folder, **changes):
    path = folder / "export.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_size_for_every_picture_cannot_be_exported(dense, tmp_path):
    config = replace(dense.model.config, input=InputConfig(size=64, resize="longest"))
    from refseg.models import build

    with pytest.raises(RefsegError, match="longest"):
        export(Segmenter(build(config), dense.tokenizer, device="cpu"), tmp_path / "x", images=pictures(1), texts=TEXTS)


def test_parity_counts_what_differs():
    mask = np.zeros((4, 5), dtype=bool)
    mask[:2] = True
    near = np.where(mask, 0.51, 0.2).astype(np.float32)
    one = Segmentation(mask, None, False, 0.1, 0.51, "a dog", probabilities=near)
    moved = mask.copy()
    moved[0] = False
    other = Segmentation(moved, None, False, 0.3, 0.51, "a dog", probabilities=near)
    nothing = Segmentation(np.zeros_like(mask), None, True, 0.9, 0.1, "a dog", probabilities=near)
    found = compare([one, one], [other, one], 8)
    assert (found.answers, found.pixels, found.of_pixels, found.decisions) == (2, 5, 40, 0)
    assert found.tolerance == pytest.approx(0.01, abs=1e-6)
    assert found.score == pytest.approx(0.2)
    assert found.iou == pytest.approx((0.5 + 1) / 2)
    assert not found.exact
    assert compare([one], [nothing], 1).decisions == 1
    assert compare([one, nothing], [one, nothing], 1).exact
