"""Contestants' processes: what dies or hangs becomes an error, and nothing is left behind."""

import os
import sys
import time
from pathlib import Path

import pytest

from ffcv_ssl.benchmarks import process
from ffcv_ssl.benchmarks.process import ContestantLost, ContestantProcess

ECHO = "import json, sys\nfor line in sys.stdin: print(json.dumps({'got': json.loads(line)}), flush=True)"
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
    """Start a program given as text; it is ended with the test."""
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
    """A request is one line, its reply one line; several follow each other."""
    contestant = start(ECHO)
    assert contestant.ask({"do": "epoch", "n": 1}, 20) == {"got": {"do": "epoch", "n": 1}}
    assert contestant.ask({"do": "memory"}, 20) == {"got": {"do": "memory"}}


def test_ask__tells_how_a_contestant_died(start):
    """A death is reported with the last words, not waited for."""
    with pytest.raises(ContestantLost, match="no such codec"):
        start(DEATH).ask({"do": "prepare"}, 20)


def test_ask__gives_up_in_time(start):
    """A contestant that does not answer is given up after the time limit."""
    with pytest.raises(ContestantLost, match="'prepare' within 0 s"):
        start(HANG).ask({"do": "prepare"}, 0.2)


def test_close__ends_the_children_too(start):
    """The processes that a contestant started end with it."""
    contestant = start(PARENT)
    child = contestant.ask({"do": "prepare"}, 20)
    contestant.close()
    for _ in range(500):
        if has_ended(child):
            return
        time.sleep(0.01)
    pytest.fail(f"process {child} is alive")


def has_ended(pid):
    """Whether a process is gone, or waits to be buried."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_start__without_an_interpreter_is_a_lost_contestant():
    """A Python that does not exist is an error that names it."""
    with pytest.raises(ContestantLost, match="/no/such/python"):
        ContestantProcess("/no/such/python", ["ours.py"], {}, foreign=True)


def test_start__keeps_this_pythons_paths_from_another(start, monkeypatch):
    """Import paths of this Python do not reach a foreign one; what the entry adds does."""
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    program = "import json, os, sys\nsys.stdin.readline(); print(json.dumps([os.environ.get('PYTHONPATH'), os.environ['ADDED']]), flush=True)"
    assert start(program, foreign=True, ADDED="1").ask({"do": ""}, 20) == [None, "1"]
    assert start(program, foreign=False, ADDED="1").ask({"do": ""}, 20) == ["/somewhere", "1"]
    assert os.environ["PYTHONPATH"] == "/somewhere"
