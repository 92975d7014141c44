"""A small image encoder that learns to see drawn scenes, without expressions: the start that all systems share.

What the papers compare is fusion and decoding; a system that learns to see from nothing on two cores spends its time on
what it has in common with the others. The encoder (`SMALL_RESNET`) learns dense tags at stride 4, through a feature
pyramid that is thrown away afterwards:

    image -> encoder -> maps of strides 4 to 32 -> pyramid -> T tags (category, colour, pattern, pose, part), boundary,
                                                              distance to the boundary of the own thing

A system whose encoder is of another kind begins with one of that kind which has had the same lessons; a vision
transformer, which has one map, learns through that map enlarged.

`learn_to_see` keeps its state in a folder, goes on where it was stopped, and leaves `encoder.safetensors`, which
`pretrained.vision` of a recipe reads, and `encoder.json`: what it was made with, its time and its probe accuracy.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.ndimage import distance_transform_edt
from torch import Tensor, nn
from torch.nn import functional as F

from refseg.data.batches import collate
from refseg.data.sample import Sample
from refseg.encoders.build import build_vision
from refseg.encoders.text.tokenizer import Tokenizer, WordTokenizer
from refseg.encoders.vision.resnet import SMALL_RESNET
from refseg.errors import CheckpointError, ConfigError
from refseg.files import write_text
from refseg.generation.scenes.world import CATEGORIES, PATTERNS
from refseg.geometry import InputConfig
from refseg.nn.conv import ConvNorm
from refseg.nn.losses import tag_loss
from refseg.nn.pyramid import FeaturePyramid, PyramidFeatures
from refseg.palette import COLORS
from refseg.state_dicts import load_weights, read_tensors, write_tensors
from refseg.studies.finished import ABOUT, ENCODER_FILE
from refseg.training.interrupt import Interrupt
from refseg.training.monitor import time_text
from refseg.training.optimizer import ScheduleConfig, lr_factor
from refseg.types import VisualFeatures

__all__ = ["SeeingSettings", "Stopped", "learn_to_see"]

STATE = "state.safetensors"
STRIDE = 4
_SAVE_EVERY = 60.0
"""Seconds between states."""


class Stopped(Exception):
    """A signal ended it; the same call goes on from there."""


@dataclass(frozen=True)
class SeeingSettings:
    """How the encoder learns."""

    passes: int = 8
    """Over the pictures; half of the pictures of a pass are mirrored."""
    batch: int = 16
    lr: float = 2e-3
    weight_decay: float = 0.05
    width: int = 64
    """Channels of the pyramid that the tags are read from."""
    boundary: float = 2.0
    """Weights of the two losses beside the tags'."""
    distance: float = 5.0

    def __post_init__(self) -> None:
        if self.passes < 1 or self.batch < 1:
            raise ConfigError(f"passes={self.passes}, batch={self.batch}: 1 or more is wanted")


@dataclass(frozen=True)
class Seen:
    """What is there to see in N pictures, at stride 4."""

    images: Float[Tensor, "N 3 H W"]
    tags: Bool[Tensor, "N T h w"]
    boundary: Bool[Tensor, "N h w"]
    """Where a thing's visible part ends: a cell that holds between 5 and 95 % of it."""
    distance: Float[Tensor, "N h w"]
    """To the end of the visible part of the own thing, as a share of the largest distance in it; 0 elsewhere."""

    def mirrored(self) -> Seen:
        """Left and right exchanged."""
        return Seen(self.images.flip(3), self.tags.flip(3), self.boundary.flip(2), self.distance.flip(2))


class Enlarged(nn.Module):
    """One map of an encoder, brought to stride 4: what stands in the pyramid's place where there is one map alone."""

    def __init__(self, channels: dict[int, int], width: int) -> None:
        super().__init__()
        ((self.stride, here),) = channels.items()
        times = self.stride // STRIDE
        self.enlarge = nn.ConvTranspose2d(here, width, kernel_size=times, stride=times)
        self.smooth = ConvNorm(width, width, 3, "group", groups=8)
        self.mask_features = nn.Conv2d(width, width, kernel_size=1)

    def forward(self, maps: VisualFeatures) -> Float[Tensor, "N C h w"]:
        """The map of C = width channels."""
        enlarged: Tensor = self.mask_features(self.smooth(self.enlarge(maps[self.stride])))
        return enlarged


