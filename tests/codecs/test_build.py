"""The build of the native decoder by `setup.py`, with and without its dependencies."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytest.importorskip("setuptools", minversion="77")


def build(tmp_path, **environment):
    """Run `setup.py build_ext`; return exit status, output and the files it created."""
    command = [
        sys.executable,
        "setup.py",
        "--quiet",
        "build_ext",
        f"--build-lib={tmp_path}",
        f"--build-temp={tmp_path / 'temp'}",
    ]
    variables = {
        name: value for name, value in os.environ.items() if name != "FFCV_SSL_NATIVE"
    } | environment
    result = subprocess.run(
        command,
        cwd=ROOT,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
    )
    return result.returncode, result.stdout, list(tmp_path.glob("ffcv_ssl/codecs/_native*"))


def test_build__is_silent(tmp_path):
    """The build succeeds without output, with or without its dependencies."""
    status, output, _ = build(tmp_path)
    assert (status, output) == (0, "")


def test_build__without_a_compiler(tmp_path):
    """Without a compiler there is no decoder, but the build succeeds without output."""
    assert build(tmp_path, CC="/nonexistent/cc") == (0, "", [])


def test_build__without_the_library(tmp_path):
    """With another header than libjpeg-turbo's there is no decoder; the build succeeds."""
    (tmp_path / "jpeglib.h").write_text("#define JPEG_LIB_VERSION 90\n")
    assert build(tmp_path, CFLAGS=f"-I{tmp_path}") == (0, "", [])


def test_build__can_be_switched_off(tmp_path):
    """FFCV_SSL_NATIVE=0 skips the build."""
    assert build(tmp_path, FFCV_SSL_NATIVE="0") == (0, "", [])


def test_build__fails_if_it_is_required(tmp_path):
    """FFCV_SSL_NATIVE=1 without a compiler fails and names the packages to install."""
    status, output, files = build(tmp_path, FFCV_SSL_NATIVE="1", CC="/nonexistent/cc")
    assert status == 1
    assert not files
    assert "/nonexistent/cc" in output
    assert "libjpeg62-turbo-dev" in output
