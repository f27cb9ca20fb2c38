"""Which code a result came from."""

import subprocess
from pathlib import Path

import torch

import ffcv_ssl

CHECKOUT = Path(ffcv_ssl.__file__).resolve().parents[1]


def provenance() -> dict[str, str]:
    """Versions of the package and of torch and, when run from a checkout, the commit ("+changes" when files differ from it)."""
    found = {"ffcv_ssl": ffcv_ssl.__version__, "torch": torch.__version__}
    if (CHECKOUT / ".git").exists():
        commit = _git("rev-parse", "HEAD")
        if commit:
            found["commit"] = commit + ("+changes" if _git("status", "--porcelain", "--untracked-files=no") else "")
    return found


def _git(*arguments: str) -> str:
    """What git prints; empty where git is missing or refuses."""
    try:
        done = subprocess.run(["git", "-C", str(CHECKOUT), *arguments], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
