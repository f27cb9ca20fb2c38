"""Uses of a file, which may end in values or in the package's own errors."""

from __future__ import annotations

import contextlib
import io
import traceback
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ffcv_ssl.beton import BetonReader
from ffcv_ssl.beton.seal import seal
from ffcv_ssl.cli.commands import info
from ffcv_ssl.errors import BetonFormatError, FfcvSslError, PipelineError, SampleError
from ffcv_ssl.fields import Field, RGBImageField
from ffcv_ssl.fields.custom import OpaqueField
from ffcv_ssl.loader import Loader
from ffcv_ssl.transforms import RandomResizedCrop

CROP = RandomResizedCrop((9, 12), scale=(0.05, 0.6))  # small, so that most of a JPEG is not shown
MAX_SAMPLES = 24  # samples read per file; a forged header may claim thousands
MAX_VERIFIED = 1000
CACHES, DECODES = ("os", "ram", "auto"), (("exact", "full"), ("exact",), ("full",), ("fast",))
Key = tuple[int, str]  # sample and field


@dataclass(frozen=True)
class Tasks:
    """Uses of a file beyond opening it and reading its values.

    Parameters
    ----------
    decodes, cache, workers
        Options of the loaders, which run one epoch for each value of `decodes`.
    verify, seal, command
        Whether to verify the file, seal it, and call `ffcv-ssl info`.
    """

    decodes: tuple[str, ...]
    cache: str = "os"
    workers: int = 0
    verify: bool = True
    seal: bool = False
    command: bool = False

    @classmethod
    def of(cls, turn: int) -> Tasks:
        """Return the tasks of a turn; successive turns cycle through all combinations."""
        rest, cache = divmod(turn, len(CACHES))
        rest, workers = divmod(rest, 2)
        rest, decode = divmod(rest, len(DECODES))
        return cls(
            DECODES[decode],
            CACHES[cache],
            workers,
            verify=rest % 4 == 0,
            seal=rest % 7 == 0,
            command=rest % 3 == 0,
        )


