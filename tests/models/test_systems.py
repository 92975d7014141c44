"""What every system of the table keeps to beside `ModelContract`: presets, rows of the papers' tables, tags, and that
the small presets fit two cores and learn."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from refseg.models import MODELS, build, preset
from refseg.models.lts.model import pointed
from refseg.nn.losses import tag_loss
from refseg.types import Output
from tests.support.contract import assert_near, batch_of, targets_of, tensors_of, training_batch
from tests.support.learning import drawn_batch, fit, mean_iou, train_a_step
from tests.support.tiny_systems import TINY, tiny_rela

ROWS = [(system, row) for system in MODELS for row in MODELS[system].ablations]


@pytest.mark.parametrize("system", MODELS)
def test_presets_are_those_of_the_systems_file_and_can_be_built(system: str) -> None:
    config = import_module(f"refseg.models.{system}.config")
    assert MODELS[system].presets is config.PRESETS
    for each in config.PRESETS.values():
        with torch.device("meta"):
            assert build(each).config == each


# Rows of the papers' tables

ONE_MODEL: dict[str, list[set[str]]] = {
    "rela": [
        {"PAPER", "table 2 #4: ReLA", "table 3 #4: ReLA", "table 4: 10x10 regions"},
        {"LAVT_RELA", "table 5: LAVT+ReLA"},
    ],
    "lavt": [{"OFFICIAL", "GRES, table 5: LAVT"}],
    "vlt": [
        {
            "PAPER", "table 4.1: transformer", "table 4.2 #3: QGM", "table 4.3: 16 queries", "table 4.4: SDF",
            "table 4.5: MCL", "table 4.6: p_m", "figure 4.13: N_DO 10%", "table 4.7: Darknet-53",
        },
        {"PAPER_SWIN", "table 4.7: Swin-B"},
        {"PAPER_VIDEO", "table 4.8: video, 2 frames each way"},
        {"RELA", "GRES table 5: VLT+ReLA"},
        {"table 4.5: CL", "table 4.6: none"},
    ],
    "m3att": [{"PAPER", "table 5.1: shared, 3 layers", "table 5.2 #4: M3Att", "table 5.3: M3Att"}],
    "isfp": [{"PAPER", "table 3.1: baseline, IEM, RAM, RM"}],
    "lts": [
        {
            "PAPER", "table 2: fusion, filter, segmentation, locating loss", "table 4: LTS", "table 5: n=1",
            "table 6: 416", "table 7: LTS",
        },
        {"PAPER_TRANSFORMER", "table 4: LTS-Trans"},
    ],
    "restr": [{"PAPER", "table 4: 4 layers"}, {"table 3b: CME", "table 4: 4 layers, no decoder"}],
    "reftr": [
        {"PAPER", "table 1: ResNet-50"},
        {"PAPER_R101", "table 1: ResNet-101"},
        {"OFFICIAL", "multi-task: boxes and masks", "context: attention"},
    ],
    "mattnet": [{"OFFICIAL", "table 2: MAttN:subj(+attr+attn)+loc(+dif)+rel"}],
    "cris": [{"GRES", "GRES, table 5: CRIS"}],
}  # fmt: skip
"""Presets and rows that are one configuration: the paper's own model stands in each of its tables."""


@pytest.mark.parametrize("system", MODELS)
def test_other_rows_are_different_models(system: str) -> None:
    names = defaultdict(set)
    for name, config in {**MODELS[system].presets, **MODELS[system].ablations}.items():
        names[repr(config)].add(name)
    assert [each for each in names.values() if len(each) > 1] == ONE_MODEL.get(system, [])


def rela_losses(row: str, config: Any) -> set[str]:
    deep = {"earlier"} if "LAVT" not in row and getattr(config.relation, "deep_supervision", False) else set()
    return {"mask", "no_target"} | deep | ({"minimap"} if "without minimap" not in row else set())


def reftr_losses(row: str, config: Any) -> set[str]:
    boxes = {"box_l1", "box_giou"} if config.tasks != "res" else set()
    masks = {"focal", "dice"} if config.tasks != "rec" else set()
    named = {"losses: consistency": {"consistency"}, "losses: boxes of earlier layers": {"earlier"}}
    return boxes | masks | named.get(row, set())


