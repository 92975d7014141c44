"""How long the stages of a model take, and how alike its answers are in another precision.

Cases take turns in every round, so that whatever else the machine does meets all of them alike and ratios hold even
where single times do not. A stage's time is its own: what another stage does inside it is taken off.

    decode           encoded picture -> pixels -> network input
    text             expressions -> features
    vision           the picture's encoder, without what language does inside it
    mask             the pixel decoder
    fusion           everything else in the model: language in the encoder, regions, words, the masks' last product
    post-processing  logits -> masks at the picture's own size
"""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from refseg.data.images import read_image
from refseg.data.transforms import place_image
from refseg.errors import RefsegError
from refseg.inference import DEFAULT_MODEL
from refseg.inference.postprocess import postprocess
from refseg.models import build, preset, preset_names
from refseg.models.foundation.base import FoundationModel
from refseg.precision import Precision, computing_in, store_in
from refseg.studies.stopwatch import Stopwatch, describe_machine
from refseg.types import Batch, Output, Tokens

__all__ = ["STAGES", "Case", "Options", "Report", "run_benchmark"]

STAGES = ("decode", "text", "vision", "mask", "fusion", "post-processing")

PICTURE = (480, 640)
EXPRESSION = "the two people on the left"
WORDS = 8
"""Words of an expression where a model comes without a tokenizer."""


@dataclass(frozen=True)
class Options:
    """What is measured: every combination of precision, pictures and expressions, `rounds` times."""

    model: str = DEFAULT_MODEL
    """Weights (packaged name, folder, hub id), or a preset's name for random weights."""
    device: str = "cpu"
    precisions: tuple[Precision, ...] = ("float32",)
    pictures: tuple[int, ...] = (1,)
    """Different pictures in one call."""
    sentences: tuple[int, ...] = (1, 4, 16)
    """Expressions on each picture; where the model fuses early, each is a call's share of its own."""
    rounds: int = 5
    reference: bool = False
    """Also time `refseg.studies.rela_reference`, the plain formulation of ReLA's published code, in float32."""
    seed: int = 0
    device_map: str | None = None
    """Of networks of transformers, in place of `device`; see `refseg.load`."""
    compile: bool = False
    """Have torch.compile translate networks of transformers; the round that is not counted compiles."""

    def __post_init__(self) -> None:
        if not self.precisions or not self.pictures or not self.sentences:
            raise RefsegError("benchmark: at least one precision, number of pictures and of expressions is wanted")
        if min(*self.pictures, *self.sentences, self.rounds) < 1:
            raise RefsegError("benchmark: pictures, sentences and rounds are 1 or more")


@dataclass
class Case:
    """One row: times in seconds a call, over the rounds; `agreement` compares with the first case of the same input."""

    name: str
    precision: Precision
    pictures: int
    sentences: int
    stages: dict[str, list[float]] = field(default_factory=lambda: {stage: [] for stage in STAGES})
    agreement: dict[str, float] = field(default_factory=dict)

    @property
    def totals(self) -> list[float]:
        """Seconds of each round."""
        return [sum(times) for times in zip(*self.stages.values(), strict=True)]

    def summary(self) -> dict[str, Any]:
        """Medians and minima, ready for JSON."""
        return {
            "name": self.name,
            "precision": self.precision,
            "pictures": self.pictures,
            "sentences": self.sentences,
            "median": {stage: median(times) for stage, times in self.stages.items()} | {"total": median(self.totals)},
            "fastest": {stage: min(times) for stage, times in self.stages.items()} | {"total": min(self.totals)},
            "agreement": self.agreement,
        }


@dataclass
class Report:
    """All cases of a run, and the machine that ran them."""

    options: Options
    weights: str
    machine: dict[str, Any]
    cases: list[Case]

    def ratio(self, case: Case, other: Case) -> float:
        """Median over the rounds of time of `case` by time of `other`, each pair from one round."""
        return median(a / b for a, b in zip(case.totals, other.totals, strict=True))

    def baseline(self, case: Case) -> Case:
        """What `case` is compared with: the first case with the same pictures and expressions."""
        return next(c for c in self.cases if (c.pictures, c.sentences) == (case.pictures, case.sentences))

    def single(self, case: Case) -> Case:
        """The case like this one with the fewest expressions."""
        alike = [c for c in self.cases if (c.name, c.pictures) == (case.name, case.pictures)]
        return min(alike, key=lambda c: c.sentences)

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        rows = []
        for case in self.cases:
            row = case.summary()
            row["ratio"] = {"of": self.baseline(case).name, "time": self.ratio(case, self.baseline(case))}
            row["times_one"] = {"sentences": self.single(case).sentences, "time": self.ratio(case, self.single(case))}
            rows.append(row)
        return {"options": asdict(self.options), "weights": self.weights, "machine": self.machine, "cases": rows}


Answer = Callable[[Batch, Stopwatch], Output]
"""How a case answers a batch: the model itself, or the reference."""


