"""Parent side of a contestant's process.

The parent starts the process, sends requests with a time limit, and kills the whole process group.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ffcv_ssl.errors import FfcvSslError

CONTESTANTS = Path(__file__).parent / "contestants"
PARENTS_OWN = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")  # not passed on to another interpreter
TAIL = 3  # last lines of standard error to report
CHUNK = 1 << 16


class ContestantLost(FfcvSslError):
    """A contestant's process ended, or did not reply in time."""


class ContestantProcess:
    """A program of `contestants/` in a process group of its own.

    Parameters
    ----------
    python
        The interpreter.
    arguments
        Name of the program in `contestants/`, then its arguments.
    environment
        Environment variables to add.
    foreign
        Whether the interpreter is another one than this. It then does not inherit the import paths.

    Raises
    ------
    ContestantLost
        If the interpreter cannot be started.
    """

    def __init__(
        self, python: str, arguments: Sequence[str], environment: Mapping[str, str], foreign: bool
    ):
        program, *rest = arguments
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not (foreign and name in PARENTS_OWN)
        }
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (close() closes it)
        self._unread = b""
        try:
            self._process = subprocess.Popen(
                [python, "-u", str(CONTESTANTS / program), *rest],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env=inherited | dict(environment),
                start_new_session=True,
            )
        except OSError as error:
            self._errors.close()
            raise ContestantLost(f"{python}: {error.strerror}") from error

    @property
    def pid(self) -> int:
        """Id of the process and of its process group."""
        return self._process.pid

    def ask(self, request: Mapping[str, Any], timeout_s: float) -> dict[str, Any]:
        """Send a request and wait for the reply.

        Parameters
        ----------
        request
            JSON-serializable; the key `do` names the action.
        timeout_s
            Time limit in seconds.

        Returns
        -------
        dict
            The reply.

        Raises
        ------
        ContestantLost
            If the process dies or exceeds the time limit. Call `close` then.
        """
        deadline = time.monotonic() + timeout_s
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise ContestantLost(f"died: {self._last_words()}") from None
        while b"\n" not in self._unread:
            readable, _, _ = select.select(
                [self._process.stdout], [], [], max(0, deadline - time.monotonic())
            )
            if not readable:
                raise ContestantLost(f"no reply to '{request['do']}' within {timeout_s:.0f} s")
            received = os.read(self._process.stdout.fileno(), CHUNK)
            if not received:
                raise ContestantLost(f"died: {self._last_words()}")
            self._unread += received
        line, _, self._unread = self._unread.partition(b"\n")
        return json.loads(line)

    def close(self) -> None:
        """Kill the process and its children."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            with contextlib.suppress(OSError):
                stream.close()

    def _last_words(self) -> str:
        """Return the exit status and the last lines of standard error."""
        status = self._process.wait()
        self._errors.seek(0)
        lines = [
            line.strip()
            for line in self._errors.read().decode(errors="replace").splitlines()
            if line.strip()
        ]
        return " | ".join([f"status {status}", *lines[-TAIL:]])
