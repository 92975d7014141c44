"""All stages of the system from data to weights: detector, masks, cache, referring, with the time and size of each.

    detector    second heads and coarse masks on a detector's frozen maps   -> OUT/detector.safetensors
    masks       trunk and decoder of fine masks                             -> OUT/masks.safetensors
    cache       proposals of every picture that may be learnt from          -> OUT/proposals.sqlite
    referring   the chooser's weights, over proposals and expressions       -> OUT/sentences.sqlite, OUT/chooser.*

A stage whose file is there is not run again; a run that was stopped goes on with the stage in which it was, the cache
with the picture at which it was. The recipe is a TOML file:

    detector_weights = "nanodet_plus_m.safetensors"    # published tensors, in order of execution
    trunk_weights = "deeplab_mnv2.safetensors"
    without = ["refcoco/instances.json"]               # pictures of these files are held out everywhere
    [[sources]]
    name = "photos"                                    # "scenes" names drawn scenes
    file = "photos/instances.json"
    images = "photos/images"
    splits = "splits.json"                             # or split_field = "split2017"
    [detector]                                         # fields of DetectorTraining, and shares = {"photos/cats" = 0.2}
    [masks]                                            # fields of MaskTraining
    [referring]                                        # fields of ReferringTraining
    [[people]]                                         # referring data sets whose expressions judge the chooser
    root = "."
    dataset = "refcoco"
    splits = ["val"]
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from refseg.config import from_dict, read_toml
from refseg.data.formats.coco import read_instances
from refseg.encoders.vision.mobilenet import from_deeplab
from refseg.encoders.vision.nanodet_weights import from_nanodet
from refseg.errors import CheckpointError, ConfigError, did_you_mean
from refseg.files import replacing
from refseg.generation.scenes.world import random_for
from refseg.models.instances.config import DetectorConfig, InstancesConfig
from refseg.models.instances.evidence import RULES
from refseg.models.instances.model import build_instances, load_language
from refseg.models.instances.proposals import Proposer
from refseg.training.instances.annotated import AnnotatedPicture, picture_keys, read_annotated, read_splits
from refseg.training.instances.cache import ProposalCache, fill, fingerprint
from refseg.training.instances.expressions import AnnotatedExpression, expressions_of
from refseg.training.instances.referring import People, Referring, ReferringTraining
from refseg.training.instances.train_detector import DetectorTraining, train_detector
from refseg.training.instances.train_masks import MaskTraining, train_masks

__all__ = [
    "InstancesRecipe",
    "RecipeState",
    "Source",
    "chooser_weights",
    "load_proposer",
    "read_recipe",
    "run_recipe",
    "spoken_about",
    "train_referring",
]


@dataclass(frozen=True)
class Source:
    """One COCO-style file of annotated pictures; see `read_annotated`."""

    name: str
    file: Path
    images: Path
    splits: Path | None = None
    split_field: str | None = None


@dataclass(frozen=True)
class InstancesRecipe:
    """What a recipe's file says."""

    detector_weights: Path
    trunk_weights: Path
    sources: tuple[Source, ...]
    without: tuple[Path, ...] = ()
    shares: Mapping[str, float] = field(default_factory=dict)
    detector: DetectorTraining = field(default_factory=DetectorTraining)
    masks: MaskTraining = field(default_factory=MaskTraining)
    referring: ReferringTraining = field(default_factory=ReferringTraining)
    people: tuple[People, ...] = ()


@dataclass(frozen=True)
class RecipeState:
    """What the last stage gets: the pictures that are spoken about, the trained proposer, the filled cache's file."""

    out: Path
    pictures: tuple[AnnotatedPicture, ...]
    proposer: Proposer
    cache: Path


Stage = Callable[[RecipeState], Sequence[Path]]
"""A further stage; returns the files that it wrote."""