def vlt_losses(row: str, config: Any) -> set[str]:
    contrast = set() if config.inter_sample.kind == "none" else {"contrastive"}
    return {"mask"} | contrast | ({"minimap", "no_target"} if "ReLA" in row else set())


LOSSES: dict[str, Callable[[str, Any], set[str]]] = {
    "rela": rela_losses,
    "lavt": lambda row, config: {"mask"},
    "vlt": vlt_losses,
    "m3att": lambda row, config: {"mask"} if "baseline" in row else {"mask", "reconstruction"},
    "isfp": lambda row, config: (
        {"segment"} | ({"identify"} if "IEM" in row else set()) | ({"refine"} if "RM" in row else set())
    ),
    "lts": lambda row, config: {"mask", "locating"} if "table 2" not in row or "locating loss" in row else {"mask"},
    "restr": lambda row, config: {"pixel"} if "no decoder" in row or "3b" in row else {"pixel", "patch"},
    "reftr": reftr_losses,
    "mattnet": lambda row, config: (
        {"object_rank", "expression_rank"} | ({"target"} if config.selection == "binary" else set())
    ),
    "cris": lambda row, config: {"contrast"},
    "instances": lambda row, config: {"choice", "no_target", "anchor"},
}
"""The losses of a row of each system."""


def shapes(system: str, row: str, config: Any, output: Output) -> None:
    """What a row has that others of its table have not, in the answers to three expressions about 64 x 80 pixels."""
    size, told = tuple(output.mask_logits.shape[1:]), output.auxiliary
    if system == "rela":
        assert told["minimap_logits"].shape == (3, config.regions**2)
    elif system == "isfp":
        assert size == ((64, 80) if "RM" in row else (8, 10))
        assert ("channel_logits" in told) == ("IEM" in row)
        assert "IEM" not in row or told["channel_logits"].shape == (3, 9, 8, 10)
    elif system == "lts":
        assert size == ((16, 20) if "table 2" not in row or "segmentation" in row else (8, 10))
    elif system == "restr":
        own = config.fusion.layers if config.fusion.encoder == "vme" else config.fusion.layers // 2
        assert output.attention_maps["modalities"].shape == (3, own, 2)
    elif system == "mattnet":
        assert told["module_scores"][0].shape[1] == (len(config.module_names) or 1)


def parts(system: str, config: Any, model: nn.Module) -> None:
    """Which parts a row's model is made of."""
    if system == "m3att":
        assert len(model.decoder.layers) == config.decoder.layers
        wanted = 0 if config.decoder.interaction == "none" else config.decoder.layers - 1
        assert len(model.decoder.interactions) == wanted
    frozen, trained = (
        {name.split(".")[0] for name, value in model.named_parameters() if value.requires_grad is trained}
        for trained in (False, True)
    )
    rules = {"chooser"} if system == "instances" and not config.chooser.trained else set()
    assert frozen <= rules | ({"proposer", "vision"} if system in ("mattnet", "instances") else set())
    assert not frozen & trained


ONE_LAYER = {"multi-task: boxes alone"}
"""Rows whose first step moves the last layer alone, which starts at 0."""


@pytest.mark.parametrize(("system", "row"), ROWS, ids=[f"{system}: {row}" for system, row in ROWS])
def test_rows_of_the_tables_build_run_and_train_a_step(system: str, row: str) -> None:
    config = MODELS[system].ablations[row]
    small = tiny_rela(config, min(config.regions, 4)) if system == "rela" else TINY[system](config)
    model, output, losses = train_a_step(small, lr=1e-5)
    assert set(losses) == LOSSES[system](row, small)
    shapes(system, row, small, output)
    parts(system, small, model)
    taught = [value.grad is not None and bool(value.grad.any()) for value in model.parameters() if value.requires_grad]
    assert bool(taught) == (row != "symbolic")
    assert sum(taught) >= (0.01 if row in ONE_LAYER else 0.9) * len(taught)
    with torch.no_grad():
        assert all(value.isfinite().all() for value in tensors_of(model.eval()(training_batch(small))))


# Small presets

SIZES = {
    "rela-mini": (3e6, 25e6 / 4), "isfp-mini": (3e6, 6e6), "lts-mini": (3e6, 6e6), "m3att-mini": (4e6, 5e6),
    "restr-mini": (3e6, 10e6), "restr-mini-resnet": (3e6, 10e6), "reftr-mini": (3e6, 10e6), "vlt-mini": (3e6, 10e6),
    "vlt-mini-mcl": (3e6, 10e6),
}  # fmt: skip
"""More and fewer parameters than these have the small presets."""