def run_benchmark(options: Options, progress: Callable[[str], None] | None = None) -> Report:
    """Time all cases in turn; `progress` is told which one comes. Raises `RefsegError` for what cannot be measured."""
    from refseg.inference.predictor import choose_device

    device = choose_device(options.device)
    torch.manual_seed(options.seed)
    precisions = list(dict.fromkeys(options.precisions))
    models, tokenizer, weights = _find(options, device, precisions)
    model = next(iter(models.values()))
    device = device if options.device_map is None else cast(FoundationModel, model).device
    runners: list[tuple[str, Precision, nn.Module, Answer]] = []
    if options.reference:
        plain = models.get("float32") or _find(options, device, ["float32"])[0]["float32"]
        runners.append(("reference", "float32", plain, _reference(plain)))
    runners += [(precision, precision, stored, _itself(stored)) for precision, stored in models.items()]
    jobs = []
    for pictures in options.pictures:
        encoded = [_picture(options.seed + index) for index in range(pictures)]
        for expressions in options.sentences:
            tokens = _tokens(model, tokenizer, pictures * expressions).to(device)
            for name, precision, stored, answer in runners:
                jobs.append((Case(name, precision, pictures, expressions), stored, answer, encoded, tokens))
    expected: dict[tuple[int, int], Output] = {}
    for round_number in range(-1, options.rounds):  # the first round warms up and compares
        for case, stored, answer, encoded, tokens in jobs:
            if progress is not None:
                progress(f"round {round_number + 1} of {options.rounds}: {case.name}, {case.sentences} expressions")
            watch = Stopwatch(device, STAGES)
            output = _answer(stored, answer, encoded, tokens, case, watch)
            if round_number < 0:
                first = expected.setdefault((case.pictures, case.sentences), output)
                case.agreement = _agreement(output, first)
            else:
                for stage, seconds in watch.times.items():
                    case.stages[stage].append(seconds)
    return Report(options, weights, describe_machine(device), [job[0] for job in jobs])


def _answer(
    model: nn.Module,
    answer: Answer,
    encoded: Sequence[bytes],
    tokens: Tokens,
    case: Case,
    watch: Stopwatch,
) -> Output:
    """One call from encoded pictures to masks."""
    config: Any = model.config
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode())
        stack.enter_context(watch.watching(model))
        with watch.stage("decode"):
            images, masks, geometries = zip(
                *(place_image(read_image(data), config.input) for data in encoded), strict=True
            )
            picture = torch.arange(case.pictures, device=tokens.ids.device).repeat_interleave(case.sentences)
            device = tokens.ids.device
            batch = Batch(torch.stack(images).to(device), torch.stack(masks).to(device), tokens, image_index=picture)
        with watch.stage("fusion"), computing_in(device, case.precision):
            output = answer(batch, watch)
        with watch.stage("post-processing"):
            texts = [EXPRESSION] * len(picture)
            postprocess(output, [geometries[index] for index in picture.tolist()], texts)
    return output


def _find(
    options: Options, device: torch.device, precisions: Sequence[Precision]
) -> tuple[dict[Precision, nn.Module], Any, str]:
    """The model in each precision, its tokenizer if it has one, and where its weights come from."""
    from refseg.inference.predictor import list_models, load

    name = options.model
    if name not in list_models() and name.lower().replace("_", "-") in preset_names():
        if options.device_map is not None or options.compile:
            raise RefsegError("benchmark: --device-map and --compile are for networks of transformers, not for presets")
        model = build(preset(name)).to(device).eval()
        kinds = {each: model if each == "float32" else store_in(copy.deepcopy(model), each) for each in precisions}
        return kinds, None, "random"
    where: Any = {"device": device} if options.device_map is None else {"device_map": options.device_map}
    loaded = {each: load(name, precision=each, compile=options.compile, **where) for each in precisions}
    return {each: one.model for each, one in loaded.items()}, next(iter(loaded.values())).tokenizer, name


def _itself(model: nn.Module) -> Answer:
    return lambda batch, watch: model(batch)


def _reference(model: nn.Module) -> Answer:
    from refseg.models.rela.model import ReLA
    from refseg.studies.rela_reference import plain_rela

    if not isinstance(model, ReLA) or model.language_stages is None:
        raise RefsegError("benchmark: --reference is for the presets rela-official and rela-official-swin-t")
    return lambda batch, watch: plain_rela(model, batch, watch.stage)


def _picture(seed: int) -> bytes:
    """A JPEG with large and small structure: soft noise that costs a decoder what a photograph costs it."""
    generator = np.random.default_rng(seed)
    coarse = Image.fromarray(generator.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    soft = np.asarray(coarse.resize(PICTURE[::-1], Image.Resampling.BICUBIC), dtype=np.int16)
    noisy = np.clip(soft + generator.integers(-20, 21, soft.shape), 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noisy).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _tokens(model: nn.Module, tokenizer: Any, count: int) -> Tokens:
    if tokenizer is not None:
        return tokenizer([EXPRESSION] * count)
    config: Any = model.config
    length = config.text.max_words
    words = min(WORDS, length)
    ids = torch.randint(2, config.text.vocabulary_size, (count, words))
    padded = torch.zeros(count, length, dtype=torch.long)
    padded[:, :words] = ids
    return Tokens(padded, (torch.arange(length) < words).expand(count, length).clone())


def _agreement(output: Output, expected: Output) -> dict[str, float]:
    """How alike two outputs are: overlap of the masks, largest difference of the logits by the largest logit."""
    ours, theirs = output.mask_logits.float(), expected.mask_logits.float()
    union = ((ours > 0) | (theirs > 0)).sum(dim=(1, 2))
    overlap = ((ours > 0) & (theirs > 0)).sum(dim=(1, 2))
    iou = torch.where(union > 0, overlap / union.clamp(min=1), torch.ones_like(overlap, dtype=torch.float32))
    scale = theirs.abs().max().clamp(min=1e-12)
    difference: Tensor = (ours - theirs).abs().max() / scale
    return {"iou": float(iou.mean()), "smallest_iou": float(iou.min()), "logits": float(difference)}
