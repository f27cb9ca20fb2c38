"""Fuzz of the native decoder under AddressSanitizer and UBSan, in a process that preloads them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "ffcv_ssl/codecs/_native.c"
VARIABLE = "FUZZ_NATIVE"  # in the child: the sanitized extension module
RUN = """
from tests.stress import sanitize
sanitize.install()
from tests.stress.fuzz import main
raise SystemExit(main())
"""


def build(folder: Path) -> Path:
    """Compile the native decoder with both sanitizers; raise `RuntimeError` on failure."""
    path = folder / f"_native{sysconfig.get_config_var('EXT_SUFFIX')}"
    flags = [
        "-g",
        "-O1",
        "-fno-omit-frame-pointer",
        "-shared",
        "-fPIC",
        "-fsanitize=address,undefined",
        "-fno-sanitize-recover=all",
    ]
    command = [
        "gcc",
        *flags,
        f"-I{sysconfig.get_paths()['include']}",
        str(SOURCE),
        "-o",
        str(path),
        "-ljpeg",
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(
            f"{' '.join(command)}\n{result.stderr}\n"
            "Debian: apt-get install gcc libjpeg62-turbo-dev python3-dev"
        )
    return path


def install() -> None:
    """Replace the package's extension module by the one that the environment names."""
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("ffcv_ssl.codecs._native", os.environ[VARIABLE])
    if spec is None or spec.loader is None:
        raise ImportError(f"{os.environ[VARIABLE]} is not an extension module")
    module = module_from_spec(spec)
    sys.modules["ffcv_ssl.codecs._native"] = module
    spec.loader.exec_module(module)


def run(seed: int, count: int, jobs: int) -> dict:
    """Fuzz the JPEGs of the given seeds in a separate process; return as `fuzz.run_part`."""
    with tempfile.TemporaryDirectory() as folder:
        libraries = [
            subprocess.check_output(["gcc", f"-print-file-name={name}.so"], text=True).strip()
            for name in ("libasan", "libubsan")
        ]
        environment = {
            **os.environ,
            VARIABLE: str(build(Path(folder))),
            "LD_PRELOAD": " ".join(libraries),
            "ASAN_OPTIONS": "detect_leaks=0:handle_segv=1:abort_on_error=1:allocator_may_return_null=1",  # noqa: E501
            "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1:abort_on_error=1",
            "FFCV_SSL_DECODER": "native",
            "PYTHONMALLOC": "malloc",
            "PYTHONPATH": str(ROOT),
        }
        command = [
            sys.executable,
            "-c",
            RUN,
            "--inside-sanitizer",
            f"--seed={seed}",
            f"--count={count}",
            f"--jobs={jobs}",
        ]
        result = subprocess.run(
            command, capture_output=True, text=True, env=environment, cwd=ROOT, check=False
        )
        if result.returncode:
            raise RuntimeError(
                f"the process under the sanitizers ended with {result.returncode}:\n"
                f"{result.stderr[-4000:]}"
            )
        return json.loads(result.stdout.splitlines()[-1])
