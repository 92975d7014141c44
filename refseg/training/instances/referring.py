"""The chooser's weights from cached proposals and expressions; the rules are kept unless training helps.

    expressions of `refseg.generation` and absent ones, about the training pictures  -> OUT/views-NAME.jsonl
    expansion   every expression over its picture's proposals, once                  -> OUT/sentences.sqlite
    training    of the weights from these alone, thousands of expressions a second
    judgement   by the chooser itself, on expressions held back: people's where a
                recipe names some, templates' otherwise                              -> OUT/chooser.safetensors, .json

A tenth of the training pictures is held back. People's expressions are those of pictures whose file name's SHA-256 is
even. Every few hundred steps the share of right answers on what is held back is taken; the best weights are kept if
they beat the rules by more than the noise of the difference, else the rules are.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from rich.console import Console
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from refseg.config import Config, DropRate, NonNegativeFloat, PositiveFloat, PositiveInt
from refseg.data import open_dataset
from refseg.data.sample import Sample
from refseg.files import replacing, write_text
from refseg.generation.scenes.world import random_for
from refseg.models.instances.chooser import Candidates
from refseg.models.instances.evidence import lay_out
from refseg.models.instances.expression import parse
from refseg.models.instances.model import Instances, is_spelled
from refseg.nn.boxes import pair_iou
from refseg.training.instances.annotated import AnnotatedPicture
from refseg.training.instances.cache import ProposalCache, fill, fingerprint
from refseg.training.instances.expanded import Expanded, ExpandedCache, expand, matches
from refseg.training.instances.expressions import AnnotatedExpression

__all__ = ["People", "Referring", "ReferringTraining", "is_right", "learn", "losses_of", "stack"]


@dataclass(frozen=True)
class People:
    """A referring data set whose expressions judge: `root` and `dataset` as for `open_dataset`, `splits` of it."""

    root: Path
    dataset: str
    splits: tuple[str, ...] = ("val",)


@dataclass(frozen=True)
class ReferringTraining(Config):
    """How the chooser's weights are trained."""

    per_image: PositiveInt = 8
    """Expressions of `refseg.generation` about a picture, besides absent and present names and colours."""
    pictures: PositiveInt = 2000
    """Most training pictures that are spoken about, drawn at random over all sources."""
    absent: bool = True
    """Whether there are absent names, colours and places, and their present counterparts; off for the ablation."""
    steps: PositiveInt = 2000
    batch_size: PositiveInt = 256
    lr: PositiveFloat = 0.01
    anchor: NonNegativeFloat = 0.05
    """Of the squared distance of the weights to the rules, in units of the rules (`InstancesLosses.anchor`)."""
    no_target: NonNegativeFloat = 0.5
    """Of the binary cross-entropy of the no-target logit."""
    look_every: PositiveInt = 200
    patience: PositiveInt = 4
    """Looks without a better one after which training ends."""
    held_back: DropRate = 0.1
    """Share of the training pictures that only judge."""
    least_gain: NonNegativeFloat = 1.0
    """Standard errors of the paired difference by which weights must beat the rules."""
    seed: int = 0


