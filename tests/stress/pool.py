"""Run seeds in forked processes; a crash, a hang or excessive memory is a finding."""

from __future__ import annotations

import faulthandler
import json
import mmap
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

ADDRESS_SPACE = 3 << 30  # limit in bytes beyond a fresh process
REPLACE_ME = 97  # exit status of a process whose memory peak would hide that of later seeds
WAIT_S = 0.05


@dataclass(frozen=True)
class Finding:
    """A violation, the seed that reproduces it, and the mutation that was `made`."""

    seed: int
    kind: str
    fault: str
    text: str
    made: str


@dataclass(frozen=True)
class Report:
    """Result of one seed: row and column of the table, mutation, counts, (fault, text)."""

    kind: str
    made: str
    column: str
    counts: dict[str, int]
    faults: list[tuple[str, str]]


class Tally:
    """Counts by kind and column in shared memory, so that they survive the process."""

    def __init__(self, kinds: Sequence[str], columns: Sequence[str]):
        self.kinds, self.columns = list(kinds), list(columns)
        memory = mmap.mmap(-1, 8 * len(self.kinds) * len(self.columns) or 8)
        self.counts = np.frombuffer(memory, np.int64)[
            : len(self.kinds) * len(self.columns)
        ].reshape(len(self.kinds), -1)

    def add(self, kind: str, column: str, count: int = 1) -> None:
        """Increase a count; unknown columns count as "other"."""
        index = (
            self.columns.index(column) if column in self.columns else self.columns.index("other")
        )
        self.counts[self.kinds.index(kind), index] += count


