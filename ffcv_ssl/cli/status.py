"""Turn exceptions into a line on standard error and an exit status."""

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


def exit_status(
    program: str,
    main: Callable[[Sequence[str] | None], int | None],
    argv: Sequence[str] | None = None,
) -> int:
    """Run a program and return its exit status.

    Parameters
    ----------
    program
        Name that starts every error line.
    main
        Function that takes the arguments and returns the status, or None for success.
    argv
        Arguments without the program's name. None takes those of the process.

    Returns
    -------
    int
        The status that `main` returned. After a `FfcvSslError` or an `OSError`, the exception's
        `exit_status` if it has one, else 2. 130 after Ctrl-C. 141 if standard output is a pipe
        whose reader has exited. Any other exception is a bug and propagates.

    Raises
    ------
    SystemExit
        After SIGTERM, SIGHUP or SIGQUIT, once every `finally` block has run. The status is 128 +
        the number of the signal.
    """
    _prepare_streams()
    try:
        with unwinding_on_signals(), _short_warnings(program):
            status = main(argv) or OK
            sys.stdout.flush()  # report a failed write here, not when the interpreter exits
            return status
    except BrokenPipeError:
        _discard_unwritable_output()
        return BROKEN_PIPE
    except (FfcvSslError, OSError) as error:
        _discard_unwritable_output()
        sys.stderr.write(f"{program}: {one_line(error)}\n")
        status = getattr(error, "exit_status", BAD_INPUT)
        return status
    except KeyboardInterrupt:
        sys.stderr.write(f"{program}: interrupted.\n")
        return INTERRUPTED


def one_line(error: Exception) -> str:
    """Return the text of an error as one printable line.

    Parameters
    ----------
    error
        Any exception. An `OSError` gives the file name and the reason, without the error number.

    Returns
    -------
    str
        One line without line breaks and control characters.

    Examples
    --------
    >>> from ffcv_ssl.cli.status import one_line
    >>> one_line(FileNotFoundError(2, "No such file or directory", "train.beton"))
    'train.beton: No such file or directory'
    """
    if isinstance(error, OSError) and error.strerror and not isinstance(error, FfcvSslError):
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    else:
        text = str(error) or type(error).__name__
    return printable(" ".join(text.split()))


@contextmanager
def _short_warnings(program: str) -> Iterator[None]:
    """Print each warning as one line, without the line of code that issued it."""
    usual = warnings.formatwarning

    def one_line_warning(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        line: str | None = None,
    ) -> str:
        return f"{program}: warning: {printable(' '.join(str(message).split()))}\n"

    warnings.formatwarning = one_line_warning
    try:
        with warnings.catch_warnings():
            # The box that Matplotlib draws for a missing glyph tells as much.
            warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
            yield
    finally:
        warnings.formatwarning = usual


def _discard_unwritable_output() -> None:
    """Flush standard output; redirect it to the null device if that fails.

    Python flushes the stream again when it exits and would report the same error.
    """
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _prepare_streams() -> None:
    """Make standard output and error accept any text in any locale, and replace closed streams."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  # until the process ends
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ESCAPING)