def read_recipe(path: Path) -> InstancesRecipe:
    """The recipe of a TOML file; paths are taken from the file's folder. Raises `ConfigError` with what is wrong."""
    content = read_toml(path)
    home = path.parent
    known = {item.name for item in dataclasses.fields(InstancesRecipe)} - {"shares"}
    for name in content.keys() - known:
        raise ConfigError(f"{path}: {name} is no field of this recipe; {did_you_mean(name, sorted(known))}")
    try:
        sources = tuple(
            Source(
                **{
                    name: home / value if name in ("file", "images", "splits") else value
                    for name, value in each.items()
                }
            )
            for each in content["sources"]
        )
        detector = dict(content.get("detector", {}))
        shares = detector.pop("shares", {})
        return InstancesRecipe(
            home / content["detector_weights"],
            home / content["trunk_weights"],
            sources,
            tuple(home / each for each in content.get("without", ())),
            shares,
            from_dict(DetectorTraining, detector, "detector"),
            from_dict(MaskTraining, content.get("masks", {}), "masks"),
            from_dict(ReferringTraining, content.get("referring", {}), "referring"),
            tuple(
                People(home / each["root"], each["dataset"], tuple(each.get("splits", ("val",))))
                for each in content.get("people", ())
            ),
        )
    except KeyError as error:
        raise ConfigError(f"{path}: {error.args[0]} is missing") from error
    except TypeError as error:
        raise ConfigError(f"{path}: {error}") from error


def read_sources(recipe: InstancesRecipe) -> list[AnnotatedPicture]:
    """All pictures of the recipe. A photograph that is held out in one source is held out in all of them."""
    apart = [key for path in recipe.without for key in picture_keys(read_instances(path)).values()]
    first: list[AnnotatedPicture] = []
    keys: list[str] = []
    for source in recipe.sources:
        splits = None if source.splits is None else read_splits(source.splits)
        found = read_annotated(
            source.name,
            source.file,
            source.images,
            splits=splits,
            split_field=source.split_field,
            without=apart,
        )
        names = picture_keys(read_instances(source.file))
        first += found
        keys += [names[int(picture.key.rpartition("/")[2])] for picture in found]
    held = {key for key, picture in zip(keys, first, strict=True) if key.isdigit() and picture.split != "train"}
    return [
        dataclasses.replace(picture, split="without") if picture.split == "train" and key in held else picture
        for key, picture in zip(keys, first, strict=True)
    ]


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be read as safetensors ({error})") from error


def _save(module: nn.Module, path: Path) -> None:
    """All tensors in 16 bits."""
    with replacing(path) as temporary:
        save_file({name: value.half().contiguous() for name, value in module.state_dict().items()}, temporary)


def load_proposer(folder: Path, config: DetectorConfig | None = None) -> Proposer:
    """The proposer that a recipe left in a folder, ready to answer. Raises `CheckpointError` where it does not fit."""
    proposer = Proposer(config)
    for module, name in ((proposer.detector, "detector"), (proposer.fine_masks, "masks")):
        path = folder / f"{name}.safetensors"
        try:
            module.load_state_dict({key: value.float() for key, value in _tensors(path).items()})
        except RuntimeError as error:
            raise CheckpointError(f"{path}: does not fit ({str(error).splitlines()[0]})") from error
    return proposer.eval()


def run_recipe(
    recipe: InstancesRecipe,
    out: Path,
    *,
    config: DetectorConfig | None = None,
    referring: Stage | None = None,
    console: Console | None = None,
) -> RecipeState:
    """Run all stages that are not done; prints each one's time and the size of its files."""
    console = console or Console(stderr=True)
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    pictures = read_sources(recipe)
    train = [picture for picture in pictures if picture.split == "train" and picture.instances]
    console.print(
        f"{len(pictures)} pictures, {len(train)} to learn from, {len(pictures) - len(train)} held out or empty"
    )
    proposer = Proposer(config)
    with _stage(console, "detector", detector := out / "detector.safetensors") as needed:
        if needed:
            model = proposer.detector
            model.first.load_state_dict(from_nanodet(_tensors(recipe.detector_weights), model.config))
            model.second.start_from(model.first)
            with _bar(console, "detector", recipe.detector.steps) as report:
                train_detector(model, train, recipe.detector, recipe.shares, report)
            _save(model, detector)
    with _stage(console, "masks", masks := out / "masks.safetensors") as needed:
        if needed:
            proposer.fine_masks.trunk.load_state_dict(from_deeplab(_tensors(recipe.trunk_weights)))
            with _bar(console, "masks", recipe.masks.steps) as report:
                train_masks(proposer.fine_masks, train, recipe.masks, report)
            _save(proposer.fine_masks, masks)
    # What is used from here on is what was written, 16 bits and all.
    proposer = load_proposer(out, config)
    cache = out / "proposals.sqlite"
    spoken = spoken_about(train, recipe.referring)
    with (
        _stage(console, "cache", cache, always=True),
        ProposalCache(cache, fingerprint(proposer)) as store,
        _counted(console, "proposals", len(spoken)) as progress,
    ):
        fill(store, proposer, spoken, progress=progress)
    state = RecipeState(out, tuple(spoken), proposer, cache)
    if referring is not None:
        started = time.perf_counter()
        files = referring(state)
        _told(console, "referring", time.perf_counter() - started, files)
    return state


