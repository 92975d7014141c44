"""`refseg data scenes`, `collage` and `templates`: data sets that are made."""

from __future__ import annotations

import sys
import time
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

from refseg.cli import options
from refseg.cli.app import App
from refseg.cli.options import arg, flag, opt
from refseg.cli.tables import print_table
from refseg.errors import DataError

app = App()

Plus = Annotated[bool, flag("--plus", "no words for absolute places, as in RefCOCO+")]
SEED = options.seed("the same seed gives the same bytes")


def _count(text: str, metavar: str = "N", least: int = 0) -> Any:
    return opt(metavar, text, check=options.at_least(least))


@app.command("scenes")
def scenes(
    out: Annotated[Path | None, arg("OUT", "folder for scenes/ and images/train2014/, here or with -o")] = None,
    train: Annotated[int, _count("scenes for training")] = 1000,
    val: Annotated[int, _count("scenes for validation")] = 100,
    test: Annotated[int, _count("scenes for each of testA (people), testB (others), testC (new combinations)")] = 100,
    size: Annotated[int, _count("side in pixels", "PX")] = 320,
    seed: Annotated[int, SEED] = 0,
    sentences: Annotated[int, _count("at most N expressions a scene")] = 16,
    plus: Plus = False,
    close_up: Annotated[bool, flag("--close-up", "fewer and larger things, for small pictures")] = False,
    png: Annotated[bool, flag("--png", "lossless pictures, three times as large")] = False,
    workers: options.Cores = options.CORES,
    output: Annotated[Path | None, options.output("the same as OUT")] = None,
) -> None:
    """Draw scenes with expressions and exact masks, in gRefCOCO's format."""
    from refseg.generation.language.propose import KINDS
    from refseg.generation.scenes.write import SceneSettings, write_scenes
    from refseg.progress import progress

    target = options.one_target(out, output, "OUT")
    options.check_folder(target)
    counts = {"train": train, "val": val, "testA": test, "testB": test, "testC": test}
    settings = SceneSettings(
        seed=seed,
        counts=counts,
        size=size,
        sentences=sentences,
        plus=plus,
        picture="png" if png else "jpg",
        close_up=close_up,
    )
    total = sum(counts.values())
    started = time.perf_counter()
    with progress("drawing scenes", transient=False) as update:
        done = Counter[str]()

        def advance(number: int) -> None:
            done["scenes"] += number
            update(done["scenes"], total)

        written = write_scenes(target, settings, workers, advance)
    seconds = time.perf_counter() - started
    _print_kinds("scenes", KINDS, {split: (counts[split], kinds) for split, kinds in written.items()})
    expressions = sum(sum(kinds.values()) for kinds in written.values())
    print(
        f"{total} scenes, {expressions} expressions in {seconds:.1f} s ({expressions / seconds:.0f} a second); "
        f"read them with --data {target} --dataset scenes"
    )


@app.command("collage")
def collage(
    coco: Annotated[
        list[Path], opt("FILE", "COCO-style file with masks and `split`, as data templates writes; repeatable")
    ],
    images: Annotated[list[Path], opt("DIR", "folder of each file's pictures")],
    output: Annotated[Path, options.output("folder for what is made")],
    count: Annotated[int, _count("pictures to make")] = 1000,
    size: Annotated[int, _count("their side in pixels", "PX")] = 320,
    seed: Annotated[int, SEED] = 0,
    split: Annotated[str, options.split("pictures of this split alone are used")] = "train",
) -> None:
    """Paste objects of photographs into others, annotated anew: more objects, for expressions about places."""
    from refseg.generation.photos.collage import Collages, CollageSettings, write_collages
    from refseg.progress import progress

    if len(coco) != len(images):
        raise DataError(f"--images: one folder a --coco file is wanted, not {len(images)}")
    for folder in images:
        options.check_images(folder)
    settings = CollageSettings(seed, count, size, split)
    started = time.perf_counter()
    collages = Collages(list(zip(coco, images, strict=True)), settings)
    with progress("pasting", transient=False) as update:
        for done in write_collages(output, collages):
            update(done, len(collages))
    objects = sum(len(each) for each in collages.cutouts.values())
    print(
        f"{len(collages)} pictures of {objects} objects on {len(collages.bases)} pictures in "
        f"{time.perf_counter() - started:.1f} s; make expressions with `refseg data templates --coco "
        f"{output / 'instances.json'} --images {output / 'images'} -o ...`"
    )