@dataclass
class Outcome:
    """Results of one file.

    Parameters
    ----------
    refused
        Error message of a file that did not open. None: it opened.
    values
        Digest of every value, from the reader or (keys with "view") from the loader.
    errors
        Error messages of values that could not be read.
    problems
        Problems that `verify` reported.
    faults
        (kind, text) of violations.
    counts
        Counts of permitted events.
    """

    refused: str | None = None
    values: dict[Key, int] = field(default_factory=dict)
    errors: dict[Key, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    faults: list[tuple[str, str]] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    @contextlib.contextmanager
    def only(self, task: str, *allowed: type[BaseException]) -> Iterator[None]:
        """Record exceptions of other types, and failed memory allocations in any form."""
        try:
            yield
        except Exception as error:
            if _lacks_memory(error):
                self.faults.append(("memory refused", f"{task}: {described(error)}"))
            elif not isinstance(error, allowed):
                self.faults.append(("untyped error", f"{task}: {described(error)}"))


def exercise(path: Path, custom_fields: Mapping[str, type[Field]], tasks: Tasks) -> Outcome:
    """Open a file, read all values, render epochs, and perform the other tasks."""
    outcome = Outcome()
    with outcome.only("open", FfcvSslError):
        try:
            reader = BetonReader(path, custom_fields)
        except BetonFormatError as error:
            outcome.refused = str(error)
            if tasks.command:
                _command(path, outcome)
            raise
        with reader:
            _read(reader, outcome, tasks.verify)
        if tasks.command:
            _command(path, outcome)
        for decode in tasks.decodes:
            _render(path, custom_fields, reader, outcome, decode, tasks)
        if tasks.seal and not custom_fields:
            _seal(path, outcome)
    return outcome


def _read(reader: BetonReader, outcome: Outcome, verify: bool) -> None:
    """Verify the file and read its values with the reader."""
    opaque = {name for name, kind in reader.fields.items() if isinstance(kind, OpaqueField)}
    if verify and len(reader) <= MAX_VERIFIED:
        with outcome.only("verify"):
            found = [problem for problem in reader.verify() if problem.field not in opaque]
            outcome.problems = [problem.message for problem in found if not problem.is_harmless]
    for sample_id in _chosen(len(reader)):
        for name in reader.fields:
            key = sample_id, name
            with outcome.only(f"value {key}"):
                try:
                    outcome.values[key] = digest(reader.value(sample_id, name))
                except SampleError as error:
                    if _lacks_memory(error):
                        raise
                    if name not in opaque:
                        outcome.errors[key] = str(error)
                        _check_cause(error, outcome)


def _command(path: Path, outcome: Outcome) -> None:
    """Call `ffcv-ssl info`, which opens custom fields without their classes; discard its output."""
    with (
        outcome.only("info", FfcvSslError),
        io.TextIOWrapper(io.BytesIO(), encoding="utf-8") as pipe,
        contextlib.redirect_stdout(pipe),
    ):
        info.main([str(path)])


def _check_cause(error: SampleError, outcome: Outcome) -> None:
    """Record causes of other types, which a `SampleError` would hide."""
    if not isinstance(error.__cause__, (FfcvSslError, OSError)):
        outcome.faults.append(("untyped cause", described(error)))


def _render(
    path: Path,
    custom_fields: Mapping[str, type[Field]],
    reader: BetonReader,
    outcome: Outcome,
    decode: str,
    tasks: Tasks,
) -> None:
    """Render one epoch; record the digests of all views, and errors of samples."""
    cache = "os" if decode == "fast" and tasks.cache == "ram" else tasks.cache
    mode = f"decode={decode} cache={cache} num_workers={tasks.workers}"
    with outcome.only(f"loader {mode}", BetonFormatError, PipelineError):
        names = [name for name, kind in reader.fields.items() if not isinstance(kind, OpaqueField)]
        images = [name for name in names if isinstance(reader.fields[name], RGBImageField)]
        if not names or not len(reader):
            return
        pipelines = {name: None for name in reader.fields if name not in names} | {
            name: [CROP] for name in images
        }
        loader = Loader(
            path, 3, seed=1, drop_last=False, with_ids=True, on_error="skip",
            indices=_chosen(len(reader)),
            pipelines=pipelines, custom_fields=custom_fields,
            decode=decode, cache=cache, num_workers=tasks.workers,
        )  # fmt: skip
        lost = set(_chosen(len(reader)))
        with loader:
            for batch in loader:
                for position, sample_id in enumerate(batch.ids.tolist()):
                    lost.discard(sample_id)
                    for name in names:
                        key = sample_id, f"view {decode} {name}" if name in images else name
                        seen = digest(batch[name][position])
                        if outcome.values.setdefault(key, seen) != seen and name not in images:
                            outcome.faults.append(("loader differs from reader", f"{key} {mode}"))
            for error in loader.failures:
                lost.discard(error.sample_id)
                outcome.errors[int(error.sample_id or 0), f"view {decode} {error.field}"] = str(
                    error
                )
                if "no memory" in str(error) or "MemoryError" in str(error):
                    outcome.faults.append(("memory refused", str(error)))
        if lost:
            outcome.faults.append(("sample lost", f"{sorted(lost)} {mode}"))


def _seal(path: Path, outcome: Outcome) -> None:
    """Seal the file; check that it opens and that its values are unchanged."""
    with outcome.only("seal", BetonFormatError):
        if seal(path):
            with BetonReader(path) as reader:
                for (sample_id, name), seen in outcome.values.items():
                    if name in reader.fields and digest(reader.value(sample_id, name)) != seen:
                        outcome.faults.append(("seal changes a value", f"{sample_id} {name}"))


def compare_views(outcome: Outcome) -> None:
    """Compare the region of each JPEG with the full decode; different pixels are a fault.

    A region that decodes although the full image fails is counted: rows outside it are not checked.
    """
    for (sample_id, name), seen in list(outcome.values.items()):
        if name.startswith("view exact "):
            full = sample_id, name.replace("exact", "full", 1)
            if outcome.values.get(full, seen) != seen:
                outcome.faults.append(("region differs from full decode", f"{sample_id} {name}"))
            elif full in outcome.errors:
                outcome.counts["region alone"] = outcome.counts.get("region alone", 0) + 1
        elif (
            name.startswith("view full ")
            and (sample_id, name.replace("full", "exact", 1)) in outcome.errors
        ):
            outcome.faults.append(("full decode alone", f"{sample_id} {name}"))


def digest(value: Any) -> int:
    """Return a checksum of a value of any type; it covers every bit."""
    if hasattr(value, "numpy"):
        value = value.numpy()
    if isinstance(value, (np.ndarray, np.generic)) and value.ndim == 0:
        value = value.item()
    if isinstance(value, np.ndarray):
        return zlib.crc32(
            f"{value.dtype}{value.shape}".encode(),
            zlib.crc32(np.ascontiguousarray(value).tobytes()),
        )
    return zlib.crc32(repr(value).encode("utf-8", "surrogatepass"))


def described(error: BaseException) -> str:
    """Return the error, its root cause and the innermost frames."""
    cause = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    frames = traceback.extract_tb(cause.__traceback__)[-3:]
    frames_text = " < ".join(
        f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in reversed(frames)
    )
    return f"{type(error).__name__} from {type(cause).__name__}: {str(cause)[:300]} | {frames_text}"


def _chosen(count: int) -> list[int]:
    """Return the samples to read: all, or the first and the last ones."""
    return (
        list(range(count))
        if count <= MAX_SAMPLES
        else [*range(MAX_SAMPLES // 2), *range(count - MAX_SAMPLES // 2, count)]
    )


def _lacks_memory(error: BaseException | None) -> bool:
    """Return whether a failed memory allocation is among the causes of an error."""
    seen = 0
    while error is not None and seen < 20:
        if (
            isinstance(error, MemoryError)
            or "no memory" in str(error)
            or "Unable to allocate" in str(error)
        ):
            return True
        error, seen = error.__cause__ or error.__context__, seen + 1
    return False