@pytest.mark.parametrize("name", SIZES)
def test_small_presets_fit_two_cores(name: str) -> None:
    config: Any = preset(name)
    least, most = SIZES[name]
    with torch.device("meta"):
        assert least < sum(parameter.numel() for parameter in build(config).parameters()) < most
    assert 160 <= config.input.size <= 224


# Tags

TAGGED = sorted(
    name for name in TINY if "MINI" in MODELS[name].presets and hasattr(MODELS[name].presets["MINI"], "tags")
)


@pytest.mark.parametrize("system", TAGGED)
def test_tags_are_a_loss_of_the_pictures_and_change_no_answer(system: str) -> None:
    config = TINY[system](MODELS[system].presets["MINI"])
    tagged = replace(config, tags=("red", "dog"))
    plain, model = build(config).eval(), build(tagged).eval()
    plain.load_state_dict({name: value for name, value in model.state_dict().items() if not name.startswith("tags.")})
    batch = batch_of(config, sentences=3, pictures=2, image_index=[1, 0, 1])
    output, untagged = model(batch), plain(batch)
    assert torch.equal(output.mask_logits, untagged.mask_logits)
    assert output.auxiliary["tag_logits"].shape[:2] == (2, 2)
    targets = targets_of(batch, tagged)
    losses = model.losses(output, targets)
    assert set(losses) - set(plain.losses(untagged, targets)) == {"tags"}
    enlarged = F.interpolate(output.auxiliary["tag_logits"], size=(16, 20), mode="bilinear")
    expected = config.losses.tags * tag_loss(enlarged, targets.tags)
    assert_near(losses["tags"].detach(), expected.detach())
    assert expected > 0
    losses["tags"].backward()
    assert model.tags.weight.grad is not None
    assert model.tags.weight.grad.any()


# They learn


class Lesson(NamedTuple):
    """How a small preset learns eight drawn samples by heart: steps, and steps at the end that slow down."""

    steps: int
    fall: int | None = None
    lr: float = 1e-3
    size: int = 160
    iou: float = 0.8
    batch: dict[str, Any] = {}  # noqa: RUF012


LESSONS = {
    "rela-mini": Lesson(100, fall=20, size=192),
    "isfp-mini": Lesson(200, batch={"instances": True}),
    "lts-mini": Lesson(150),
    "m3att-mini": Lesson(150),
    "restr-mini": Lesson(180, fall=30, iou=0.7),
    "restr-mini-resnet": Lesson(180, fall=30, iou=0.7),
    "reftr-mini": Lesson(150, fall=30, batch={"boxes": True}),
    # Falling to 0 from the start, so that the statistics of the normalisation catch up.
    "vlt-mini": Lesson(100, fall=100, lr=2e-3, size=192, batch={"groups": "picture"}),
    "vlt-mini-mcl": Lesson(100, fall=100, lr=2e-3, size=192, batch={"groups": "picture"}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LESSONS)
def test_minis_overfit_eight_drawn_samples(name: str) -> None:
    lesson, config = LESSONS[name], preset(name)
    if "vlt" in name:
        config = replace(config, text=replace(config.text, dropout=0.0))
    if hasattr(config, "no_target_head") and name != "reftr-mini":
        config = replace(config, no_target_head=True)

    def rate(step: int) -> float:
        warm = 1.0 if lesson.fall is None or "vlt" in name else (step + 1) / 10
        return lesson.lr * min(1.0, warm, 1.0 if lesson.fall is None else (lesson.steps - step) / lesson.fall)

    config, batch, targets = drawn_batch(config, size=lesson.size, **lesson.batch)
    output = fit(build(config), batch, targets, steps=lesson.steps, rate=rate)
    assert mean_iou(output, targets) > lesson.iou
    if output.no_target_logits is not None:
        assert ((output.no_target_logits > 0) == targets.no_target).all()
    if targets.boxes is not None:
        assert float((output.boxes - targets.boxes)[~targets.no_target].abs().max()) < 0.1
    if output.location_logits is not None:
        assert float(pointed(output.location_logits, targets.masks)[~targets.no_target].float().mean()) > 0.8
