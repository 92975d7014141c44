"""A step of training, timed part by part: what is counted, what takes turns, and what the command prints."""

import json
from dataclasses import replace

import pytest
import torch

from refseg.cli.main import main
from refseg.errors import RefsegError
from refseg.models import preset
from refseg.studies import training_speed
from refseg.studies.operation_counts import count_flops
from refseg.studies.training_speed import STAGES, TrainingOptions, matmul_peak, run_training_benchmark, small_systems


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """One thread, and no time spent on the machine's peak."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr(training_speed, "PEAK_SIDE", 64)
    monkeypatch.setattr(training_speed, "PEAK_SECONDS", 0.0)
    yield
    torch.set_num_threads(threads)


def test_products_of_forward_and_backward_are_counted():
    weight = torch.randn(5, 3, requires_grad=True)
    inputs = torch.randn(7, 5)
    product = 2 * 7 * 5 * 3
    assert count_flops(lambda: inputs @ weight) == product
    # The inputs want no gradient, so that backward has one product more.
    assert count_flops(lambda: (inputs @ weight).sum().backward()) == 2 * product
    assert count_flops(lambda: torch.nn.functional.conv2d(torch.zeros(1, 2, 4, 4), torch.zeros(3, 2, 1, 1))) == 192


def test_a_peak_is_operations_a_second():
    assert 1e6 < matmul_peak("float32", torch.device("cpu")) < 1e16


def test_every_system_with_a_small_preset_is_timed():
    names = small_systems()
    assert {"rela-mini", "vlt-mini", "mattnet-mini", "cris-mini"} <= set(names)
    assert all(name.endswith("-mini") for name in names)
    assert len(set(names)) == len(names)


def test_a_step_has_all_its_parts_and_learns():
    report = run_training_benchmark(TrainingOptions(("vlt-mini",), pictures=2, sentences=2, size=64, rounds=2))
    (case,) = report.cases
    assert case.size == 64
    assert case.sentences == 4
    assert case.trained == case.parameters
    assert set(case.stages) == set(STAGES)
    for stage, seconds in case.stages.items():
        assert len(seconds) == 2, stage
        assert min(seconds) > 0, stage
    assert case.totals == [sum(times) for times in zip(*case.stages.values(), strict=True)]
    assert case.flops > 0
    assert report.reference_ratio(case) is None
    written = json.loads(json.dumps(report.to_dict()))["cases"][0]
    parts = written["median"]
    assert sum(case.stages[stage][0] for stage in STAGES) == pytest.approx(case.totals[0])
    assert parts["total"] * written["sentences_per_second"] == pytest.approx(4)
    assert written["share_of_peak"] == pytest.approx(case.flops / parts["total"] / report.peaks["float32"])


def test_a_frozen_encoder_is_not_computed():
    plain, frozen = (
        run_training_benchmark(
            TrainingOptions(("lts-mini",), pictures=2, sentences=2, size=64, rounds=1, frozen=kept)
        ).cases[0]
        for kept in (False, True)
    )
    assert frozen.frozen
    assert not plain.frozen
    assert frozen.trained < frozen.parameters == plain.trained
    assert frozen.flops < plain.flops


def test_the_reference_computes_the_same_step(monkeypatch):
    from refseg.encoders.text.bert import BertTextConfig
    from refseg.encoders.vision.swin import SwinConfig
    from refseg.geometry import InputConfig
    from refseg.models.rela.config import DeformableConfig
    from refseg.models.rela.masked_regions import MaskedRegionDecoderConfig

    config = replace(
        preset("rela-official"),
        input=InputConfig(size=64),
        vision=SwinConfig(embed_dim=16, depths=(1, 2, 2, 1), heads=(1, 2, 2, 2), window=4),
        text=BertTextConfig(vocabulary_size=500, width=24, layers=1, heads=2, feedforward=32),
        pixel_decoder=DeformableConfig(layers=1, heads=2, points=2, feedforward=32, groups=4),
        width=16,
        regions=4,
        relation=MaskedRegionDecoderConfig(layers=3, heads=2, feedforward=32),
    )
    monkeypatch.setattr(training_speed, "preset", lambda name: config)
    options = TrainingOptions(("rela-official",), pictures=2, sentences=1, reference=True, rounds=1)
    report = run_training_benchmark(options)
    plain, ours = report.cases
    assert (plain.name, ours.name) == ("reference float32", "float32")
    assert ours.first_loss == pytest.approx(plain.first_loss, rel=1e-4)
    assert ours.first_norm == pytest.approx(plain.first_norm, rel=1e-3)
    assert report.reference_ratio(ours) == pytest.approx(plain.totals[0] / ours.totals[0])
    assert report.reference_ratio(plain) is None


def test_the_reference_is_for_rela_alone():
    with pytest.raises(RefsegError, match="rela-official"):
        run_training_benchmark(TrainingOptions(("vlt-mini",), pictures=1, sentences=2, size=64, reference=True))


def test_the_command_prints_and_writes(tmp_path, capsys):
    out = tmp_path / "times.json"
    arguments = ["--pictures", "2", "--sentences", "2", "--size", "64", "--rounds", "1", "--json", str(out)]
    assert main(["benchmark", "rela-mini", "--train", "--frozen", *arguments]) == 0
    printed = capsys.readouterr().out
    assert "rela-mini frozen" in printed
    assert "backward" in printed
    case = json.loads(out.read_text())["cases"][0]
    assert case["model"] == "rela-mini"
    assert set(case["median"]) == {*STAGES, "total"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["rela-mini", "--size", "64"],
        ["rela-mini", "--frozen"],
        ["rela-minni", "--train"],
        ["rela-mini", "--train", "--size", "8"],
        ["rela-mini", "--train", "--pictures", "1,2"],
        ["rela-mini", "--train", "--sentences", "0"],
        ["rela-mini", "--train", "--compile"],
        ["rela-mini", "--train", "--precision", "int8"],
    ],
)
def test_bad_input_is_one_line(arguments, capsys):
    assert main(["benchmark", *arguments]) == 2
    assert capsys.readouterr().err.count("\n") == 1
