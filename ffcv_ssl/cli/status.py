"""From exceptions to what a shell sees: one line on standard error, and an exit status."""

import os
import sys
from collections.abc import Callable, Sequence

from ffcv_ssl.errors import FfcvSslError

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
    """
    try:
        return main(argv) or OK
    except BrokenPipeError:
        # Python flushes standard output once more at exit; give it a place to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except (FfcvSslError, OSError) as error:
        sys.stderr.write(f"{program}: {one_line(error)}\n")
        return getattr(error, "exit_status", BAD_INPUT)
    except KeyboardInterrupt:
        sys.stderr.write(f"{program}: interrupted.\n")
        return INTERRUPTED


def one_line(error: Exception) -> str:
    """The error's text without line breaks; for an `OSError`, file and reason without the number."""
    if isinstance(error, OSError) and error.strerror and not isinstance(error, FfcvSslError):
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    else:
        text = str(error) or type(error).__name__
    return " ".join(text.split())
