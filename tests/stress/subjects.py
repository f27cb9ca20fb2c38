"""The subjects of the fuzz test: a seed determines a hostile file or JPEG and its report."""

from __future__ import annotations

import os
import random
from dataclasses import replace
from pathlib import Path

from tests.stress.bases import Base, jpegs, make_bases
from tests.stress.decoders import Decoders
from tests.stress.exercise import Outcome, Tasks, compare_views, exercise
from tests.stress.mutate import KINDS, UNSEALED, mutate
from tests.stress.mutate_jpeg import WEIGHTS, mutated_jpeg
from tests.stress.parts import Parts
from tests.stress.pool import Report

JPEG_WEIGHT = 3  # weight of files with JPEGs relative to the others


class FileSubject:
    """Mutated .beton files.

    The values read from a damaged file, whose checksums are unchanged, must be those that were
    written, unless the file has no checksums. A forged file, whose checksums match, may hold
    anything that the format allows.

    Parameters
    ----------
    folder
        Folder for the files.
    """

    kinds = tuple(KINDS)
    columns = (
        "files",
        "refused",
        "value errors",
        "same values",
        "other values",
        "unnoticed",
        "region alone",
        "faults",
        "other",
    )

    def __init__(self, folder: Path):
        self._folder = folder
        self._bases = make_bases(folder)
        self._weights = [JPEG_WEIGHT if base.name.startswith("jpeg") else 1 for base in self._bases]
        self._truths = {base.name: self._truth(base) for base in self._bases}

    def name(self, seed: int) -> tuple[str, str]:
        """Return the kind of mutation of a seed, and its description."""
        base, _, kind, done = self._mutated(seed)
        return kind, f"{base.name}: {done}"

    def run(self, seed: int) -> Report:
        """Write the file of a seed, and read it in every way."""
        base, parts, kind, done = self._mutated(seed)
        path = self._folder / f"{os.getpid()}.beton"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
        try:
            parts.write(descriptor)
        finally:
            os.close(descriptor)
        tasks = Tasks.of(seed)
        if kind == "jpeg" and tasks.decodes != ("fast",):
            tasks = replace(tasks, decodes=("exact", "full"))
        outcome = exercise(path, base.custom_fields, tasks)
        compare_views(outcome)
        column = self._column(outcome, base, kind, tasks.verify)
        return Report(
            kind, f"{base.name}: {done}", column, {"files": 1, **outcome.counts}, outcome.faults
        )

    def _mutated(self, seed: int) -> tuple[Base, Parts, str, str]:
        rng = random.Random(seed)
        base = rng.choices(self._bases, self._weights)[0]
        parts = base.parts.copy()
        kind, done = mutate(parts, rng)
        return base, parts, kind, done

    def _truth(self, base: Base) -> Outcome:
        """Return the values in the intact file."""
        path = self._folder / "intact.beton"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
        base.parts.write(descriptor)
        os.close(descriptor)
        truth = exercise(path, base.custom_fields, Tasks(("exact", "full", "fast")))
        if truth.faults or truth.problems or truth.refused or truth.errors:
            raise RuntimeError(f"{base.name} is not an intact file: {truth}")
        return truth

    def _column(self, outcome: Outcome, base: Base, kind: str, was_verified: bool) -> str:
        """Return the column that counts the file; unnoticed damage despite checksums is a fault."""
        if outcome.refused is not None:
            return "refused"
        truth = self._truths[base.name].values
        wrong = [key for key, seen in outcome.values.items() if truth.get(key) != seen]
        if kind in UNSEALED and wrong and base.checksums == "values":
            outcome.faults.append(("damage unnoticed", f"{wrong[:5]}"))
        read = [key for key in wrong if not key[1].startswith("view ")]
        if (
            kind in UNSEALED
            and read
            and base.checksums == "pages"
            and was_verified
            and not outcome.problems
        ):
            outcome.faults.append(("damage unnoticed by verify", f"{read[:5]}"))
        if outcome.errors or outcome.problems:
            return "value errors"
        if not wrong:
            return "same values"
        return "unnoticed" if kind in UNSEALED else "other values"


class JpegSubject:
    """Mutated JPEGs, decoded by every decoder.

    Parameters
    ----------
    max_pixels
        Of larger images only the header is read.
    only
        Names of the decoders to use; None: all.
    """

    kinds = tuple(function.__name__ for function in WEIGHTS)
    refusals = (
        "opencv+pillow",
        "pillow",
        "opencv",
        "native",
        "simplejpeg",
        "native+simplejpeg",
        "native+simplejpeg+pillow",
    )
    columns = (
        *("files", "refused", "decoded", "region alone, rows cut", "faults"),
        *(f"refused by {names} alone" for names in refusals),
        "other",
    )

    def __init__(self, max_pixels: int, only: tuple[str, ...] | None):
        self._decoders = Decoders(max_pixels, only)
        self._jpegs = jpegs()
        for jpeg in self._jpegs:
            outcome = self._decoders.compare(jpeg, random.Random(0))
            if outcome.faults or outcome.counts or not all(outcome.values.values()):
                raise RuntimeError(f"an intact JPEG does not decode: {outcome}")

    def name(self, seed: int) -> tuple[str, str]:
        """Return the first kind of mutation of a seed, and the description of all."""
        done = self._mutated(seed)[1]
        return done.split()[0], done

    def run(self, seed: int) -> Report:
        """Decode the JPEG of a seed."""
        data, done, rng = self._mutated(seed)
        outcome = self._decoders.compare(data, rng)
        column = "decoded" if any(outcome.values.values()) else "refused"
        return Report(done.split()[0], done, column, {"files": 1, **outcome.counts}, outcome.faults)

    def _mutated(self, seed: int) -> tuple[bytes, str, random.Random]:
        rng = random.Random(seed)
        data, done, _ = mutated_jpeg(rng.choice(self._jpegs), rng)
        return data, done, rng