class SceneSeer(nn.Module):
    """An encoder (`config` is its configuration) with the pyramid and the heads that it learns through."""

    def __init__(self, tags: int, width: int, config: object = SMALL_RESNET) -> None:
        super().__init__()
        vision = build_vision(config)
        assert isinstance(vision, nn.Module)
        self.vision, channels = vision, vision.channels
        self.pyramid = FeaturePyramid(channels, width, groups=8) if len(channels) > 1 else Enlarged(channels, width)
        self.head = nn.Conv2d(width, tags + 2, kernel_size=1)
        assert self.head.bias is not None
        nn.init.constant_(self.head.bias, -2.0)  # most words hold nowhere

    def forward(self, images: Float[Tensor, "N 3 H W"]) -> Float[Tensor, "N U h w"]:
        """Logits of T tags, of the boundary and of the distance, U = T + 2."""
        read = self.pyramid(self.vision(images))
        logits: Tensor = self.head(F.relu(read.mask_features if isinstance(read, PyramidFeatures) else read))
        return logits

    def loss(self, seen: Seen, settings: SeeingSettings) -> Float[Tensor, ""]:
        """Of tags, boundary (binary cross entropy) and distance (absolute error)."""
        logits = self(seen.images)
        entropy = F.binary_cross_entropy_with_logits(logits[:, -2], seen.boundary.float())
        error = F.l1_loss(logits[:, -1].sigmoid(), seen.distance)
        return tag_loss(logits[:, :-2], seen.tags) + settings.boundary * entropy + settings.distance * error


