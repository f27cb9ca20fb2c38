"""Contestants: programs of `contestants/` with their Python, environment and threads."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ffcv_ssl.benchmarks.process import ContestantProcess

OURS, CEILING, PEER = "ours", "ceiling", "peer"
DECODER_VARIABLE = "FFCV_SSL_DECODER"


@dataclass(frozen=True)
class Entry:
    """A contestant, which is one row of the tables.

    Parameters
    ----------
    key
        Identifier in the JSON file.
    name
        Label in the tables.
    kind
        `"ours"`, `"ceiling"` (plain decode) or `"peer"`.
    program
        File in `contestants/`, followed by its arguments.
    python
        Interpreter. None: the running one.
    environment
        Environment variables to add.
    loader
        Additional arguments of the ffcv_ssl loader.
    needs_jpeg
        Whether the contestant is left out for images stored as pixels.
    workers
        Threads or processes. None: the number of the run.
    """

    key: str
    name: str
    kind: str
    program: Sequence[str]
    python: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    loader: Mapping[str, Any] = field(default_factory=dict)
    needs_jpeg: bool = False
    workers: int | None = None

    def start(self, more_environment: Mapping[str, str] | None = None) -> ContestantProcess:
        """Start the program.

        Parameters
        ----------
        more_environment
            Environment variables that override those of the entry.
        """
        environment = {**self.environment, **(more_environment or {})}
        return ContestantProcess(
            self.python or sys.executable,
            self.program,
            environment,
            foreign=self.python is not None,
        )


def ours(decoder: str, name: str, decode: str | None = None, workers: int | None = None) -> Entry:
    """Return an ffcv_ssl entry with the given decoder.

    Without `decode` the loader uses its default value.
    """
    key = f"ours_{'pip' if decoder == 'simplejpeg' else decoder}"
    return Entry(
        key=key + (f"_{decode}" if decode else "") + (f"_{workers}" if workers else ""),
        name=f"ffcv_ssl, {name}" + (f', decode="{decode}"' if decode else "") + _threads(workers),
        kind=OURS,
        program=["ours.py"],
        environment={DECODER_VARIABLE: decoder},
        loader={"decode": decode} if decode else {},
        needs_jpeg=decoder == "native" or bool(decode),
        workers=workers,
    )


def plain_decode(decoder: str, workers: int | None = None) -> Entry:
    """Return a plain-decode entry with the given decoder."""
    return Entry(
        key=f"decode_{decoder}" + (f"_{workers}" if workers else ""),
        name=f"plain decode, {decoder}" + _threads(workers),
        kind=CEILING,
        program=["plain_decode.py"],
        environment={DECODER_VARIABLE: decoder},
        needs_jpeg=True,
        workers=workers,
    )


def _threads(workers: int | None) -> str:
    """Return the suffix of a label that gives the number of threads."""
    return f", {workers} thread{'s' if workers > 1 else ''}" if workers else ""


DECODER_LABELS = {"simplejpeg": "pip install", "native": "native decoder"}


def entries(pythons: Mapping[str, str | None], decode_options: Sequence[str] = ()) -> list[Entry]:
    """Return all contestants, ffcv_ssl first.

    Parameters
    ----------
    pythons
        Peer to interpreter. None: the running one.
    decode_options
        Values of `decode=` that get ffcv_ssl rows of their own.
    """
    peers = {
        "ffcv": ("FFCV", ["ffcv_loader.py", "--flavor=ffcv"]),
        "ffcv_ssl_fb": ("FFCV-SSL", ["ffcv_loader.py", "--flavor=ffcv-ssl"]),
        "dali": ("DALI, CPU", ["dali_pipeline.py"]),
        "torchvision": ("torchvision, DataLoader", ["torchvision_chain.py"]),
        "pillow": ("Pillow, DataLoader", ["pillow_chain.py"]),
    }
    return [
        *(ours(decoder, name) for decoder, name in DECODER_LABELS.items()),
        *(
            ours(decoder, name, decode)
            for decode in decode_options
            for decoder, name in DECODER_LABELS.items()
        ),
        *(
            Entry(key, name, PEER, program, python=pythons.get(key))
            for key, (name, program) in peers.items()
        ),
        *(plain_decode(decoder) for decoder in DECODER_LABELS),
    ]


def scaling_entries(cores: int) -> list[Entry]:
    """Return ffcv_ssl and plain decode with 1, 2, 4, … threads, up to the number of cores."""
    threads = sorted(
        {1, cores, *(2**power for power in range(cores.bit_length()) if 2**power <= cores)}
    )
    return [
        make
        for decoder, name in DECODER_LABELS.items()
        for count in threads
        for make in (ours(decoder, name, workers=count), plain_decode(decoder, workers=count))
    ]
