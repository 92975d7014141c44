"""What is compared side by side: every small system, and the papers' claims as pairs of configurations. Data alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from refseg.errors import ConfigError, did_you_mean

__all__ = ["CLAIMS", "Claim", "Entry", "choose", "entries_of", "no_target_costs", "systems"]


@dataclass(frozen=True)
class Entry:
    """One training run: a recipe of `recipes/`, and what differs in its model: preset, or fields nested as there."""

    name: str
    recipe: str
    overrides: Mapping[str, Any] = field(default_factory=dict)
    preset: str | None = None


@dataclass(frozen=True)
class Claim:
    """What a paper says of a part of its system: rows of the same small system with and without it."""

    name: str
    system: str
    title: str
    source: str
    printed: str
    """What the source prints."""
    rows: tuple[tuple[str, Mapping[str, Any]], ...]
    """Label and overrides, `preset` among them; an empty one is the entry `base`, trained once for all tables."""
    compared: tuple[str, str] = ("", "")
    """Labels of the row that the source says is better and of the one that it is better than; the first two rows'."""
    metric: Literal["gIoU", "mIoU_target", "mIoU_one"] = "gIoU"
    """What is compared. mIoU_target: over expressions with a target; mIoU_one: over those with exactly one."""
    base: str | None = None
    """The entry whose rows these are, where it is not the system as its recipe has it."""

    @property
    def pair(self) -> tuple[str, str]:
        """The two labels that are compared."""
        return self.compared if self.compared[0] else (self.rows[0][0], self.rows[1][0])

    def entry(self, label: str) -> Entry:
        """The training run of a row."""
        return dict(zip((name for name, _ in self.rows), self.entries(), strict=True))[label]

    def entries(self) -> list[Entry]:
        """The rows as training runs."""
        base = FURTHER.get(self.base or "") or _entry(self.system)
        return [_changed(base, label, dict(changes)) if changes else base for label, changes in self.rows]


def _changed(base: Entry, label: str, changes: dict[str, Any]) -> Entry:
    preset = changes.pop("preset", base.preset)
    return replace(base, name=f"{base.name}: {label}", overrides={**base.overrides, **changes}, preset=preset)


def _entry(system: str) -> Entry:
    return Entry(system, recipe_of(system), OVERRIDES.get(system, {}))


OVERRIDES: dict[str, dict[str, Any]] = {"restr": {"patch": 8, "vision": {"patch": 8}}}
"""What a system's small configuration wants in scenes of 96 pixels: half the stride, so that there are as many patches
as at 192."""
FURTHER: dict[str, Entry] = {
    "restr-resnet": Entry("restr-resnet", "restr-mini-scenes.toml", {"patch": 8}, preset="restr-mini-resnet")
}
"""ReSTR has no convolutions, but a vision transformer learns little from few pictures; here the others' encoder."""


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "minimap",
        "rela",
        "The minimap's loss (ReLA)",
        "GRES, table 2, #3 and #4",
        "gIoU on gRefCOCO val 63.60 with the minimap, 62.06 without",
        (("with minimap", {}), ("without minimap", {"losses": {"minimap": 0.0}})),
    ),
    Claim(
        "hard-split",
        "rela",
        "Regions that are attended against cells of a rigid grid (ReLA)",
        "GRES, table 2, #2 and #4",
        "gIoU on gRefCOCO val 63.60 with attended regions, 60.93 with the feature map split into cells",
        (
            ("attended regions", {}),
            ("cells of the feature map", {"preset": "rela-mini-hard-split"}),
        ),
    ),
    Claim(
        "regions",
        "rela",
        "How many regions (ReLA)",
        "GRES, table 4",
        "gIoU on gRefCOCO val 57.01 with 4 x 4 regions, 61.23 with 8 x 8, 63.60 with 10 x 10",
        (("4 x 4 regions", {"regions": 4}), ("8 x 8 regions", {})),
        compared=("8 x 8 regions", "4 x 4 regions"),
    ),
    Claim(
        "queries",
        "vlt",
        "Generated against learnt queries (VLT)",
        "VLT, table 4.2",
        "IoU on RefCOCO testB 65.24 with generated queries, 58.60 with learnt ones",
        (("generated queries", {}), ("learnt queries", {"queries": {"kind": "learnt"}})),
    ),
    Claim(
        "query-number",
        "vlt",
        "How many queries (VLT)",
        "VLT, table 4.3",
        "IoU on RefCOCO testB 57.34 with 1 query, 61.58 with 4, 65.24 with 16",
        (
            ("1 query", {"queries": {"number": 1}}),
            ("4 queries", {"queries": {"number": 4}}),
            ("16 queries", {}),
        ),
        compared=("16 queries", "1 query"),
    ),
    Claim(
        "contrast",
        "vlt",
        "Masked contrastive learning between expressions (VLT)",
        "VLT, table 4.5a",
        "IoU on RefCOCO testB 65.24 with it, 63.43 without learning between samples",
        (
            (
                "masked contrastive learning",
                {"inter_sample": {"kind": "mcl", "anchors": "all", "compose": False}},
            ),
            ("each expression alone", {}),
        ),
    ),
    Claim(
        "mutual-attention",
        "m3att",
        "Mutual attention against pixels gathered by words alone (M3Att)",
        "M3Att, table 5.1",
        "IoU on RefCOCO val with 3 layers 67.88 with mutual attention, 64.40 without",
        (
            ("shared mutual attention", {}),
            (
                "language-attended only",
                {"decoder": {"attention": {"kind": "language_attended", "heads": 4}, "requery": False}},
            ),
        ),
    ),
    Claim(
        "propagation",
        "isfp",
        "Propagation among places against a convolution (ISFP)",
        "ISFP, table 3.1",
        "IoU on RefCOCO val 62.48 with propagation and 61.47 without, neither refined",
        (("propagation", {}), ("convolution", {"propagation": {"kind": "conv"}})),
    ),
    Claim(
        "filter",
        "lts",
        "The located filter (LTS)",
        "LTS, table 2",
        "IoU on RefCOCO val 65.43 with the filter and its loss, 63.50 without",
        (("filter", {}), ("without filter", {"locator": {"kind": "none"}, "losses": {"locating": 0.0}})),
    ),
    Claim(
        "fusion",
        "restr",
        "Words that have seen the picture against words that have not (ReSTR)",
        "ReSTR, table 3b",
        "IoU on RefCOCOg (Google) 52.81 for CME, 45.89 for IME, both without decoder",
        (("CME", {}), ("IME", {"fusion": {"encoder": "ime"}})),
        base="restr-resnet",
    ),
    Claim(
        "tasks",
        "reftr",
        "Boxes and masks together against one of them (RefTR)",
        "RefTR, section 4",
        "learning both is better than one; the table with the numbers was not at hand",
        (("boxes and masks", {}), ("masks alone", {"tasks": "res"}), ("boxes alone", {"tasks": "rec"})),
    ),
)