class Pool:
    """Pool of processes that call `run(seed)` for a range of seeds.

    Parameters
    ----------
    run
        Deterministic function of a seed that returns a report; runs in a forked process.
    name
        Function of a seed that returns kind and mutation, for seeds that never report.
    kinds, columns
        Rows and columns of the table.
    folder
        Folder for the findings of the processes.
    hang_s
        Time limit per seed, seconds.
    most_bytes
        Maximum growth of the address space per seed, bytes.
    """

    def __init__(
        self,
        run: Callable[[int], Report],
        name: Callable[[int], tuple[str, str]],
        kinds: Sequence[str],
        columns: Sequence[str],
        folder: Path,
        hang_s: float,
        most_bytes: int,
    ):
        self._run, self._name, self._folder = run, name, folder
        self._hang_s, self._most_bytes = hang_s, most_bytes
        self.tallies = [Tally(kinds, columns)]
        self.findings: list[Finding] = []
        self.largest = 0

    def go(self, first: int, count: int, num_processes: int) -> None:
        """Run all seeds; store the results in `counts`, `findings` and `largest`."""
        model = self.tallies[0]
        workers = [
            _Worker(
                Tally(model.kinds, model.columns), range(first + k, first + count, num_processes)
            )
            for k in range(num_processes)
        ]
        self.tallies += [worker.tally for worker in workers]
        for k, worker in enumerate(workers):
            self._start(worker, k)
        while any(worker.pid for worker in workers):
            time.sleep(WAIT_S)
            for k, worker in enumerate(workers):
                if worker.pid:
                    self._look_after(worker, k)
        for k in range(num_processes):
            path = self._folder / f"findings-{k}"
            lines = path.read_text().splitlines() if path.exists() else []
            self.findings += [Finding(**json.loads(line)) for line in lines]
        self.findings.sort(key=lambda finding: finding.seed)
        self.largest = max(int(worker.state[2]) for worker in workers)

    @property
    def counts(self) -> np.ndarray:
        """Sum over all processes, (kinds, columns)."""
        return np.sum([tally.counts for tally in self.tallies], axis=0)

    def _start(self, worker: _Worker, k: int) -> None:
        """Fork a process for the remaining seeds of a worker."""
        if not worker.seeds:
            worker.pid = 0
            return
        sys.stdout.flush(), sys.stderr.flush()
        worker.state[:2] = worker.seeds[0], time.monotonic_ns()
        worker.pid = os.fork()
        if not worker.pid:
            try:
                status = self._work(worker, k)
            except BaseException as error:
                os.write(2, f"the process itself failed: {error!r}\n".encode())
                status = 98
            os._exit(status)

    def _look_after(self, worker: _Worker, k: int) -> None:
        """Replace a process that ended; abort one that hangs."""
        pid, status = os.waitpid(worker.pid, os.WNOHANG)
        seed = int(worker.state[0])
        if not pid:
            if time.monotonic_ns() - int(worker.state[1]) > self._hang_s * 1e9:
                os.kill(worker.pid, signal.SIGABRT)  # its faulthandler writes the stack
                os.waitpid(worker.pid, 0)
                self._died(worker, k, "hang", f"more than {self._hang_s} s")
            return
        code = os.waitstatus_to_exitcode(status)
        if code == 0:
            worker.pid = 0
        elif code == REPLACE_ME:
            worker.seeds = worker.seeds[worker.seeds.index(seed) + 1 :]
            self._start(worker, k)
        else:
            self._died(
                worker,
                k,
                "signal" if code < 0 else "exit",
                signal.Signals(-code).name if code < 0 else str(code),
            )

    def _died(self, worker: _Worker, k: int, fault: str, text: str) -> None:
        """Record a finding and continue with the next seed."""
        seed = int(worker.state[0])
        trace = self._folder / f"trace-{k}"
        written = trace.read_text(errors="replace")[-6000:] if trace.exists() else ""
        kind, made = self._name(seed)
        self.findings.append(Finding(seed, kind, fault, f"{text}\n{written}", made))
        worker.tally.add(kind, "faults")
        worker.seeds = worker.seeds[worker.seeds.index(seed) + 1 :]
        self._start(worker, k)

    def _work(self, worker: _Worker, k: int) -> int:
        """Run the seeds of one process; return its exit status."""
        trace = os.open(self._folder / f"trace-{k}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(trace, 2)  # output of C libraries, the faulthandler and the sanitizers
        faulthandler.enable(file=2)
        start, peak = address_space()
        resource.setrlimit(resource.RLIMIT_AS, (start + ADDRESS_SPACE,) * 2)
        with open(self._folder / f"findings-{k}", "a") as findings:
            for seed in worker.seeds:
                os.ftruncate(2, 0)
                worker.state[:2] = seed, time.monotonic_ns()
                report = self._run(seed)
                faults = list(report.faults)
                now, after = address_space()
                grown = after - start if after > peak else 0
                worker.state[2] = max(int(worker.state[2]), grown)
                if grown > self._most_bytes:
                    faults.append(("allocation", f"{grown / 2**20:.0f} MiB"))
                worker.tally.add(report.kind, "faults" if faults else report.column)
                for name, count in report.counts.items():
                    worker.tally.add(report.kind, name, count)
                for fault, text in faults:
                    findings.write(
                        json.dumps(asdict(Finding(seed, report.kind, fault, text, report.made)))
                        + "\n"
                    )
                findings.flush()
                if grown > self._most_bytes or now - start > self._most_bytes // 2:
                    return REPLACE_ME
                peak = max(peak, after)
        return 0


class _Worker:
    """A process with its remaining seeds and shared state.

    `state` holds the seed, its start time (ns) and the largest growth of memory (bytes).
    """

    def __init__(self, tally: Tally, seeds: range):
        self.tally, self.seeds, self.pid = tally, seeds, 0
        self.state: Any = np.frombuffer(mmap.mmap(-1, 24), np.int64)


def address_space() -> tuple[int, int]:
    """Return the current and the peak address space of this process in bytes."""
    found = {}
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith(("VmPeak:", "VmSize:")):
                found[line[:6]] = int(line.split()[1]) * 1024
    return found["VmSize"], found["VmPeak"]
