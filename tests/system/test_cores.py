"""The number of cores follows CPU affinity and cgroup quota."""

import os

import pytest

from ffcv_ssl.system import cores


@pytest.fixture
def cgroup(tmp_path, monkeypatch):
    """A folder that stands for the control group of a process with eight cores."""
    monkeypatch.setattr(cores, "_CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("line", "expected"),
    [("max 100000", 8), ("300000 100000", 3), ("5000 100000", 1), ("990000 100000", 8), ("", 8)],
)
def test_cores__obey_a_quota_of_version_2(cgroup, line, expected):
    """The quota is rounded down to at least one core; without a quota the affinity decides."""
    (cgroup / "cpu.max").write_text(line)
    assert cores.allowed_cores() == expected


@pytest.mark.parametrize(("quota", "expected"), [("-1", 8), ("200000", 2)])
def test_cores__obey_a_quota_of_version_1(cgroup, quota, expected):
    """Version 1 stores quota and period in two files; -1 means no limit."""
    (cgroup / "cpu").mkdir()
    (cgroup / "cpu" / "cpu.cfs_quota_us").write_text(quota)
    (cgroup / "cpu" / "cpu.cfs_period_us").write_text("100000")
    assert cores.allowed_cores() == expected


def test_cores__obey_the_affinity(cgroup, monkeypatch):
    """Without a control group the affinity decides."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3}, raising=False)
    assert cores.allowed_cores() == 1
