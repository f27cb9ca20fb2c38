"""The console command `ffcv-ssl`: finds the command's module and runs it."""

import sys
from collections.abc import Sequence
from importlib import import_module

from ffcv_ssl import __version__
from ffcv_ssl.cli.status import exit_status
from ffcv_ssl.errors import ConfigError
from ffcv_ssl.system.names import did_you_mean

PROGRAM = "ffcv-ssl"
COMMANDS = {  # each is a module of `ffcv_ssl.cli.commands` with main(argv) -> int; imported only when it is asked for
    "write": "convert images of a folder, an archive or an array file into one .beton file",
    "info": "show what a .beton file holds and how it was written",
    "verify": "check every checksum and decode every image of a .beton file",
    "seal": "add checksums to a .beton file that has none, after decoding all of it",
    "preview": "draw samples of a .beton file beside their augmented views",
    "train": "train SimCLR, EMP-SSL or one of their relatives",
    "probe": "judge a finished run by the published protocols, on its own files or on others",
    "finetune": "train a run's backbone on with labels, all or few",
    "export": "write a run's backbone for other programs",
    "sweep": "train every cell of a study and draw what came out",
    "bench": "measure images per second, against FFCV, DALI, torchvision and plain decode",
    "demo": "draw images, write, train and compare, in about five minutes on two cores",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run `ffcv-ssl` with its arguments and return the exit status."""
    return exit_status(PROGRAM, run_command, argv)


def run_command(argv: Sequence[str] | None = None) -> int:
    """Run the command that the first argument names; errors pass to the caller."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    command = arguments[0] if arguments else "--help"
    if command in ("-h", "--help", "help"):
        sys.stdout.write(overview())
        return 0
    if command == "--version":
        sys.stdout.write(f"{PROGRAM} {__version__}\n")
        return 0
    if command not in COMMANDS:
        raise ConfigError(f"no command '{command}'. Commands: {', '.join(COMMANDS)}.{did_you_mean(command, COMMANDS)}")
    return import_module(f"ffcv_ssl.cli.commands.{command}").main(arguments[1:])


def overview() -> str:
    """The text of `ffcv-ssl --help`."""
    width = max(map(len, COMMANDS))
    lines = [f"usage: {PROGRAM} COMMAND [--section.field=value …] [--config-file=FILE]", "", "commands:"]
    lines += [f"  {name:{width}}  {summary}" for name, summary in COMMANDS.items()]
    lines += ["", f"{PROGRAM} COMMAND --help lists a command's options; {PROGRAM} --version prints the version.", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
