"""How `setup.py` builds the native decoder: silently where it can, silently not where it cannot."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytest.importorskip("setuptools", minversion="77")


def build(tmp_path, **environment):
    """Run `setup.py build_ext` into a folder: exit status, all that it printed, and the files that it made."""
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
    """With or without what it needs, the build succeeds and says nothing."""
    status, output, _ = build(tmp_path)
    assert (status, output) == (0, "")


def test_build__without_a_compiler(tmp_path):
    """No compiler: no decoder, no noise, no failure."""
    assert build(tmp_path, CC="/nonexistent/cc") == (0, "", [])


def test_build__without_the_library(tmp_path):
    """A header that is not libjpeg-turbo's: no decoder, no noise, no failure."""
    (tmp_path / "jpeglib.h").write_text("#define JPEG_LIB_VERSION 90\n")
    assert build(tmp_path, CFLAGS=f"-I{tmp_path}") == (0, "", [])


def test_build__is_skipped_on_purpose(tmp_path):
    """FFCV_SSL_NATIVE=0 does not even try."""
    assert build(tmp_path, FFCV_SSL_NATIVE="0") == (0, "", [])


def test_build__is_an_error_where_it_was_asked_for(tmp_path):
    """FFCV_SSL_NATIVE=1 without a compiler fails, and names what to install."""
    status, output, files = build(tmp_path, FFCV_SSL_NATIVE="1", CC="/nonexistent/cc")
    assert status == 1
    assert not files
    assert "/nonexistent/cc" in output
    assert "libjpeg62-turbo-dev" in output
