"""The console command `ffcv-ssl`: find the module of a command and run it."""

import sys
from collections.abc import Sequence
from importlib import import_module

from ffcv_ssl import __version__
from ffcv_ssl.cli.status import exit_status
from ffcv_ssl.errors import ConfigError
from ffcv_ssl.system.names import did_you_mean

PROGRAM = "ffcv-ssl"
# Each command is a module of `ffcv_ssl.cli.commands`, imported only when it runs.
COMMANDS = {
    "write": "convert an image folder, an archive or an array file to a .beton file",
    "info": "show what a .beton file contains and how it was written",
    "verify": "check every checksum of a .beton file and decode every image",
    "seal": "decode a .beton file that has no checksums and add them",
    "preview": "draw samples of a .beton file next to their augmented views",
    "train": "train a network with SimCLR, EMP-SSL or another method",
    "probe": "evaluate a finished run with published protocols (kNN, linear probe, ...)",
    "finetune": "fine-tune the backbone of a run on all labels or a fraction of them",
    "export": "export the backbone of a run for torchvision and timm",
    "sweep": "train every configuration of a study; write a table and a figure",
    "bench": "measure images per second; compare with FFCV, DALI and torchvision",
    "demo": "draw images, train two methods and compare them, in about five minutes",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run `ffcv-ssl` and report errors as one line on standard error.

    Parameters
    ----------
    argv
        Arguments without the program's name. None takes those of the process.

    Returns
    -------
    int
        Exit status, see `ffcv_ssl.cli.status.exit_status`.

    Examples
    --------
    >>> from ffcv_ssl.cli.main import main
    >>> main(["--version"])  # doctest: +ELLIPSIS
    ffcv-ssl ...
    0
    """
    return exit_status(PROGRAM, run_command, argv)


def run_command(argv: Sequence[str] | None = None) -> int:
    """Run the command named by the first argument; let its errors propagate.

    Parameters
    ----------
    argv
        Arguments without the program's name. None takes those of the process.

    Returns
    -------
    int
        Exit status of the command.

    Raises
    ------
    ConfigError
        If there is no such command.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    command = arguments[0] if arguments else "--help"
    if command in ("-h", "--help", "help"):
        sys.stdout.write(overview())
        return 0
    if command == "--version":
        sys.stdout.write(f"{PROGRAM} {__version__}\n")
        return 0
    if command not in COMMANDS:
        known = ", ".join(COMMANDS)
        hint = did_you_mean(command, COMMANDS)
        raise ConfigError(f"no command '{command}'. Commands: {known}.{hint}")
    status: int = import_module(f"ffcv_ssl.cli.commands.{command}").main(arguments[1:])
    return status


def overview() -> str:
    """Return the text of `ffcv-ssl --help`."""
    width = max(map(len, COMMANDS))
    return "\n".join(
        [
            f"usage: {PROGRAM} COMMAND [--section.field=value …] [--config-file=FILE]",
            "",
            "commands:",
            *(f"  {name:{width}}  {summary}" for name, summary in COMMANDS.items()),
            "",
            f"Run `{PROGRAM} COMMAND --help` to list the options of a command,",
            f"and `{PROGRAM} --version` to print the version.",
            "",
        ]
    )


if __name__ == "__main__":
    raise SystemExit(main())
