"""How fast systems train: a whole step of the training loop, part by part.

    loader      a batch from drawn scenes that lie on disk: pictures placed, expressions tokenised, targets made
    text        expressions -> features
    vision      the picture's encoder, without what language does inside it
    mask        the parts that draw the mask
    fusion      everything else in the model
    loss        losses
    backward    gradients
    clipping    the gradient's norm, and clipping
    optimiser   AdamW
    average     the moving average of the weights

Cases of a model take turns in every round, as in `refseg.studies.benchmark`, and meet the same batches. The share of
the peak is the step's matrix products, counted, by its time and the speed of a square matrix product in this run.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, dataclass, field, replace
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from refseg.encoders.text.tokenizer import WordTokenizer
from refseg.encoders.vision.resnet import ResNetConfig
from refseg.errors import RefsegError
from refseg.models import MODELS, build, preset, preset_names
from refseg.precision import Precision, computing_in, in_float32
from refseg.studies.operation_counts import count_flops
from refseg.studies.stopwatch import Stopwatch, describe_machine
from refseg.training.ema import WeightEMA
from refseg.training.optimizer import GroupRule, OptimizerConfig, build_optimizer, parameter_groups
from refseg.training.recipe import DataRecipe, ModelRecipe, Recipe
from refseg.training.setup import fit_vocabulary
from refseg.training.source import Batches, ScenePictures
from refseg.training.state import seed_step
from refseg.training.visual_cache import lending
from refseg.types import Batch, Output, Targets, VisualFeatures

__all__ = ["STAGES", "TrainingCase", "TrainingOptions", "TrainingReport", "run_training_benchmark", "small_systems"]

STAGES = (
    *("loader", "text", "vision", "mask", "fusion", "loss"),
    *("backward", "clipping", "optimiser", "average"),
)
OFFICIAL = "rela-official-swin-t"
"""What is timed beside the small systems when no model is named."""
BATCHES = 2
"""Different batches, which the rounds take in turn."""
LARGEST_SCENE = 320
"""Side of a drawn scene in pixels; larger inputs enlarge it."""
PEAK_SIDE = 1024
PEAK_SECONDS = 0.4
CLIP, DECAY = 1.0, 0.998


@dataclass(frozen=True)
class TrainingOptions:
    """What is measured: every model in every precision, `rounds` times."""

    models: tuple[str, ...] = ()
    """Names of presets; none takes `small_systems` and ReLA's released structure with Swin-T."""
    precisions: tuple[Precision, ...] = ("float32",)
    pictures: int = 8
    """Pictures of a batch."""
    sentences: int = 6
    """Expressions on each."""
    size: int | None = None
    """Side of the input in pixels; None takes each model's own."""
    frozen: bool = False
    """Where a ResNet sees no expression, keep it as it is and give its maps, as from a cache."""
    reference: bool = False
    """Also time ReLA's published structure written plainly (`refseg.studies.rela_reference`), in each precision."""
    rounds: int = 3
    device: str = "cpu"
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.pictures, self.sentences, self.rounds) < 1:
            raise RefsegError("benchmark: pictures, sentences and rounds are 1 or more")
        if not self.precisions:
            raise RefsegError("benchmark: at least one precision is wanted")
        if self.size is not None and not 32 <= self.size <= 2048:
            raise RefsegError(f"benchmark: --size {self.size}: 32 to 2048 pixels")


@dataclass
class TrainingCase:
    """One row: seconds a step by stage, round after round."""

    model: str
    name: str
    """The precision, after "reference" where that is what was timed."""
    precision: Precision
    size: int
    sentences: int
    """Of a step."""
    frozen: bool
    parameters: int
    trained: int
    flops: int = 0
    """Of a step's matrix products, backward pass included."""
    first_loss: float = float("nan")
    first_norm: float = float("nan")
    """Loss and norm of the gradient before the first step: equal for cases that compute the same."""
    stages: dict[str, list[float]] = field(default_factory=lambda: {stage: [] for stage in STAGES})

    @property
    def begun(self) -> bool:
        """Whether the first step is done."""
        return not math.isnan(self.first_loss)

    @property
    def totals(self) -> list[float]:
        """Seconds of each round's step."""
        return [sum(times) for times in zip(*self.stages.values(), strict=True)]

    @property
    def speed(self) -> float:
        """Expressions a second, by the median step."""
        return self.sentences / median(self.totals)


