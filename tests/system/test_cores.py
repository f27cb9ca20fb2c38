"""Cores by affinity and quota."""

import os

import pytest

from ffcv_ssl.system import cores


@pytest.fixture
def cgroup(tmp_path, monkeypatch):
    """A control group made of files, on a machine of eight cores."""
    monkeypatch.setattr(cores, "_CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("line", "expected"),
    [("max 100000", 8), ("300000 100000", 3), ("5000 100000", 1), ("990000 100000", 8), ("", 8)],
)
def test_cores__obey_a_quota_of_version_2(cgroup, line, expected):
    """A quota of three cores' time gives three, less than one gives one, none gives those of the affinity."""
    (cgroup / "cpu.max").write_text(line)
    assert cores.allowed_cores() == expected


@pytest.mark.parametrize(("quota", "expected"), [("-1", 8), ("200000", 2)])
def test_cores__obey_a_quota_of_version_1(cgroup, quota, expected):
    """The older files mean the same."""
    (cgroup / "cpu").mkdir()
    (cgroup / "cpu" / "cpu.cfs_quota_us").write_text(quota)
    (cgroup / "cpu" / "cpu.cfs_period_us").write_text("100000")
    assert cores.allowed_cores() == expected


def test_cores__obey_the_affinity(cgroup, monkeypatch):
    """Without control groups the affinity decides."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3}, raising=False)
    assert cores.allowed_cores() == 1
