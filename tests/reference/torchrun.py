"""Start a module of the tests in several processes, as a user's `torchrun` does."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def torchrun(module, *arguments, num_processes=2, timeout_s=120):
    """Run `python -m module arguments` in each of `num_processes` processes on CPUs; returns the finished process with its output."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={num_processes}", "-m", module]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [*command, *map(str, arguments)], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False
    )