@dataclass
class TrainingReport:
    """All cases of a run, and the machine that ran them."""

    options: TrainingOptions
    machine: dict[str, Any]
    peaks: dict[str, float]
    """Operations a second of a square matrix product, by precision."""
    cases: list[TrainingCase]

    def share(self, case: TrainingCase) -> float:
        """What part of the machine's peak in the case's precision a step reaches, 0 to 1."""
        return case.flops / median(case.totals) / self.peaks[case.precision]

    def reference_ratio(self, case: TrainingCase) -> float | None:
        """Time of the plain structure by that of the case, the median over pairs of one round; None without one."""
        for other in self.cases:
            if other.name == f"reference {case.precision}" and other.model == case.model and other is not case:
                return median(a / b for a, b in zip(other.totals, case.totals, strict=True))
        return None

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        rows = []
        for case in self.cases:
            row = {name: value for name, value in vars(case).items() if name != "stages"}
            times = {stage: median(seconds) for stage, seconds in case.stages.items()}
            row["median"] = times | {"total": median(case.totals)}
            row["fastest"] = {stage: min(seconds) for stage, seconds in case.stages.items()} | {
                "total": min(case.totals)
            }
            row["sentences_per_second"] = case.speed
            row["share_of_peak"] = self.share(case)
            row["reference_by_this"] = self.reference_ratio(case)
            rows.append(row)
        return {"options": asdict(self.options), "machine": self.machine, "peaks": self.peaks, "cases": rows}


def small_systems() -> list[str]:
    """The preset MINI of every system that has one."""
    return [name for name in (f"{system}-mini" for system in MODELS) if name in preset_names()]


def run_training_benchmark(options: TrainingOptions, progress: Callable[[str], None] | None = None) -> TrainingReport:
    """Time all cases in turn; `progress` is told which one comes. Raises `RefsegError` for what cannot be measured."""
    from refseg.inference.predictor import choose_device

    say = progress or (lambda text: None)
    device = choose_device(options.device)
    precisions = list(dict.fromkeys(options.precisions))
    peaks: dict[str, float] = {precision: matmul_peak(precision, device) for precision in precisions}
    cases: list[TrainingCase] = []
    # Model after model, so that one machine's memory holds them; what is compared takes turns.
    for name in options.models or (*small_systems(), OFFICIAL):
        say(f"{name}: preparing")
        with tempfile.TemporaryDirectory() as folder:
            steps = _steps(name, options, precisions, device, folder)
            for step in steps:
                say(f"{name}: {step.case.name}, first step")
                step.first()
            for number in range(options.rounds):
                for step in steps:
                    say(f"{name}: {step.case.name}, round {number + 1} of {options.rounds}")
                    step.run(number)
        cases += [step.case for step in steps]
    return TrainingReport(options, describe_machine(device), peaks, cases)


def matmul_peak(precision: Precision, device: torch.device) -> float:
    """Operations a second of the fastest product of two square matrices within some tenths of a second."""
    kind = getattr(torch, precision)
    left, right = (torch.randn(PEAK_SIDE, PEAK_SIDE, device=device).to(kind) for _ in range(2))
    result = torch.empty_like(left)
    torch.mm(left, right, out=result)
    best, begun = float("inf"), time.perf_counter()
    while best == float("inf") or time.perf_counter() - begun < PEAK_SECONDS:
        _synchronize(device)
        before = time.perf_counter()
        torch.mm(left, right, out=result)
        _synchronize(device)
        best = min(best, time.perf_counter() - before)
    return 2 * PEAK_SIDE**3 / best


class _Step:
    """A model in one precision, with its optimiser and average, and the batches it learns from."""

    def __init__(
        self,
        case: TrainingCase,
        model: Any,
        batches: Batches,
        device: torch.device,
        maps: list[VisualFeatures],
        plain: bool,
    ) -> None:
        self.case, self.model, self.batches, self.device, self.maps = case, model, batches, device, maps
        self.plain = plain
        rules = (GroupRule(names=("vision.*",), train=False),) if maps else ()
        config = OptimizerConfig(lr=1e-5, groups=rules)
        groups = parameter_groups(model, config)
        self.parameters = [parameter for group in groups for parameter in group["params"]]
        self.optimizer = build_optimizer(groups, config)
        self.average = WeightEMA(model, DECAY)
        model.train()

    def first(self) -> None:
        """The step that is not timed: it counts the products, and keeps the loss."""
        watch = Stopwatch(self.device, STAGES)
        self.case.flops = count_flops(lambda: self._learn(watch, 0))

    def run(self, number: int) -> None:
        """A timed step on batch `number`, in turn."""
        watch = Stopwatch(self.device, STAGES)
        with watch.watching(self.model):
            self._learn(watch, number % BATCHES)
        for stage, seconds in watch.times.items():
            self.case.stages[stage].append(seconds)

    def _learn(self, watch: Stopwatch, number: int) -> None:
        with watch.stage("loader"):
            batch, targets = self.batches[number]
            batch, targets = batch.to(self.device), targets.to(self.device)
        # Dropout falls alike in all cases of a model.
        seed_step(0, number, 0)
        with ExitStack() as stack:
            stack.enter_context(watch.stage("fusion"))
            stack.enter_context(lending(self.model.vision, self.maps[number]) if self.maps else nullcontext())
            output = in_float32(self._answer(batch, watch))
        with watch.stage("loss"):
            loss = self._loss(output, targets)
        with watch.stage("backward"):
            loss.backward()
        with watch.stage("clipping"):
            norm = nn.utils.clip_grad_norm_(self.parameters, CLIP)
        with watch.stage("optimiser"):
            self.optimizer.step()
            self.optimizer.zero_grad()
        with watch.stage("average"):
            self.average.update(self.model, number)
        if not self.case.begun:
            self.case.first_loss, self.case.first_norm = float(loss.detach()), float(norm)

    def _answer(self, batch: Batch, watch: Stopwatch) -> Output:
        from refseg.studies.rela_reference import plain_rela

        with computing_in(self.device, self.case.precision):
            return plain_rela(self.model, batch, watch.stage) if self.plain else self.model(batch)

    def _loss(self, output: Output, targets: Targets) -> Tensor:
        return torch.stack(list(self.model.losses(output, targets).values())).sum()


