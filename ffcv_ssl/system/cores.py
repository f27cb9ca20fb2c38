"""Number of CPU cores that this process may use."""

from __future__ import annotations

import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def allowed_cores() -> int:
    """Return the number of cores that CPU affinity and cgroup quota allow, at least 1.

    `taskset`, batch systems and containers set these limits. A fractional quota is rounded down.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    quota = _cgroup_quota()
    return cores if quota is None else max(1, min(cores, int(quota)))


def _cgroup_quota() -> float | None:
    """Return the CPU quota of the control group (version 2 or 1) in cores; None without a limit."""
    try:
        quota, period = (_CGROUP / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (_CGROUP / "cpu/cpu.cfs_quota_us").read_text().strip()
            period = (_CGROUP / "cpu/cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    is_limited = quota.isdigit() and period.isdigit() and int(period) > 0  # not "max" or "-1"
    return int(quota) / int(period) if is_limited else None
