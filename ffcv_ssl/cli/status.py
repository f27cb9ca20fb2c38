"""From exceptions to what a shell sees: one line on standard error, and an exit status."""

import io
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from ffcv_ssl.errors import FfcvSslError
from ffcv_ssl.system.names import ESCAPING, printable
from ffcv_ssl.system.signals import unwinding_on_signals

OK, FOUND_PROBLEMS, BAD_INPUT = 0, 1, 2
INTERRUPTED = 130  # 128 + SIGINT
BROKEN_PIPE = 141  # 128 + SIGPIPE


def exit_status(program: str, main: Callable[[Sequence[str] | None], int | None], argv: Sequence[str] | None = None) -> int:
    """Run a program and return its exit status.

    Parameters
    ----------
    program
        The name that opens an error line.
    main
        Takes the arguments; returns the status, None for success.
    argv
        The arguments without the program's name; None takes those of the process.

    Returns
    -------
    int
        What `main` returned; after a `FfcvSslError` or `OSError` its `exit_status` where it has one, else 2; 130 after Ctrl-C,
        141 when the reader of a pipe left.
        Any other exception is a bug and passes.

    Raises
    ------
    SystemExit
        After SIGTERM, SIGHUP or SIGQUIT, with 128 + the signal's number, when every `finally` block has run.
    """
    _prepare_streams()
    try:
        with unwinding_on_signals(), _short_warnings(program):
            status = main(argv) or OK
            sys.stdout.flush()  # what cannot be written is an error of this program, not of the interpreter's end
            return status
    except BrokenPipeError:
        _settle_output()
        return BROKEN_PIPE
    except (FfcvSslError, OSError) as error:
        _settle_output()
        sys.stderr.write(f"{program}: {one_line(error)}\n")
        return getattr(error, "exit_status", BAD_INPUT)
    except KeyboardInterrupt:
        sys.stderr.write(f"{program}: interrupted.\n")
        return INTERRUPTED


def one_line(error: Exception) -> str:
    """The error's text as one printable line; for an `OSError`, file and reason without the number."""
    if isinstance(error, OSError) and error.strerror and not isinstance(error, FfcvSslError):
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    else:
        text = str(error) or type(error).__name__
    return printable(" ".join(text.split()))


@contextmanager
def _short_warnings(program: str) -> Iterator[None]:
    """A warning is one line too, without the line of code that gave it."""
    usual = warnings.formatwarning
    warnings.formatwarning = lambda message, *_: f"{program}: warning: {printable(' '.join(str(message).split()))}\n"
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)  # a box in the picture says as much
            yield
    finally:
        warnings.formatwarning = usual


def _settle_output() -> None:
    """Write out what waits for standard output, or give it a place to go: Python flushes once more at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _prepare_streams() -> None:
    """Let standard output and error take any text in any locale, and be there even where the shell closed them."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  # lives as long as the process
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ESCAPING)
