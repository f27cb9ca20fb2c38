"""The loader across forks, and at the end of the interpreter."""

import subprocess
import sys

import pytest

FORK = """
import os, sys
from ffcv_ssl import views
from ffcv_ssl.loader import Loader
loader = Loader(sys.argv[1], 4, seed=0, num_workers=2, pipelines={"image": views.simclr(16)})
first = [batch.image.sum().item() for batch in loader]
child = os.fork()
loader.set_epoch(0)
again = [batch.image.sum().item() for batch in loader]
assert again == first, (again, first)
if child == 0:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
print("same")
"""

EXIT = """
import sys
from ffcv_ssl import views
from ffcv_ssl.loader import Loader
loader = Loader(sys.argv[1], 4, seed=0, num_workers=2, pipelines={"image": views.simclr(16)})
batches = iter(loader)
next(batches)
print("left")
"""


@pytest.mark.parametrize(("program", "word"), [(FORK, "same"), (EXIT, "left")])
def test_loader__survives_a_fork_and_the_end_of_the_interpreter(raw_file, program, word):
    """A forked child renders the same pixels; an interpreter can exit within an epoch."""
    run = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program, raw_file],
        capture_output=True,
        text=True,
        timeout=60,
    )
    complaints = [
        line for line in run.stderr.splitlines() if not line.startswith("compiling ")
    ]  # it says so on a cold kernel cache
    assert (run.returncode, run.stdout.strip(), complaints) == (0, word, [])
