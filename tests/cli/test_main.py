"""The console command: overview, exit statuses, and what it does not import."""

import errno
import subprocess
import sys

import pytest

from ffcv_ssl import __version__
from ffcv_ssl.cli import status
from ffcv_ssl.cli.main import COMMANDS
from ffcv_ssl.cli.status import exit_status, one_line
from ffcv_ssl.errors import SampleError


def python(*arguments, **options):
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=60, **options
    )


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_overview__lists_every_command(run, arguments):
    """Without a command, and with --help, all commands are listed."""
    outcome = run(*arguments)
    assert outcome.status == 0
    assert all(f"\n  {name}" in outcome.out for name in COMMANDS)


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_help__of_every_command(run, command):
    """COMMAND --help prints its usage and leaves with 0."""
    outcome = run(command, "--help")
    assert outcome.status == 0
    assert outcome.out.startswith(f"usage: ffcv-ssl {command}")
    assert outcome.err == ""


def test_version__is_the_package_s(run):
    """--version prints the version."""
    assert run("--version").out == f"ffcv-ssl {__version__}\n"


def test_unknown_command__is_bad_input(run):
    """An unknown command leaves with 2 and a hint in one line."""
    outcome = run("wirte")
    assert outcome.status == 2
    assert (
        outcome.err
        == "ffcv-ssl: no command 'wirte'. Commands: "
        + ", ".join(COMMANDS)
        + ". Did you mean 'write'?\n"
    )


def test_overview__loads_nothing_heavy():
    """`ffcv-ssl --help` needs neither torch, numba, NumPy nor matplotlib."""
    program = (
        "import sys; from ffcv_ssl.cli.main import main; main(['--help']); print(*sys.modules)"
    )
    modules = python("-c", program).stdout.split()
    assert "ffcv_ssl.cli.main" in modules
    assert not {"torch", "numba", "numpy", "matplotlib", "tensorboard", "cv2"} & set(modules)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            SampleError("a.beton: sample 3,\n  field 'image': broken"),
            "a.beton: sample 3, field 'image': broken",
        ),
        (
            FileNotFoundError(errno.ENOENT, "No such file or directory", "a.beton"),
            "a.beton: No such file or directory",
        ),
        (OSError("odd"), "odd"),
    ],
)
def test_one_line__holds_the_message(error, line):
    """An error becomes one line, without line breaks or error numbers."""
    assert one_line(error) == line


def test_exit_status__of_errors(capsys):
    """Errors made on purpose and OSErrors give 2 and one line, Ctrl-C 130; bugs pass."""

    def fail(error):
        def main(argv):
            raise error

        return main

    assert exit_status("p", lambda argv: None) == 0
    assert exit_status("p", lambda argv: 1) == 1
    assert exit_status("p", fail(SampleError("broken"))) == 2
    assert exit_status("p", fail(PermissionError(errno.EACCES, "Permission denied", "x"))) == 2
    assert exit_status("p", fail(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "p: broken\np: x: Permission denied\np: interrupted.\n"
    with pytest.raises(ZeroDivisionError):
        exit_status("p", fail(ZeroDivisionError()))


def test_exit_status__when_the_reader_of_a_pipe_leaves():
    """Output into a closed pipe ends quietly with 141."""
    program = (
        "import os, sys\n"
        "from ffcv_ssl.cli.main import main\n"
        "read, write = os.pipe(); os.close(read); os.dup2(write, 1)\n"
        "from ffcv_ssl.cli.status import exit_status\n"
        "sys.exit(exit_status('p', lambda argv: (sys.stdout.write('x' * 100000), sys.stdout.flush())))"  # noqa: E501
    )
    result = python("-c", program)
    assert result.returncode == status.BROKEN_PIPE
    assert result.stderr == ""


def test_module__runs_as_a_program():
    """The exit status reaches the shell."""
    result = python("-m", "ffcv_ssl.cli.main", "info", "/nowhere.beton")
    assert result.returncode == 2
    assert result.stderr == "ffcv-ssl: /nowhere.beton: No such file or directory\n"
