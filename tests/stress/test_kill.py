"""A short form of `make kill`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.timeout(180)
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="counts processes in /proc")
def test_kills__leave_old_or_new_files_and_runs_that_resume(tmp_path):
    """Nine kills of conversions and two of a training leave no damaged file and no process."""
    script = Path(__file__).with_name("kill.py")
    command = [
        sys.executable,
        script,
        "--kills=9",
        "--training-kills=2",
        "--seed=1",
        f"--out={tmp_path / 'kill.json'}",
    ]
    result = subprocess.run(command, capture_output=True, text=True, timeout=170)
    assert result.returncode == 0, result.stdout + result.stderr
    counts = json.loads((tmp_path / "kill.json").read_text())
    assert [counts[name]["kills"] for name in counts if "writer" in name] == [3, 3, 3]
    assert counts["training"]["kills"] == 2
