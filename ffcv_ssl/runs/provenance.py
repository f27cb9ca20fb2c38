"""Versions of the code that produced a result."""

import subprocess
from pathlib import Path

import torch

import ffcv_ssl

CHECKOUT = Path(ffcv_ssl.__file__).resolve().parents[1]


def provenance() -> dict[str, str]:
    """Return the versions of the code.

    Returns
    -------
    dict
        ffcv_ssl and torch: versions; in a git checkout also commit, followed by "+changes" if
        tracked files differ from it.
    """
    found = {"ffcv_ssl": ffcv_ssl.__version__, "torch": torch.__version__}
    if (CHECKOUT / ".git").exists():
        commit = _git("rev-parse", "HEAD")
        if commit:
            changes = _git("status", "--porcelain", "--untracked-files=no")
            found["commit"] = commit + ("+changes" if changes else "")
    return found


def _git(*arguments: str) -> str:
    """Return the output of git, or an empty string if git is missing or fails."""
    try:
        command = ["git", "-C", str(CHECKOUT), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
