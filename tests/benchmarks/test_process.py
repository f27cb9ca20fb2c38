"""Processes of contestants: a crash or a hang is an error, and no process is left running."""

import os
import sys
import time
from pathlib import Path

import pytest

from ffcv_ssl.benchmarks import process
from ffcv_ssl.benchmarks.process import ContestantLost, ContestantProcess

ECHO = """
import json, sys
for line in sys.stdin:
    print(json.dumps({"got": json.loads(line)}), flush=True)
"""
DEATH = "import sys\nsys.exit('no such codec')"
HANG = "import time\ntime.sleep(1000)"
PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
print(child.pid, flush=True)
child.wait()
"""


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Start a program given as text; it ends with the test."""
    monkeypatch.setattr(process, "CONTESTANTS", tmp_path)
    started = []

    def start_program(text, foreign=False, **environment):
        (tmp_path / "program.py").write_text(text)
        started.append(ContestantProcess(sys.executable, ["program.py"], environment, foreign))
        return started[-1]

    yield start_program
    for each in started:
        each.close()


def test_ask__returns_the_reply(start):
    """Each request gets its reply, also several in a row."""
    contestant = start(ECHO)
    assert contestant.ask({"do": "epoch", "n": 1}, 20) == {"got": {"do": "epoch", "n": 1}}
    assert contestant.ask({"do": "memory"}, 20) == {"got": {"do": "memory"}}


def test_ask__tells_how_a_contestant_died(start):
    """A crash is reported at once, with the last lines of standard error."""
    with pytest.raises(ContestantLost, match="no such codec"):
        start(DEATH).ask({"do": "prepare"}, 20)


def test_ask__gives_up_in_time(start):
    """A contestant that does not reply is an error after the time limit."""
    with pytest.raises(ContestantLost, match="'prepare' within 0 s"):
        start(HANG).ask({"do": "prepare"}, 0.2)


def test_close__ends_the_children_too(start):
    """`close` also ends the child processes of a contestant."""
    contestant = start(PARENT)
    child = contestant.ask({"do": "prepare"}, 20)
    contestant.close()
    for _ in range(500):
        if has_ended(child):
            return
        time.sleep(0.01)
    pytest.fail(f"process {child} is alive")


def has_ended(pid):
    """Return whether a process is gone or a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_start__without_an_interpreter_is_a_lost_contestant():
    """A missing interpreter is an error that names it."""
    with pytest.raises(ContestantLost, match="/no/such/python"):
        ContestantProcess("/no/such/python", ["ours.py"], {}, foreign=True)


def test_start__keeps_this_pythons_paths_from_another(start, monkeypatch):
    """Another interpreter gets the variables of the entry but not the import paths."""
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    program = (
        "import json, os, sys\n"
        "sys.stdin.readline()\n"
        "print(json.dumps([os.environ.get('PYTHONPATH'), os.environ['ADDED']]), flush=True)"
    )
    assert start(program, foreign=True, ADDED="1").ask({"do": ""}, 20) == [None, "1"]
    assert start(program, foreign=False, ADDED="1").ask({"do": ""}, 20) == ["/somewhere", "1"]
    assert os.environ["PYTHONPATH"] == "/somewhere"