def spoken_about(train: Sequence[AnnotatedPicture], config: ReferringTraining) -> list[AnnotatedPicture]:
    """At most `config.pictures` of the pictures, drawn at random, in their order."""
    chosen = random_for("spoken about", config.seed).sample(range(len(train)), min(config.pictures, len(train)))
    return [train[number] for number in sorted(chosen)]


def train_referring(state: RecipeState, recipe: InstancesRecipe, language: Path | None, console: Console) -> list[Path]:
    """The stage `referring`: expressions about the pictures, expanded once, and the chooser's weights from them.

    Run again only where OUT/chooser.safetensors is missing; what was kept goes on. Without a `language` folder nouns
    are read by the lists alone. Raises `CheckpointError` for another folder than all-MiniLM-L6-v2's.
    """
    files = [state.out / name for name in ("sentences.sqlite", "chooser.safetensors", "chooser.json")]
    if files[1].exists():
        console.print(f"referring: {files[1]} is there already")
        return files
    config = InstancesConfig(detector=state.proposer.config)
    model = build_instances(config if language is not None else replace(config, text=None)).eval()
    model.proposer.load_state_dict(state.proposer.state_dict())
    if language is not None:
        load_language(model, language)
    expressions: list[AnnotatedExpression] = []
    started = time.perf_counter()
    for source in recipe.sources:
        about = [picture for picture in state.pictures if picture.key.startswith(f"{source.name}/")]
        if about:
            expressions += expressions_of(
                source.name,
                source.file,
                source.images,
                about,
                state.out / f"views-{source.name}.jsonl",
                seed=recipe.referring.seed,
                per_image=recipe.referring.per_image,
                absent=recipe.referring.absent,
            )
    views = [state.out / f"views-{source.name}.jsonl" for source in recipe.sources]
    _told(console, f"referring: {len(expressions)} expressions", time.perf_counter() - started, views)
    return Referring(model, state.out, state.cache, recipe.referring, console).run(
        expressions, state.pictures, recipe.people
    )


def chooser_weights(path: Path) -> Tensor:
    """The weights that the stage `referring` left in a file. Raises `CheckpointError` for another one."""
    weights = _tensors(path).get("weights")
    if weights is None or weights.shape != (len(RULES),):
        raise CheckpointError(f"{path}: does not hold the chooser's {len(RULES)} weights")
    return weights


def _told(console: Console, name: str, seconds: float, files: Sequence[Path]) -> None:
    size = sum(path.stat().st_size for path in files if path.exists())
    console.print(f"{name}: {seconds:.1f} s, {size / 1e6:.1f} MB", highlight=False)


@contextmanager
def _stage(console: Console, name: str, file: Path, always: bool = False) -> Iterator[bool]:
    """Whether the stage has to run; tells its time and its file's size when it ends."""
    started = time.perf_counter()
    done = file.exists() and not always
    yield not done
    if done:
        console.print(f"{name}: {file} is there already")
    else:
        _told(console, name, time.perf_counter() - started, [file])


_COLUMNS = (
    TextColumn("{task.description}"),
    BarColumn(),
    MofNCompleteColumn(),
    TimeElapsedColumn(),
    TimeRemainingColumn(),
)


@contextmanager
def _counted(console: Console, name: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar that is told of finished pictures."""
    with Progress(*_COLUMNS, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(name, total=total)
        yield lambda count: bar.update(task, advance=count)


@contextmanager
def _bar(console: Console, name: str, steps: int) -> Iterator[Callable[[int, float, float], None]]:
    """A progress bar that is told of steps and losses."""
    with Progress(*_COLUMNS, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(name, total=steps)

        def report(step: int, loss: float, seconds: float) -> None:
            bar.update(task, completed=step, description=f"{name}, loss {loss:.3f}")
            if not console.is_terminal and step % 500 == 0:
                console.print(f"{name}: step {step} of {steps}, loss {loss:.3f}, {seconds:.0f} s", highlight=False)

        yield report
