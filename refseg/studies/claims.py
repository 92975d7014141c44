"""What is compared side by side: every small system, and the papers' claims as pairs of configurations. Data alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from refseg.errors import ConfigError, did_you_mean

__all__ = ["CLAIMS", "Claim", "Entry", "choose", "entries_of", "systems"]


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
    """Label and overrides; an empty one is the entry `base`, trained once for all tables."""
    base: str | None = None
    """The entry whose rows these are, where it is not the system as its recipe has it."""

    def entries(self) -> list[Entry]:
        """The rows as training runs."""
        base = FURTHER.get(self.base or "", Entry(self.system, recipe_of(self.system)))
        return [
            replace(base, name=f"{base.name}: {label}", overrides=changes) if changes else base
            for label, changes in self.rows
        ]


FURTHER: dict[str, Entry] = {
    "restr-resnet": Entry("restr-resnet", "restr-mini-scenes.toml", preset="restr-mini-resnet")
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


def recipe_of(system: str) -> str:
    """The file in `recipes/` that a system's small model is trained by."""
    return f"{system}-mini-scenes.toml"


def systems() -> list[Entry]:
    """One entry for each system that has a small configuration, and the further ones."""
    from refseg.models import MODELS

    return [
        *(Entry(name, recipe_of(name)) for name, system in MODELS.items() if "MINI" in system.presets),
        *FURTHER.values(),
    ]


def choose(names: Sequence[str]) -> tuple[list[Entry], list[Claim]]:
    """The systems and claims that are called so, all without names. Raises `ConfigError` with the near names."""
    every = {entry.name: entry for entry in systems()}
    claims = {claim.name: claim for claim in CLAIMS}
    if not names:
        return list(every.values()), list(CLAIMS)
    for name in names:
        if name not in every and name not in claims:
            raise ConfigError(f"{name!r} is neither a system nor a claim; {did_you_mean(name, [*every, *claims])}")
    return [every[name] for name in every if name in names], [claims[name] for name in claims if name in names]


def entries_of(chosen: Sequence[Entry], claims: Sequence[Claim]) -> list[Entry]:
    """All training runs of some systems and claims, each once."""
    found = {entry.name: entry for entry in chosen}
    for claim in claims:
        for entry in claim.entries():
            found.setdefault(entry.name, entry)
    return list(found.values())