def _steps(
    name: str, options: TrainingOptions, precisions: list[Precision], device: torch.device, folder: str
) -> list[_Step]:
    """The cases of one model. Each has weights of its own, the same at first."""
    config = _config(name, options)
    side = config.input.size
    data = DataRecipe(
        size=min(side, LARGEST_SCENE),
        sentences=max(8, options.sentences),
        pool=BATCHES * options.pictures,
        pool_folder=folder,
        pictures_per_batch=options.pictures,
        sentences_per_picture=options.sentences,
    )
    pictures = ScenePictures(replace(data, split="train"))
    pictures.vocabulary_pictures = BATCHES * options.pictures
    config = _with_tags(config, pictures)
    tokenizer = WordTokenizer.learn(pictures.texts(), config.text.max_words)
    config = fit_vocabulary(config, tokenizer)
    recipe = Recipe(model=ModelRecipe(name), data=data)
    steps = []
    for plain in (True, False) if options.reference else (False,):
        for precision in precisions:
            torch.manual_seed(options.seed)
            model: Any = build(config).to(device)
            batches = Batches(pictures, tokenizer, config.input, recipe, needs=model.needs)
            if plain:
                _check_plain(name, model)
            maps: list[VisualFeatures] = []
            if options.frozen and _is_shareable(model):
                with torch.no_grad():
                    model.eval()
                    maps = [model.vision(batches[number][0].images.to(device)) for number in range(BATCHES)]
            case = TrainingCase(
                model=name,
                name=f"reference {precision}" if plain else precision,
                precision=precision,
                size=side,
                sentences=options.pictures * options.sentences,
                frozen=bool(maps),
                parameters=sum(parameter.numel() for parameter in model.parameters()),
                trained=0,
            )
            step = _Step(case, model, batches, device, maps, plain)
            case.trained = sum(parameter.numel() for parameter in step.parameters)
            steps.append(step)
    return steps


def _config(name: str, options: TrainingOptions) -> Any:
    """The preset as recipes for drawn scenes have it: with the no-target head that those need."""
    config: Any = preset(name)
    if hasattr(config, "no_target_head"):
        config = replace(config, no_target_head=True)
    if options.size is not None:
        config = replace(config, input=replace(config.input, size=options.size))
    vision: Any = getattr(config, "vision", None)
    if options.reference and hasattr(vision, "drop_path"):
        # The plain structure leaves out no rows, and both should compute the same.
        config = replace(config, vision=replace(vision, drop_path=0.0))
    return config


def _with_tags(config: Any, pictures: ScenePictures) -> Any:
    """The small systems' configuration with all words that hold in the pictures, as their recipes have them."""
    if not isinstance(getattr(config, "vision", None), ResNetConfig) or not hasattr(config, "tags"):
        return config
    assert pictures.count is not None
    things = [item for number in range(pictures.count) for item in pictures.samples(number)[0].surroundings]
    words = dict.fromkeys(word for item in things for word in (item.category, *item.tags))
    return replace(config, tags=tuple(sorted(words)))


def _is_shareable(model: Any) -> bool:
    return bool(model.late_fusion) and isinstance(getattr(model.config, "vision", None), ResNetConfig)


def _check_plain(name: str, model: nn.Module) -> None:
    from refseg.models.rela.model import ReLA

    if not isinstance(model, ReLA) or model.language_stages is None:
        raise RefsegError(f"benchmark: --reference is for rela-official and rela-official-swin-t, not {name}")


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
