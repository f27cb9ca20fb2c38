"""Fixtures of the comparison with FFCV. Without FFCV no test of this folder is collected."""

import pickle
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PEER_TIMEOUT_S = 300  # FFCV compiles a loader in 10 s on two idle cores
_COUNTS: dict[tuple[str, str], list[tuple[str, int]]] = defaultdict(list)

if find_spec("ffcv") is None:
    collect_ignore_glob = ["test_*.py"]


def _run_peer(command: str, file: Path, **options: Any) -> dict[str, list]:
    """Run FFCV in a separate process; return the values that it read."""
    out = file.with_name(f"{file.stem}-{command}-{'-'.join(map(str, options.values()))}.pickle")
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    arguments = [sys.executable, "-m", "tests.interop.peer", command, str(file), str(out), *flags]
    result = subprocess.run(
        arguments, cwd=ROOT, capture_output=True, text=True, timeout=PEER_TIMEOUT_S
    )
    assert result.returncode == 0, f"{' '.join(arguments[2:])}\n{result.stderr[-4000:]}"
    return pickle.loads(out.read_bytes()) if out.exists() else {}


@pytest.fixture(scope="session")
def peer() -> Callable[..., dict[str, list]]:
    """Return `peer("write" | "load" | "stored", file, option=value, …)`; see `peer.py`."""
    return _run_peer


@pytest.fixture(scope="session")
def compared() -> Callable[[str, str, str, int], None]:
    """Return `compared(direction, what, how, count)`, which records equal values for the table."""

    def record(direction: str, what: str, how: str, number: int) -> None:
        _COUNTS[direction, what].append((how, number))

    return record


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the number of compared values per direction and field."""
    if not _COUNTS:
        return
    terminalreporter.section("values compared with FFCV 1.0.2, all equal")
    for (direction, what), counts in _COUNTS.items():
        total = sum(number for _, number in counts)
        ways = ", ".join(
            f"{how} x{passes}" if passes > 1 else how
            for how, passes in Counter(how for how, _ in counts).items()
        )
        terminalreporter.write_line(f"{direction:<20}{what:<28}{total:>7,}  {ways}")
    total = sum(number for counts in _COUNTS.values() for _, number in counts)
    terminalreporter.write_line(f"{'':<20}{'total':<28}{total:>7,}")
