"""Run a module of the tests in several processes with torchrun, as a user would."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def torchrun(
    module: str, *arguments: object, num_processes: int = 2, timeout_s: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run `python -m module arguments` in several processes on CPUs.

    Parameters
    ----------
    module
        Dotted name of the module.
    arguments
        Command-line arguments, converted to strings.
    num_processes
        Number of processes, >= 1.
    timeout_s
        Time limit in seconds.

    Returns
    -------
    The finished process with its return code and output.

    Raises
    ------
    subprocess.TimeoutExpired
        If the processes run longer than `timeout_s`.
    """
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*launcher, f"--nproc_per_node={num_processes}", "-m", module]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [*command, *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