def no_target_costs() -> list[Claim]:
    """What the no-target head costs each dense system on expressions with exactly one target: with it and without."""
    off: dict[str, dict[str, Any]] = {"rela": {"losses": {"no_target": 0.0}}}
    return [
        Claim(
            f"no-target-{name}",
            name,
            f"What the no-target head costs ({name})",
            "no document",
            "no number; GRES adds the head to systems that were made for one target",
            (("with the head", {}), ("without", off.get(name, {"no_target_head": False}))),
            metric="mIoU_one",
            base="restr-resnet" if name == "restr" else None,
        )
        for name in ("rela", "vlt", "m3att", "isfp", "lts", "restr", "reftr")
    ]


def recipe_of(system: str) -> str:
    """The file in `recipes/` that a system's small model is trained by."""
    return f"{system}-mini-scenes.toml"


def systems() -> list[Entry]:
    """One entry for each system that has a small configuration, and the further ones."""
    from refseg.models import MODELS

    return [
        *(_entry(name) for name, system in MODELS.items() if "MINI" in system.presets),
        *FURTHER.values(),
    ]


def choose(names: Sequence[str]) -> tuple[list[Entry], list[Claim]]:
    """The systems and claims that are called so, all without names. Raises `ConfigError` with the near names."""
    every = {entry.name: entry for entry in systems()}
    claims = {claim.name: claim for claim in (*CLAIMS, *no_target_costs())}
    if not names:
        return list(every.values()), list(claims.values())
    names = [name for each in names for name in (_GROUPS[each]() if each in _GROUPS else [each])]
    for name in names:
        if name not in every and name not in claims:
            raise ConfigError(
                f"{name!r} is neither a system nor a claim; {did_you_mean(name, [*every, *claims, *_GROUPS])}"
            )
    return [every[name] for name in every if name in names], [claims[name] for name in claims if name in names]


_GROUPS = {
    "systems": lambda: [entry.name for entry in systems()],
    "claims": lambda: [claim.name for claim in CLAIMS],
    "no-target": lambda: [claim.name for claim in no_target_costs()],
}
"""Names that stand for several."""


def entries_of(chosen: Sequence[Entry], claims: Sequence[Claim]) -> list[Entry]:
    """All training runs of some systems and claims, each once."""
    found = {entry.name: entry for entry in chosen}
    for claim in claims:
        for entry in claim.entries():
            found.setdefault(entry.name, entry)
    return list(found.values())
