"""The training loop. One process or many, CPU or GPUs: Accelerate moves tensors, averages gradients, scales losses.

for each step:  lr <- schedule(step)
    for each piece of the batch:  Output <- model(batch);  loss <- sum of model.losses(output, targets);  backward
    clip, optimiser step, exponential moving average of the weights
    now and then:  log, evaluate (keep the best), checkpoint
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from refseg.config import to_toml
from refseg.errors import ConfigError, RefsegError
from refseg.files import locked, remove_leftovers, write_text
from refseg.inference.checkpoint import save_model
from refseg.models import build
from refseg.precision import in_float32
from refseg.training.ema import WeightEMA
from refseg.training.epochs import in_steps
from refseg.training.evaluation import Evaluation
from refseg.training.interrupt import Interrupt, reason_of
from refseg.training.monitor import Monitor, time_text
from refseg.training.optimizer import build_optimizer, parameter_groups, set_lr
from refseg.training.recipe import Recipe, differences, read_recipe, recipe_to_dict
from refseg.training.region_cache import open_cache
from refseg.training.sampling import check_pieces
from refseg.training.schedule import lr_factor
from refseg.training.setup import (
    RECIPE,
    build_accelerator,
    build_tokenizer,
    check_folder,
    fit_vocabulary,
    load_pretrained,
    scored_otherwise,
    with_proposals,
    worker_notice,
)
from refseg.training.source import Batches, open_pictures
from refseg.training.state import (
    BEST,
    FINAL,
    LAST,
    Progress,
    check_not_lost,
    find_checkpoint,
    load_state,
    save_state,
    seed_step,
)
from refseg.training.visual_cache import PictureCache, check_cached, lending
from refseg.training.workers import WorkerError

LOCK = ".lock"


class TrainingError(RefsegError):
    """A run that cannot go on: its loss is not finite, its disk is full, a data worker was killed."""


@dataclass(frozen=True)
class Outcome:
    """How a call of `train` ended: `signal` is 0 when all steps were done, else what stopped the run before."""

    step: int
    best: float | None
    signal: int
    folder: Path


def train(recipe: Recipe, resume: bool = False, on_step: Callable[[int, float], None] | None = None) -> Outcome:
    """Run a recipe to its end, or until SIGTERM or SIGINT, and leave its folder so that it can be resumed.

    `on_step(step, loss)` is called after every optimiser step (from 1) with the loss over the whole batch. Raises
    `ConfigError` and `CheckpointError` before the first step, and a `RefsegError` where another process writes into the
    folder. Later, `TrainingError` when the loss or its gradient is not finite, and, with a checkpoint of the last whole
    step, for what else ends a run: data that cannot be read, a worker that was killed, a full disk, too little memory.
    """
    folder = Path(recipe.output.folder)
    accelerator = build_accelerator(recipe)
    check_folder(folder, recipe, resume)
    check_pieces(recipe.data.pictures_per_batch, accelerator.num_processes, recipe.training.accumulation)
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    with ExitStack() as stack:
        if accelerator.is_main_process:
            busy = f"{folder}: another run (process {{}}) writes there; wait for it, or choose another output.folder"
            stack.enter_context(locked(folder / LOCK, busy))
            # Whoever held the lock may have begun a run meanwhile, and whoever was killed left halves of files.
            check_folder(folder, recipe, resume)
            for place in (folder, folder / "samples"):
                remove_leftovers(place)
        try:
            run = _Run(recipe, folder, accelerator, resume)
        except BaseException:
            # A mistake leaves nothing, where nothing was before.
            with suppress(OSError):
                if made and [path.name for path in folder.iterdir()] == [LOCK]:
                    (folder / LOCK).unlink()
                for place in made:
                    place.rmdir()
            raise
        stack.callback(run.monitor.close)
        interrupt = stack.enter_context(Interrupt())
        return run.loop(interrupt, on_step)


class _Run:
    """Everything a run holds between its steps."""

    def __init__(self, recipe: Recipe, folder: Path, accelerator: Any, resume: bool) -> None:
        self.pictures = open_pictures(recipe.data)
        if recipe.data.feature_cache is not None:
            check_cached(recipe, self.pictures.count)
        recipe = in_steps(recipe, self.pictures)
        self.recipe, self.folder, self.accelerator = recipe, folder, accelerator
        saved, note = find_checkpoint(folder) if resume else (None, "")
        if resume and saved is None:
            # A run that was killed before its first checkpoint begins again.
            begun = read_recipe(folder / RECIPE)
            check_not_lost(folder, begun.training.steps, begun.output.checkpoint_every)
        config = recipe.model_config()
        self.tokenizer = build_tokenizer(recipe, self.pictures, saved, config, accelerator)
        config = fit_vocabulary(config, self.tokenizer)
        seed_step(recipe.training.seed, 0, 0)
        network: Any = build(config)
        self.network = network
        notice = load_pretrained(self.network, recipe, self.tokenizer, resumed=saved is not None)
        self.network = with_proposals(self.network, recipe)
        self.notices = [text for text in (note, notice, self.pictures.notice, worker_notice(recipe)) if text]
        groups = parameter_groups(self.network, recipe.optimizer)
        self.network.to(accelerator.device)
        self.ema = WeightEMA(self.network, recipe.training.ema_decay) if recipe.training.ema_decay else None
        optimizer = build_optimizer(groups, recipe.optimizer)
        self.progress = Progress()
        if saved is not None:
            self.progress = load_state(saved, self.network, optimizer, self.ema)
            if accelerator.scaler is not None and self.progress.scaler:
                accelerator.scaler.load_state_dict(self.progress.scaler)
            if self.progress.best is not None and (other := scored_otherwise(saved, recipe)):
                self.progress.best = self.progress.best_step = None
                self.notices.append(f"the best score so far was of another evaluation ({other}): the next one is best")
        self.cache: PictureCache | None = None
        if recipe.data.feature_cache is not None:
            self.cache = open_cache(recipe, network, config.input, self.pictures.count)
        self.saved_step, self.whole = self.progress.step, True
        self.network.train()
        self.model, self.optimizer = accelerator.prepare(self.network, optimizer)
        self.parameters = [parameter for group in groups for parameter in group["params"]]
        self.batches = Batches(
            self.pictures,
            self.tokenizer,
            config.input,
            recipe,
            process=accelerator.process_index,
            processes=accelerator.num_processes,
            needs=network.needs,
            cache=self.cache,
        )
        active = accelerator.is_main_process
        self.evaluation = Evaluation(recipe) if active and recipe.evaluation.every else None
        self.monitor = Monitor(folder, recipe.training.steps, self.progress.step, active, recipe.output.tensorboard)
        if active:
            self._begin(resume)
            if self.cache is not None:
                self.cache.fill(self.pictures, self.tokenizer, self.monitor.say)
        accelerator.wait_for_everyone()

    def _begin(self, resume: bool) -> None:
        parameters = sum(parameter.numel() for parameter in self.network.parameters())
        trained = sum(parameter.numel() for parameter in self.parameters)
        self.monitor.say(
            f"{self.recipe.model_name}: {parameters / 1e6:.2f} M parameters ({trained / 1e6:.2f} M trained), "
            f"{self.accelerator.num_processes} x {self.accelerator.device.type}, run in {self.folder}"
        )
        for notice in self.notices:
            self.monitor.say(notice)
        if resume:
            changed = differences(read_recipe(self.folder / RECIPE), self.recipe)
            for name, (before, after) in changed.items():
                self.monitor.say(f"changed since the run began: {name} = {after} (was {before})")
            self.monitor.say(f"resumed after step {self.progress.step}")
        write_text(self.folder / RECIPE, to_toml(recipe_to_dict(self.recipe)))

    def loop(self, interrupt: Interrupt, on_step: Callable[[int, float], None] | None) -> Outcome:
        recipe, progress = self.recipe, self.progress
        started, spent = time.perf_counter(), progress.seconds
        first_step, first_expressions = progress.step, progress.sentences
        waited, asked = 0.0, 0
        feed = self.batches.iterate(progress.step, recipe.training.steps)
        try:
            while progress.step < recipe.training.steps and not asked:
                losses, norm, waiting = self._step(feed)
                waited += waiting
                progress.step += 1
                progress.seconds = spent + time.perf_counter() - started
                elapsed = time.perf_counter() - started
                speed = (progress.sentences - first_expressions) / elapsed
                for name, value in losses.items():
                    progress.sums[name] = progress.sums.get(name, 0.0) + value
                progress.summed += 1
                self.whole = True
                self.monitor.advance(progress.step, losses["loss"], speed)
                if progress.step % recipe.output.log_every == 0 or progress.step == recipe.training.steps:
                    left = elapsed / (progress.step - first_step) * (recipe.training.steps - progress.step)
                    self._log(norm, speed, waited / elapsed, left)
                if on_step is not None:
                    on_step(progress.step, losses["loss"])
                every = recipe.evaluation.every
                if every and (progress.step % every == 0 or progress.step == recipe.training.steps):
                    self._evaluate()
                asked = self._asked(interrupt)
                done = progress.step == recipe.training.steps
                if asked or done or progress.step % recipe.output.checkpoint_every == 0:
                    self._checkpoint()
        except TrainingError:
            raise
        except Exception as error:
            if interrupt.signal and isinstance(error, WorkerError):
                # A signal to the whole process group may end data workers before they know to leave it to the loop.
                asked = interrupt.signal
                self._checkpoint()
            elif (reason := reason_of(error, self.folder)) is None:
                self._rescue()
                raise
            else:
                self._rescue()
                raise TrainingError(f"the run ended after step {progress.step}: {reason}") from error
        finally:
            feed.close()
        if asked:
            self.monitor.say(f"stopped after step {progress.step}; --resume goes on from {self.folder / LAST}")
        else:
            self._finish()
        return Outcome(progress.step, progress.best, asked, self.folder)

    def _rescue(self) -> None:
        """A checkpoint of the last whole step of a run that cannot go on, where there is none yet."""
        step = self.progress.step
        try:
            # The other processes are not waited for: they may never come.
            if self.whole and step > self.saved_step and self.accelerator.is_main_process:
                self._save_checkpoint()
        except (RefsegError, OSError, RuntimeError) as problem:
            self.monitor.say(f"no checkpoint of step {step}: {problem}")
        if self.saved_step:
            self.monitor.say(f"{self.folder / LAST} is of step {self.saved_step}; --resume goes on from there")

    def _step(self, feed: Iterator[Any]) -> tuple[dict[str, float], float, float]:
        """One optimiser step: its losses over the whole batch, the gradient's norm, and seconds waited for data.

        A step that fails before its weights move leaves the model as it was, statistics of batches included.
        """
        statistics = {name: value.clone() for name, value in self.network.named_buffers()}
        try:
            losses, everyone, norm, waited = self._gradients(feed)
        except Exception:
            self.optimizer.zero_grad()
            for name, value in self.network.named_buffers():
                value.copy_(statistics[name])
            raise
        self.whole = False
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.ema is not None:
            self.ema.update(self.network, self.progress.step)
        self.progress.sentences += everyone
        return losses, norm, waited

    def _gradients(self, feed: Iterator[Any]) -> tuple[dict[str, float], int, float, float]:
        """The losses over the whole batch, its expressions, the gradient's norm before clipping, seconds waited."""
        recipe, accelerator, step = self.recipe.training, self.accelerator, self.progress.step
        set_lr(self.optimizer, lr_factor(self.recipe.schedule, step, recipe.steps))
        totals: dict[str, Tensor] = {}
        waited, expressions = 0.0, 0
        for piece in range(recipe.accumulation):
            before = time.perf_counter()
            batch, targets = next(feed)
            waited += time.perf_counter() - before
            batch, targets = batch.to(accelerator.device), targets.to(accelerator.device)
            expressions += len(batch.tokens)
            seed_step(recipe.seed, step + 1, piece * accelerator.num_processes + accelerator.process_index)
            last = piece == recipe.accumulation - 1
            with nullcontext() if last else accelerator.no_sync(self.model):
                with lending(self.network.vision, batch.features) if batch.features else nullcontext():
                    output = in_float32(self.model(batch))
                parts = self.network.losses(output, targets)
                loss = torch.stack(list(parts.values())).sum() / recipe.accumulation
                accelerator.backward(loss)
            for name, value in {"loss": loss * recipe.accumulation, **parts}.items():
                totals[name] = totals.get(name, torch.zeros_like(value)) + value.detach() / recipe.accumulation
        losses, everyone = self._across_processes(totals, expressions)
        if not math.isfinite(losses["loss"]):
            self._not_finite(losses)
        found = accelerator.clip_grad_norm_(self.parameters, recipe.clip_norm or math.inf)
        norm = 0.0 if found is None else float(found)
        # With a loss scaler, gradients that overflow are usual: it passes over the step and halves its scale.
        if not math.isfinite(norm) and accelerator.scaler is None:
            self._not_finite(losses, "the gradient")
        return losses, everyone, norm, waited

    def _across_processes(self, totals: dict[str, Tensor], expressions: int) -> tuple[dict[str, float], int]:
        names = list(totals)
        values = torch.stack(
            [*(totals[name].float() for name in names), totals[names[0]].new_tensor(float(expressions))]
        )
        if self.accelerator.num_processes > 1:
            values = self.accelerator.reduce(values, "sum")
        *sums, count = values.tolist()
        return {n: v / self.accelerator.num_processes for n, v in zip(names, sums, strict=True)}, int(count)

    def _not_finite(self, losses: dict[str, float], what: str = "the loss") -> None:
        parts = ", ".join(f"{name} {value:g}" for name, value in losses.items())
        saved = self.folder / LAST
        raise TrainingError(
            f"{what} is not finite at step {self.progress.step + 1} ({parts}): lower optimizer.lr, lengthen "
            "schedule.warmup_steps, lower training.clip_norm or use training.precision = float32"
            + (f"; {saved} holds the last checkpoint" if saved.exists() else "")
        )

    def _asked(self, interrupt: Interrupt) -> int:
        """The signal that any of the processes got, the same answer in all of them."""
        if self.accelerator.num_processes == 1:
            return interrupt.signal
        got = torch.tensor([float(interrupt.signal)], device=self.accelerator.device)
        return int(self.accelerator.gather(got).max().item())

    def _log(self, norm: float, speed: float, waiting: float, left: float) -> None:
        progress = self.progress
        means = {name: value / progress.summed for name, value in progress.sums.items()}
        progress.sums, progress.summed = {}, 0
        lr = max(group["lr"] for group in self.optimizer.param_groups)
        values = {
            "losses": means,
            "lr": lr,
            "gradient_norm": norm,
            "seconds": round(progress.seconds, 2),
            "sentences": progress.sentences,
            "sentences_per_second": round(speed, 2),
            "waiting_for_data": round(waiting, 4),
        }
        self.monitor.record("train", progress.step, values)
        self.monitor.say(
            f"step {progress.step}/{self.recipe.training.steps}  loss {means['loss']:.4f}  lr {lr:.2e}  "
            f"{speed:.1f} expressions/s  data {100 * waiting:.0f}%  {time_text(left)} left"
        )

    def _evaluate(self) -> None:
        if self.evaluation is not None:
            before = time.perf_counter()
            self.network.eval()
            try:
                with nullcontext() if self.ema is None else self.ema.applied(self.network):
                    score = self.evaluation.score(self.network, self.tokenizer, self.monitor, self.progress.step)
            finally:
                self.network.train()
            self._keep_best(score, time.perf_counter() - before)
        self.accelerator.wait_for_everyone()

    def _keep_best(self, score: dict[str, float], seconds: float) -> None:
        progress, evaluation = self.progress, self.recipe.evaluation
        if evaluation.metric not in score:
            raise ConfigError(f"evaluation.metric: {evaluation.metric!r} is not measured; there is {', '.join(score)}")
        value = score[evaluation.metric]
        # What the data has no case of is NaN (N_acc without an expression of no target), which JSON does not know.
        known = {name: number if math.isfinite(number) else None for name, number in score.items()}
        self.monitor.record("evaluation", progress.step, {"metrics": known, "evaluation_seconds": round(seconds, 2)})
        numbers = "  ".join(f"{name} {number:.4f}" for name, number in score.items())
        self.monitor.say(f"step {progress.step}  {numbers}  ({seconds:.0f} s)")
        if math.isfinite(value) and (progress.best is None or value > progress.best):
            progress.best, progress.best_step = value, progress.step
            self._save(self.folder / BEST, {"score": known})

    def _checkpoint(self) -> None:
        if self.accelerator.is_main_process:
            self._save_checkpoint()
        self.accelerator.wait_for_everyone()

    def _save_checkpoint(self) -> None:
        progress = self.progress
        if self.accelerator.scaler is not None:
            progress.scaler = self.accelerator.scaler.state_dict()
        optimizer = getattr(self.optimizer, "optimizer", self.optimizer)
        state = replace(progress, sums=dict(progress.sums))
        save_state(self.folder / LAST, self.network, self.tokenizer, optimizer, self.ema, state, self._info({}))
        self.saved_step = progress.step

    def _finish(self) -> None:
        if self.accelerator.is_main_process:
            self._save(self.folder / FINAL, {})
            progress = self.progress
            text = f"{progress.step} steps in {time_text(progress.seconds)}"
            if progress.best is not None:
                text += f"; best {self.recipe.evaluation.metric} {progress.best:.4f} at step {progress.best_step}"
            self.monitor.say(text)

    def _save(self, folder: Path, more: dict[str, Any]) -> None:
        state = self.ema.tensors if self.ema is not None else None
        save_model(folder, self.network, self.tokenizer, self._info(more), self.recipe.output.half, state)

    def _info(self, more: dict[str, Any]) -> dict[str, Any]:
        progress = self.progress
        training = {
            "recipe": recipe_to_dict(self.recipe),
            "step": progress.step,
            "sentences": progress.sentences,
            "seconds": round(progress.seconds, 1),
        }
        return {"training": training, **more}
