"""The stopwatch's arithmetic, and a whole run on a tiny model."""

import json
import time

import pytest
import torch

from refseg.cli.main import main
from refseg.errors import RefsegError
from refseg.studies import benchmark
from refseg.studies.benchmark import STAGES, Case, Options, Report, run_benchmark
from refseg.studies.stopwatch import Stopwatch


@pytest.fixture(autouse=True)
def one_thread():
    """Tiny products only wait for each other on two."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_an_inner_stage_is_taken_off_the_outer_one():
    watch = Stopwatch(torch.device("cpu"), STAGES)
    with watch.stage("fusion"):
        time.sleep(0.02)
        with watch.stage("vision"):
            time.sleep(0.05)
        time.sleep(0.01)
    assert 0.03 <= watch.times["fusion"] < 0.05 + 0.02
    assert watch.times["vision"] >= 0.05
    assert watch.times["text"] == 0


def test_parts_are_counted_even_when_they_fail():
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.text = torch.nn.Linear(2, 2)

    model, watch = Model(), Stopwatch(torch.device("cpu"), STAGES)
    with watch.watching(model), watch.stage("fusion"):
        model.text(torch.zeros(1, 2))
        with pytest.raises(RuntimeError):
            model.text(torch.zeros(1, 3))
    assert watch.times["text"] > 0
    assert not watch._running
    before = watch.times["text"]
    model.text(torch.zeros(1, 2))
    assert watch.times["text"] == before


def test_ratios_pair_the_rounds():
    def case(name, sentences, seconds):
        stages = {stage: [0.0] * len(seconds) for stage in STAGES}
        return Case(name, "float32", 1, sentences, stages | {"vision": seconds})

    cases = [case("a", 1, [1.0, 2.0, 4.0]), case("b", 1, [0.5, 1.0, 1.0]), case("a", 16, [3.0, 6.0, 12.0])]
    report = Report(Options(), "random", {}, cases)
    assert report.ratio(cases[1], report.baseline(cases[1])) == 0.5
    assert report.ratio(cases[2], report.single(cases[2])) == 3.0
    assert report.to_dict()["cases"][1]["ratio"] == {"of": "a", "time": 0.5}


@pytest.fixture
def tiny(monkeypatch):
    """The released wiring at a few channels, under the name of a preset."""
    from dataclasses import replace

    from refseg.encoders.text.bert import BertTextConfig
    from refseg.encoders.vision.swin import SwinConfig
    from refseg.geometry import InputConfig
    from refseg.models.rela.config import OFFICIAL, DeformableConfig
    from refseg.models.rela.masked_regions import MaskedRegionDecoderConfig

    config = replace(
        OFFICIAL,
        input=InputConfig(size=96),
        vision=SwinConfig(embed_dim=16, depths=(1, 2, 2, 1), heads=(1, 2, 2, 2), window=4),
        text=BertTextConfig(vocabulary_size=50, width=24, layers=1, heads=2, feedforward=32),
        pixel_decoder=DeformableConfig(layers=1, heads=2, points=2, feedforward=32, groups=4),
        width=16,
        regions=4,
        relation=MaskedRegionDecoderConfig(layers=3, heads=2, feedforward=32),
    )
    build = benchmark.build

    def filled(config):
        model = build(config)
        for parameter in model.parameters():
            if parameter.ndim > 1 and not parameter.any():  # what starts at zero would hide a part
                torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
        return model

    monkeypatch.setattr(benchmark, "preset", lambda name: config)
    monkeypatch.setattr(benchmark, "build", filled)


def test_all_cases_and_the_reference_agree(tiny):
    options = Options(
        model="rela-official", precisions=("float32", "bfloat16"), sentences=(1, 3), rounds=2, reference=True
    )
    report = run_benchmark(options)
    assert [(case.name, case.sentences) for case in report.cases] == [
        (name, count) for count in (1, 3) for name in ("reference", "float32", "bfloat16")
    ]
    for case in report.cases:
        assert all(len(times) == 2 and min(times) > 0 for times in case.stages.values())
    for case in report.cases:
        if case.name == "float32":
            assert case.agreement["logits"] < 2e-5
        elif case.name == "bfloat16":
            assert 0 < case.agreement["logits"] < 0.2
    assert report.weights == "random"


def test_the_command_prints_and_writes(tiny, tmp_path, capsys):
    out = tmp_path / "times.json"
    code = main(["benchmark", "rela-official", "--sentences", "2", "--rounds", "1", "--json", str(out)])
    assert code == 0
    assert "float32" in capsys.readouterr().out
    written = json.loads(out.read_text())
    assert written["cases"][0]["median"]["total"] > 0
    assert set(written["cases"][0]["median"]) == {*STAGES, "total"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--precision", "float8"],
        ["--sentences", "1;4"],
        ["--rounds", "0"],
        ["--sentences", ""],
        ["--threads", "0"],
        ["--json", "."],
        ["rela-mini-of-nowhere"],
    ],
)
def test_bad_input_is_one_line(arguments, capsys):
    assert main(["benchmark", *arguments]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_reference_is_for_rela_alone():
    with pytest.raises(RefsegError, match="rela-official"):
        benchmark._reference(torch.nn.Linear(1, 1))
