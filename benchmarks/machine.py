"""Description of the machine and the software versions of a measurement."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from ffcv_ssl.system.cores import allowed_cores

PACKAGES = (
    "ffcv_ssl",
    "torch",
    "numba",
    "numba-cuda",
    "numpy",
    "pillow",
    "simplejpeg",
    "opencv-python",
)


def describe() -> dict[str, Any]:
    """Return cores, CPU, load of the last minute, versions and commit, JSON-serializable."""
    return {
        "cores": allowed_cores(),
        "cpu": _cpu_name(),
        "load_average": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "commit": _commit(),
    }


def as_text(machine: dict[str, Any]) -> str:
    """Return the description in three lines."""
    versions = ", ".join(
        f"{name} {version}" for name, version in machine["versions"].items() if version
    )
    return (
        f"{machine['cores']} cores, {machine['cpu']}, "
        f"load {machine['load_average']} at the start\n"
        f"Python {machine['python']}, {versions}\ncommit {machine['commit']}"
    )


def _cpu_name() -> str:
    """Return the model name of the CPU."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown CPU"


def _version(name: str) -> str | None:
    """Return the version of an installed distribution, or None."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str:
    """Return the commit of the checkout, or `unknown`."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    result = subprocess.run(command, capture_output=True, text=True)
    return result.stdout.strip() or "unknown"