@app.command("templates")
def templates(
    coco: Annotated[Path, opt("FILE", "COCO-style instances.json with masks")],
    images: Annotated[Path, opt("DIR", "folder of its pictures")],
    output: Annotated[Path, options.output("folder for templates/ and images/")],
    per_image: Annotated[int, _count("at most N expressions a picture")] = 8,
    seed: Annotated[int, SEED] = 0,
    plus: Plus = False,
    split_fractions: Annotated[
        str | None, opt("A=X,B=Y", "shares (default: the file's own `split`, else train=0.9,val=0.1)")
    ] = None,
    not_exhaustive: Annotated[
        bool, flag("--not-exhaustive", "objects may lack, unless a picture is `exhaustive`")
    ] = False,
    without: Annotated[
        list[Path] | None, opt("FILE", "leave out the pictures of this COCO-style file; repeatable")
    ] = None,
    preview: Annotated[str | None, opt("[PNG]", "draw a contact sheet to PNG; without PNG, to OUT/preview.png")] = None,
    preview_count: Annotated[int, _count("pictures on the sheet", least=1)] = 24,
    workers: options.Cores = options.CORES,
) -> None:
    """Make expressions for photographs from a COCO-style file, in gRefCOCO's format."""
    from refseg.generation.language.propose import KINDS
    from refseg.generation.photos.templates import TemplateSettings, make_templates, write_templates
    from refseg.progress import progress

    settings = TemplateSettings(
        seed=seed,
        per_image=per_image,
        plus=plus,
        fractions=_fractions(split_fractions),
        exhaustive=not not_exhaustive,
    )
    options.check_images(images)
    kept = output / "templates" / "pictures.jsonl.part"
    if kept.exists():
        print(f"going on with {kept}, where an earlier run stopped", file=sys.stderr)
    started = time.perf_counter()
    with progress("looking at pictures", transient=False) as update:
        instances, spoken, problems = make_templates(coco, images, settings, workers, update, without or [], kept)
    counts = write_templates(output, instances, spoken, settings)
    kept.unlink(missing_ok=True)
    if preview is not None:
        from refseg.files import replacing
        from refseg.generation.photos.contact_sheet import templates_sheet as draw

        with replacing(output / "preview.png" if preview == "-" else preview) as temporary:
            draw(instances, spoken, preview_count, seed).save(temporary, "PNG")
    seconds = time.perf_counter() - started
    pictures = Counter(item.split for item in spoken if item.expressions)
    _print_kinds("pictures", KINDS, {split: (pictures[split], kinds) for split, kinds in sorted(counts.items())})
    for kind, number in Counter(problem.kind for problem in problems).most_common():
        first = next(problem for problem in problems if problem.kind == kind)
        print(f"{kind.replace('_', ' ')}: {number} times, the first: {first}")
    total = sum(sum(kinds.values()) for kinds in counts.values())
    print(
        f"{pictures.total()} pictures, {total} expressions in {seconds:.1f} s; {len(spoken) - pictures.total()} "
        f"pictures had nothing certain to say; read them with --data {output} --dataset templates"
    )


def _fractions(text: str | None) -> dict[str, float] | None:
    if text is None:
        return None
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        try:
            shares[name.strip()] = float(value)
        except ValueError:
            equals = ""
        if not equals or not name.strip():
            raise DataError(f"--split-fractions is such as train=0.8,val=0.1,test=0.1, not {text!r}")
    return shares


def _print_kinds(unit: str, kinds: tuple[str, ...], splits: dict[str, tuple[int, dict[str, int]]]) -> None:
    """A row a split: pictures, expressions, and expressions of each kind."""
    rows = [
        (split, *map(str, (pictures, sum(counts.values()), *(counts.get(kind, 0) for kind in kinds))))
        for split, (pictures, counts) in splits.items()
    ]
    print_table(("split", unit, "expressions", *kinds), rows)