@dataclass(frozen=True)
class Stacked:
    """N expressions padded to K proposals; see `Expanded`. `numbers` is -1 in the padding."""

    values: Float[Tensor, "N K"]
    slopes: Float[Tensor, "N K W"]
    none: Float[Tensor, " N"]
    none_slopes: Float[Tensor, "N W"]
    numbers: Tensor
    there: Bool[Tensor, "N K"]
    targets: Tensor
    several: Bool[Tensor, " N"]

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: Tensor) -> Stacked:
        return Stacked(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


def stack(items: Sequence[Expanded]) -> Stacked:
    """Expressions as one batch."""
    longest = max(len(item.values) for item in items)

    def padded(tensor: Tensor, value: float | int) -> Tensor:
        rest = longest - len(tensor)
        return torch.cat([tensor, tensor.new_full((rest, *tensor.shape[1:]), value)]) if rest else tensor

    return Stacked(
        torch.stack([padded(item.values, 0.0) for item in items]),
        torch.stack([padded(item.slopes, 0.0) for item in items]),
        torch.stack([item.none for item in items]),
        torch.stack([item.none_slopes for item in items]),
        torch.stack([padded(item.numbers, -1) for item in items]),
        torch.stack([padded(torch.ones(len(item.values), dtype=torch.bool), False) for item in items]),
        torch.tensor([item.targets for item in items]),
        torch.tensor([item.several for item in items]),
    )


def losses_of(batch: Stacked, drift: Float[Tensor, " W"]) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Of the choice and of no target, at weights that lie `drift` from the rules.

    As `choice_loss`, but for proposals of which nothing is known, which count for nothing. Expressions none of whose
    targets was proposed teach nothing but that there is one.
    """
    values = batch.values + batch.slopes @ drift
    none = batch.none + batch.none_slopes @ drift
    right, wrong = batch.numbers > 0, (batch.numbers == 0) & batch.there
    far = torch.finfo(values.dtype).min
    known = torch.logsumexp(torch.where(right | wrong, values, far), 1)
    single = known - torch.logsumexp(torch.where(right, values, far), 1)
    taken = (F.softplus(-values.clamp(-6, 6)) * right).sum(1) / right.sum(1).clamp(min=1)
    worst = torch.where(wrong, F.softplus(values.clamp(-6, 6)), 0.0).topk(min(5, values.shape[1]), 1).values
    left = worst.sum(1) / wrong.sum(1).clamp(1, 5)
    teaches = right.any(1)
    choice = torch.where(batch.several, (taken + left) / 2, single)
    choice = torch.where(teaches, choice, 0.0).sum() / teaches.sum().clamp(min=1)
    return choice, F.binary_cross_entropy_with_logits(none, (batch.targets == 0).to(none))


def is_right(batch: Stacked, drift: Float[Tensor, " W"]) -> Bool[Tensor, " N"]:
    """Whether each answer is: nothing where nothing is meant, else every target once and nothing that is known to be
    something else."""
    values = batch.values + batch.slopes @ drift
    says_none = batch.none + batch.none_slopes @ drift > 0
    first = F.one_hot(torch.where(batch.there, values, -1e9).argmax(1), values.shape[1]).bool()
    chosen = torch.where(batch.several[:, None], (values > 0) & batch.there, first)
    wrong = (chosen & (batch.numbers == 0)).any(1)
    hits = torch.stack([(chosen & (batch.numbers == n)).sum(1) for n in range(1, int(batch.targets.max()) + 1)] or
                       [torch.zeros(len(batch), dtype=torch.long)], 1)  # fmt: skip
    wanted = torch.arange(1, hits.shape[1] + 1) <= batch.targets[:, None]
    every = ((hits == 1) | ~wanted).all(1)
    return torch.where(batch.targets == 0, says_none, ~says_none & ~wrong & every)


def learn(
    train: Stacked, judges: Sequence[Stacked], rules: Float[Tensor, " W"], config: ReferringTraining, console: Console
) -> Float[Tensor, " W"]:
    """Drift from the rules that is best on `judges` (the first decides, the others may not lose more than noise)."""
    rng = torch.Generator().manual_seed(config.seed)
    drift = torch.zeros_like(rules, requires_grad=True)
    optimizer = torch.optim.Adam([drift], lr=config.lr)
    start = [is_right(judge, torch.zeros_like(rules)).float() for judge in judges]
    best, highest, waited, started = torch.zeros_like(rules), 0.0, 0, time.perf_counter()
    for step in range(1, config.steps + 1):
        batch = train[torch.randint(len(train), (config.batch_size,), generator=rng)]
        choice, none = losses_of(batch, drift)
        pull = (drift / rules.abs().clamp(min=0.3)).square().mean()
        loss = choice + config.no_target * none + config.anchor * pull
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % config.look_every and step != config.steps:
            continue
        now = drift.detach().clone()
        gains = [is_right(judge, now).float() - before for judge, before in zip(judges, start, strict=True)]
        mean, error = gains[0].mean().item(), _error(gains[0])
        holds = all(gain.mean().item() >= -config.least_gain * _error(gain) for gain in gains[1:])
        rate = step * config.batch_size / (time.perf_counter() - started)
        shown = ", ".join(f"{before.mean():.3f} {gain.mean():+.3f}" for before, gain in zip(start, gains, strict=True))
        console.print(
            f"referring: step {step}, loss {loss.item():.3f}, right {shown}, {rate:,.0f} expressions a second",
            highlight=False,
        )
        if holds and mean > max(highest, config.least_gain * error):
            best, highest, waited = now, mean, 0
        else:
            waited += 1
            if waited >= config.patience:
                break
    return best


def _error(gain: Tensor) -> float:
    """Standard error of a mean of paired differences."""
    return float(gain.std(correction=0)) / max(len(gain), 1) ** 0.5


@dataclass(frozen=True)
class _Picture:
    """A picture of people's expressions, to be proposed in."""

    key: str
    sample: Sample

    def image(self) -> np.ndarray:
        return np.asarray(self.sample.read_image())


class Referring:
    """The stage over a filled cache of proposals; `model` gives language and the rules."""

    def __init__(
        self, model: Instances, out: Path, cache: Path, config: ReferringTraining, console: Console | None = None
    ) -> None:
        self.model, self.out, self.cache, self.config = model, out, cache, config
        self.console = console or Console(stderr=True)

    def run(
        self,
        expressions: Sequence[AnnotatedExpression],
        pictures: Sequence[AnnotatedPicture],
        people: Sequence[People] = (),
    ) -> list[Path]:
        """Train, judge, write; returns the files. `pictures` are those that the expressions are about."""
        by_key = {picture.key: picture for picture in pictures}
        held = {
            key for key in by_key if random_for("held back", self.config.seed, key).random() < self.config.held_back
        }
        proposer = self.model.proposer
        digest = hashlib.sha256(fingerprint(proposer).encode())
        for name, value in sorted(self.model.state_dict().items()):
            if not name.startswith("proposer."):
                digest.update(name.encode() + value.detach().float().numpy().tobytes())
        digest.update(repr((self.model.config.chooser, self.model.chooser.names)).encode())
        with (
            ProposalCache(self.cache, fingerprint(proposer)) as store,
            ExpandedCache(self.out / "sentences.sqlite", digest.hexdigest()) as kept,
        ):
            spoken = self._people(people, store)
            started = time.perf_counter()
            about = [(each, by_key[each.key].exhaustive, _boxes(by_key[each.key])) for each in expressions]
            keys = self._fill(store, kept, [*about, *((each, True, np.zeros((0, 4))) for each in spoken)])
            self._tell(f"{len(keys)} expressions expanded", started, self.out / "sentences.sqlite")
            items = [kept.get(key) for key in keys]
            train = [item for item, each in zip(items, expressions, strict=False) if each.key not in held]
            apart = [item for item, each in zip(items, expressions, strict=False) if each.key in held]
            parts = [items[len(expressions) :], apart]
        judges = [stack(part) for part in parts if part]
        started = time.perf_counter()
        rules = self.model.chooser.rules.clone()
        drift = learn(stack(train), judges, rules, self.config, self.console) if train and judges else rules * 0
        kept_rules = not bool(drift.any())
        told = {
            "trained": not kept_rules,
            "weights": dict(zip(self.model.chooser.names, (rules + drift).tolist(), strict=True)),
            "sentences": len(train),
            "judged by": [len(judge) for judge in judges],
            "right with the rules": [_share(judge, rules * 0) for judge in judges],
            "right": [_share(judge, drift) for judge in judges],
            "config": asdict(self.config),
        }
        weights, report = self.out / "chooser.safetensors", self.out / "chooser.json"
        with replacing(weights) as temporary:
            save_file({"weights": (rules + drift).contiguous()}, temporary)
        write_text(report, json.dumps(told, indent=1) + "\n")
        self._tell("rules kept" if kept_rules else "weights trained", started, weights)
        return [self.out / "sentences.sqlite", weights, report]

    def _people(self, people: Sequence[People], store: ProposalCache) -> list[AnnotatedExpression]:
        """People's expressions about pictures of the val half, whose proposals are added to the cache."""
        found: list[AnnotatedExpression] = []
        views: dict[str, _Picture] = {}
        for each in people:
            for split in each.splits:
                for sample in open_dataset(each.root, dataset=each.dataset, split=split):
                    name = "" if sample.image_path is None else sample.image_path.name
                    if hashlib.sha256(name.encode()).digest()[-1] % 2:
                        continue
                    key = f"people/{name}"
                    boxes = tuple(tuple(map(float, box)) for box in sample.boxes())
                    views.setdefault(key, _Picture(key, sample))
                    found.append(AnnotatedExpression(key, sample.text, boxes, each.dataset))  # type: ignore[arg-type]
        fill(store, self.model.proposer, list(views.values()))
        return found

    def _fill(
        self, store: ProposalCache, kept: ExpandedCache, items: Sequence[tuple[AnnotatedExpression, bool, np.ndarray]]
    ) -> list[str]:
        """Expand what is missing; the keys of all, in order."""
        keys = [ExpandedCache.key(each.key, each.text, each.boxes) for each, _, _ in items]
        there, last = kept.keys(), ""
        fresh: list[tuple[str, Expanded]] = []
        for key, (each, exhaustive, annotated) in zip(keys, items, strict=True):
            if key in there:
                continue
            if each.key != last:
                kept.put(fresh)
                fresh, last = [], each.key
                proposals = store.get(each.key, masks=False)
                layout = lay_out(proposals.boxes, proposals.size)
                candidates = Candidates(proposals.class_probs, proposals.colours, layout, proposals.drawn)
                height, width = proposals.size
                boxes = proposals.boxes * torch.tensor([width, height, width, height])
            wanted = torch.tensor(each.boxes, dtype=torch.float32).reshape(-1, 4)
            others = torch.from_numpy(annotated).float()
            numbers = matches(pair_iou(boxes, wanted), pair_iou(boxes, others), exhaustive)
            if not len(boxes):
                candidates, numbers = _nowhere(candidates), torch.zeros(1, dtype=torch.long)
            fresh.append(
                (key, expand(self.model.chooser, parse(each.text, is_spelled), candidates, numbers, len(wanted)))
            )
            there.add(key)
        kept.put(fresh)
        return keys

    def _tell(self, what: str, started: float, path: Path) -> None:
        size = path.stat().st_size / 1e6
        self.console.print(f"referring: {what}: {time.perf_counter() - started:.1f} s, {size:.1f} MB", highlight=False)


def _share(judge: Stacked, drift: Tensor) -> float:
    return float(is_right(judge, drift).float().mean())


def _boxes(picture: AnnotatedPicture) -> np.ndarray:
    return np.array([item.bbox for item in picture.instances], dtype=np.float64).reshape(-1, 4)


def _nowhere(candidates: Candidates) -> Candidates:
    """One proposal that shows nothing, so that a picture without any has slopes."""
    layout = lay_out(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), (1, 1))
    return Candidates(candidates.class_probs.new_zeros(1, candidates.class_probs.shape[1]), torch.zeros(1, 11), layout)
