"""Who takes part: programs of `contestants/`, each with the Python, environment and threads it runs with."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ffcv_ssl.benchmarks.process import ContestantProcess

OURS, CEILING, PEER = "ours", "ceiling", "peer"
DECODER = "FFCV_SSL_DECODER"


@dataclass(frozen=True)
class Entry:
    """A contestant: its row in the tables.

    Parameters
    ----------
    key
        In the JSON.
    name
        In the tables.
    kind
        "ours", "ceiling" (plain decode) or "peer".
    program
        File in `contestants/` and its arguments.
    python
        Interpreter; None: this one.
    environment
        Variables to add.
    loader
        Further arguments of our loader.
    needs_jpeg
        Whether the row says nothing about images stored as pixels.
    workers
        Threads or processes; None: as the run says.
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
        """Start the program."""
        environment = {**self.environment, **(more_environment or {})}
        return ContestantProcess(
            self.python or sys.executable,
            self.program,
            environment,
            foreign=self.python is not None,
        )


def ours(rung: str, name: str, decode: str | None = None, workers: int | None = None) -> Entry:
    """Our loader with one decoder, by default with its default `decode=`."""
    key = f"ours_{'pip' if rung == 'simplejpeg' else rung}"
    return Entry(
        key=key + (f"_{decode}" if decode else "") + (f"_{workers}" if workers else ""),
        name=f"ffcv_ssl, {name}" + (f', decode="{decode}"' if decode else "") + _threads(workers),
        kind=OURS,
        program=["ours.py"],
        environment={DECODER: rung},
        loader={"decode": decode} if decode else {},
        needs_jpeg=rung == "native" or bool(decode),
        workers=workers,
    )


def plain_decode(rung: str, workers: int | None = None) -> Entry:
    """Plain decode with one decoder."""
    return Entry(
        key=f"decode_{rung}" + (f"_{workers}" if workers else ""),
        name=f"plain decode, {rung}" + _threads(workers),
        kind=CEILING,
        program=["plain_decode.py"],
        environment={DECODER: rung},
        needs_jpeg=True,
        workers=workers,
    )


def _threads(workers: int | None) -> str:
    """The end of a name that says how many threads."""
    return f", {workers} thread{'s' if workers > 1 else ''}" if workers else ""


RUNGS = {"simplejpeg": "pip install", "native": "native shim"}


def entries(pythons: Mapping[str, str | None], decode_options: Sequence[str] = ()) -> list[Entry]:
    """All contestants, ours first.

    Parameters
    ----------
    pythons
        Peer → interpreter; None: this one.
    decode_options
        Values of our loader's `decode=` that get rows of their own.
    """
    peers = {
        "ffcv": ("FFCV", ["ffcv_loader.py", "--flavour=ffcv"]),
        "ffcv_ssl_fb": ("FFCV-SSL", ["ffcv_loader.py", "--flavour=ffcv-ssl"]),
        "dali": ("DALI, CPU", ["dali_pipeline.py"]),
        "torchvision": ("torchvision, DataLoader", ["torchvision_chain.py"]),
        "pillow": ("Pillow, DataLoader", ["pillow_chain.py"]),
    }
    return [
        *(ours(rung, name) for rung, name in RUNGS.items()),
        *(ours(rung, name, decode) for decode in decode_options for rung, name in RUNGS.items()),
        *(
            Entry(key, name, PEER, program, python=pythons.get(key))
            for key, (name, program) in peers.items()
        ),
        *(plain_decode(rung) for rung in RUNGS),
    ]


def scaling_entries(cores: int) -> list[Entry]:
    """Ours and plain decode with 1, 2, 4, … threads up to the cores."""
    threads = sorted(
        {1, cores, *(2**power for power in range(cores.bit_length()) if 2**power <= cores)}
    )
    return [
        make
        for rung, name in RUNGS.items()
        for count in threads
        for make in (ours(rung, name, workers=count), plain_decode(rung, workers=count))
    ]
