"""What `refseg models` says of networks of transformers: which there are, and what one takes, before a download."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from refseg.cli.tables import print_table

__all__ = ["families", "is_network", "print_families", "print_size"]

UNCHECKED = (
    "licences, gates, and sizes with ~ were written from memory of the weights' pages and not checked; see there"
)


def is_network(name: str) -> bool:
    """Whether a name is a folder's or a repository's, and not a preset's."""
    return "/" in name or "+" in name or Path(name).is_dir()


def families() -> dict[str, Any]:
    """Every family, ready for JSON."""
    from refseg.models.foundation.families import FAMILIES

    return {
        family.name: {
            "title": family.title,
            "model_types": list(family.networks),
            "says": list(family.says),
            "none": family.none,
            "behind_a_plus": family.segmenter,
            "weights": [asdict(entry) for entry in family.weights],
        }
        for family in FAMILIES.values()
    }


def print_families() -> None:
    """Families with what each can say, and published weights with size, licence and gate."""
    print("networks of transformers, by folder or hub id:")
    for entry in families().values():
        said = "masks, behind a +" if entry["behind_a_plus"] else ", ".join(entry["says"])
        print(f"  {entry['title']}  [{said}]")
        for weights in entry["weights"]:
            gate = ", access on request" if weights["gated"] else ""
            about = "" if weights["counted"] else "~"
            size = f"{about}{weights['parameters']:,.0f} M parameters"
            print(f"    {weights['name']}  {size}, {weights['licence']}{gate}")
    print(f"  ({UNCHECKED})")


def print_size(name: str, as_json: bool) -> None:
    """Parameters and the memory of the weights, from config.json alone."""
    from refseg.inference.foundation import measure

    sizes = measure(name)
    total = sum(size.parameters for size in sizes)
    memory = {"float32": 4 * total, "bfloat16": 2 * total}
    if as_json:
        networks = [
            {"name": size.source, "model_type": size.family, "parts": size.parts, "parameters": size.parameters}
            for size in sizes
        ]
        print(json.dumps({"name": name, "networks": networks, "parameters": total, "bytes": memory}, indent=1))
        return
    rows = [
        (f"{size.family}: {part}", f"{count:,}", f"{count * 4 / 2**30:.2f}", f"{count * 2 / 2**30:.2f}")
        for size in sizes
        for part, count in size.parts.items()
    ]
    rows.append(("total", f"{total:,}", f"{total * 4 / 2**30:.2f}", f"{total * 2 / 2**30:.2f}"))
    print(f"{name}: weights in memory, by its configuration; nothing else was downloaded")
    print_table(("", "parameters", "GiB float32", "GiB bfloat16"), rows, lines=False)
    print("an answer takes memory besides; loading takes the float32 weights once, whatever the precision")
