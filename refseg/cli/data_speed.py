"""`refseg data speed [DIR]`: how fast a data set opens, and how many samples a second one worker delivers."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from dataclasses import asdict
from pathlib import Path

from refseg.errors import DataError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "root",
        metavar="DIR",
        type=Path,
        nargs="?",
        help="the data set's folder; without it a made-up RefCOCO of full size is written to a temporary folder (1 GB)",
    )
    parser.add_argument("--dataset", metavar="NAME", help="which data set (default: the folder's only one)")
    parser.add_argument("--split", metavar="NAME", help="train, val, testA, ... (default: all)")
    parser.add_argument("--split-by", metavar="NAME", help="who made the split: unc, umd, google, ...")
    parser.add_argument("--size", type=int, default=480, metavar="N", help="the network's input (default 480)")
    parser.add_argument("--samples", type=int, default=256, metavar="N", help="samples to load (default 256)")
    parser.add_argument("--json", metavar="OUT", help="write everything to this file")


def run(arguments: argparse.Namespace) -> int:
    """Measure, print, write the file."""
    from refseg.data.speed import measure_opening, measure_rate, noise_samples, write_refcoco

    if arguments.samples < 1 or arguments.size < 32:
        raise DataError("--samples is 1 or more, --size 32 or more")
    names = {"dataset": arguments.dataset, "split": arguments.split, "split_by": arguments.split_by}
    if arguments.root is None:
        with tempfile.TemporaryDirectory(prefix="refseg-speed-") as folder:
            print("writing a made-up RefCOCO of full size ...", flush=True)
            write_refcoco(Path(folder))
            openings = measure_opening(Path(folder))
            samples = noise_samples(Path(folder) / "noise")
            rounds = -(-arguments.samples // len(samples))
            rate = measure_rate((samples * rounds)[: arguments.samples], arguments.size)
    else:
        from refseg.data import open_dataset

        openings = measure_opening(arguments.root, **names)
        dataset = open_dataset(arguments.root, *names.values())
        step = max(1, len(dataset) // arguments.samples)
        chosen = [dataset.samples[index] for index in range(0, len(dataset), step)][: arguments.samples]
        rate = measure_rate(chosen, arguments.size)
    for name, opening in zip(("first", "again"), openings, strict=True):
        print(
            f"{name}: {opening.sentences:,} sentences in {opening.processor:.2f} processor seconds "
            f"({opening.clock:.2f} by the clock), peak memory {opening.peak / 1e6:.0f} MB"
        )
    print(
        f"worker: {rate.a_second:.0f} samples a processor second on one thread at {rate.size} pixels "
        f"({rate.samples} samples, {rate.clock:.2f} s by the clock, pictures of {rate.kilobytes:.0f} kB)"
    )
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    if load is not None:
        print(f"load of the machine: {load:.1f} on {os.cpu_count()} cores; a busy one makes the clock's figures worse")
    if arguments.json is not None:
        from refseg.files import write_text

        content = {"openings": [asdict(one) for one in openings], "rate": asdict(rate), "load": load}
        write_text(arguments.json, json.dumps(content, indent=1) + "\n")
    return 0