def look(groups: Sequence[Sequence[Sample]], tags: Sequence[str], size: int) -> Seen:
    """What is there to see in drawn scenes of `size` x `size`, of which each group is one's samples."""
    firsts = [samples[0] for samples in groups]
    batch, targets = collate(firsts, tokenizer=_NO_WORDS, input_config=InputConfig(size=size), tags=tags)
    assert targets.tags is not None
    boundaries, distances = [], []
    for sample in firsts:
        boundary = np.zeros((size // STRIDE, size // STRIDE), dtype=bool)
        distance = np.zeros_like(boundary, dtype=np.float32)
        for thing in sample.surroundings:
            mask = thing.mask((size, size))
            share = _cells(mask.astype(np.float32))
            boundary |= (share > 0.05) & (share < 0.95)
            inside = distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
            distance = np.maximum(distance, _cells(inside / max(1.0, inside.max())))
        boundaries.append(boundary)
        distances.append(distance.astype(np.float32))
    return Seen(
        batch.images, targets.tags, torch.from_numpy(np.stack(boundaries)), torch.from_numpy(np.stack(distances))
    )


_NO_WORDS: Tokenizer = WordTokenizer([], 1)


def _cells(values: Float[np.ndarray, "H W"]) -> Float[np.ndarray, "h w"]:
    """The means of squares of `STRIDE` x `STRIDE` pixels."""
    height, width = (side // STRIDE for side in values.shape)
    return values.reshape(height, STRIDE, width, STRIDE).mean(axis=(1, 3))


def learn_to_see(
    read: Callable[[int], list[Sample]],
    count: int,
    held_out: Callable[[int], list[Sample]],
    held_out_count: int,
    tags: Sequence[str],
    size: int,
    folder: Path,
    settings: SeeingSettings,
    on_progress: Callable[[str], None] = lambda text: None,
    config: object = SMALL_RESNET,
) -> Path:
    """The file of the encoder (of this configuration) that has learnt from scenes 0 to `count` of `read`; made once.

    `held_out` gives the scenes that the probe accuracy is measured on. Raises `ConfigError` for a size that strides do
    not divide, `CheckpointError` when the folder holds one of other settings, and `Stopped` after a signal.
    """
    if size % 32:
        raise ConfigError(f"size={size}: a multiple of 32 is wanted")
    wanted = {"scenes": count, "size": size, "tags": list(tags), "settings": asdict(settings)}
    if config != SMALL_RESNET:
        wanted["encoder"] = repr(config)
    file, about = folder / ENCODER_FILE, folder / ABOUT
    if about.exists():
        known = json.loads(about.read_text(encoding="utf-8"))
        if file.exists() and all(known.get(name) == value for name, value in wanted.items()):
            return file
        raise CheckpointError(f"{about}: was made with other settings; delete {folder} to make it again")
    folder.mkdir(parents=True, exist_ok=True)
    # Not the global generator: whoever trains afterwards draws what he would have drawn.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = SceneSeer(len(tags), settings.width, config)
        seconds = _train(model, read, count, tags, size, folder / STATE, settings, on_progress)
    groups = [held_out(number) for number in range(held_out_count)]
    probe = probe_accuracy(model, groups, tags, size)
    write_tensors(file, {name: _rounded(value).contiguous() for name, value in model.vision.state_dict().items()})
    write_text(about, json.dumps({**wanted, "seconds": round(seconds), "probe": probe}, indent=1) + "\n")
    (folder / STATE).unlink(missing_ok=True)
    on_progress("the encoder: " + ", ".join(f"{name} {value:.3f}" for name, value in probe.items()))
    return file


def _rounded(value: Tensor) -> Tensor:
    """Numbers that 16 bits hold, so that `refseg.studies.finished` keeps the same encoder at half the size."""
    return value.half().to(value.dtype) if value.is_floating_point() else value


def _train(
    model: SceneSeer,
    read: Callable[[int], list[Sample]],
    count: int,
    tags: Sequence[str],
    size: int,
    state: Path,
    settings: SeeingSettings,
    on_progress: Callable[[str], None],
) -> float:
    """Seconds that it took, those before a stop counted in."""
    steps = settings.passes * -(-count // settings.batch)
    schedule = ScheduleConfig(kind="cosine", warmup_steps=min(200, steps // 10), min_lr_ratio=0.01)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
    step, spent = _restore(state, model, optimizer)
    started = saved = said = time.monotonic()
    first = step
    model.train()
    with Interrupt() as interrupt:
        while step < steps:
            seen = look([read(number) for number in _numbers(step, count, settings.batch)], tags, size)
            if np.random.default_rng([1, step]).random() < 0.5:
                seen = seen.mirrored()
            for group in optimizer.param_groups:
                group["lr"] = settings.lr * lr_factor(schedule, step, steps)
            loss = model.loss(seen, settings)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            step += 1
            now = time.monotonic()
            if now - said > 20 or step == steps:
                left = (now - started) / (step - first) * (steps - step)
                on_progress(
                    f"the encoder: step {step}/{steps}  loss {float(loss.detach()):.3f}  {time_text(left)} left"
                )
                said = now
            if now - saved > _SAVE_EVERY or interrupt.signal or step == steps:
                _keep(state, model, optimizer, step, spent + now - started)
                saved = now
            if interrupt.signal:
                raise Stopped(f"the encoder was stopped after step {step}")
    return spent + time.monotonic() - started


def _numbers(step: int, count: int, batch: int) -> list[int]:
    """The scenes of a step: each pass has an order of its own, a function of its number alone."""
    each = -(-count // batch)
    order = np.random.default_rng([0, step // each]).permutation(count)
    return [int(number) for number in order[step % each * batch :][:batch]]


def _keep(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, step: int, seconds: float) -> None:
    tensors = {f"model.{name}": value.contiguous() for name, value in model.state_dict().items()}
    for number, entry in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{name}": value for name, value in entry.items()}
    write_tensors(path, tensors | {"step": torch.tensor(step), "seconds": torch.tensor(seconds)})


def _restore(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[int, float]:
    """The step and the seconds that a state is of; 0 where there is none."""
    if not path.exists():
        return 0, 0.0
    tensors = read_tensors(path)
    cut = len("model.")
    load_weights(model, {k[cut:]: v for k, v in tensors.items() if k.startswith("model.")}, str(path))
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, number, field = name.split(".")
            moments.setdefault(int(number), {})[field] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    return int(tensors["step"]), float(tensors["seconds"])


@torch.inference_mode()
def probe_accuracy(
    model: SceneSeer, groups: Sequence[Sequence[Sample]], tags: Sequence[str], size: int
) -> dict[str, float]:
    """How well the tags are read on scenes that were not learnt from, cell by cell.

    Of cells in one thing alone: the share whose most likely category, colour and pattern (or none, below .5) is right;
    F1 of the boundary at .5; mean absolute error of the distance in cells of things.
    """
    model.eval()
    named = {
        "category": [tags.index(tag) for tag in CATEGORIES if tag in tags],
        "color": [tags.index(tag) for tag in COLORS if tag in tags],
        "pattern": [tags.index(tag) for tag in PATTERNS if tag in tags],
    }
    right, asked = dict.fromkeys(named, 0), dict.fromkeys(named, 0)
    hits = found = wanted = 0
    error = cells = 0.0
    for start in range(0, len(groups), 32):
        seen = look(groups[start : start + 32], tags, size)
        values = model(seen.images).sigmoid()
        for name, rows in named.items():
            if not rows:
                continue
            truth, guess = seen.tags[:, rows], values[:, rows]
            inside = seen.tags[:, named["category"]].sum(1) == 1
            if name == "pattern":
                none = torch.full_like(guess[:, :1], 0.5)
                truth = torch.cat([truth, ~truth.any(dim=1, keepdim=True)], dim=1)
                guess = torch.cat([guess, none], dim=1)
            else:
                inside = inside & (truth.sum(1) == 1)
            same = truth.float().argmax(1) == guess.argmax(1)
            right[name] += int((same & inside).sum())
            asked[name] += int(inside.sum())
        edge = values[:, -2] >= 0.5
        hits += int((edge & seen.boundary).sum())
        found += int(edge.sum())
        wanted += int(seen.boundary.sum())
        thing = seen.distance > 0
        error += float((values[:, -1] - seen.distance).abs()[thing].sum())
        cells += float(thing.sum())
    shares = {name: right[name] / max(1, asked[name]) for name in named}
    more = {"boundary_f1": 2 * hits / max(1, found + wanted), "distance_error": error / max(1.0, cells)}
    return {name: round(value, 4) for name, value in (shares | more).items()}
