"""Packaging metadata. It has lower bounds only; constraints.txt lists the tested versions."""

import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

HERE = Path(__file__).parent
# Native decoder. "": build it if possible; "0": never build it; "1": fail if it does not build.
NATIVE = os.environ.get("FFCV_SSL_NATIVE", "")
HELP = """FFCV_SSL_NATIVE=1: building the native decoder failed.
It needs a C compiler, the headers of Python, and libjpeg-turbo 2.1 or later with its header.
Debian: gcc python3-dev libjpeg62-turbo-dev. Ubuntu: gcc python3-dev libjpeg-turbo8-dev.
Fedora: gcc python3-devel libjpeg-turbo-devel. Homebrew: jpeg-turbo pkg-config."""


class BuildNative(build_ext):
    """Build the optional native decoder; skip it silently if it cannot be built."""

    def build_extension(self, extension):
        """Build with captured output; show it only if the build fails with FFCV_SSL_NATIVE=1."""
        with tempfile.TemporaryFile("w+") as output:
            try:
                with output_to(output):
                    super().build_extension(extension)
            except Exception as error:  # the error type depends on the system
                if NATIVE == "1":
                    output.seek(0)
                    raise SystemExit(f"{output.read()}\n{error}\n{HELP}") from error


@contextmanager
def output_to(file):
    """Redirect the output of this process and its children to a file."""
    sys.stdout.flush(), sys.stderr.flush()
    saved = [(descriptor, os.dup(descriptor)) for descriptor in (1, 2)]
    try:
        for descriptor, _ in saved:
            os.dup2(file.fileno(), descriptor)
        yield
    finally:
        sys.stdout.flush(), sys.stderr.flush()
        for descriptor, copy in saved:
            os.dup2(copy, descriptor)
            os.close(copy)


def native_decoder():
    """Return the extension; pkg-config locates libjpeg outside the default folders."""
    flags = {"--cflags": [], "--libs": ["-ljpeg"]}
    for option in flags if shutil.which("pkg-config") else ():
        result = subprocess.run(["pkg-config", option, "libjpeg"], capture_output=True, text=True)
        flags[option] = result.stdout.split() if result.returncode == 0 else flags[option]
    return Extension(
        "ffcv_ssl.codecs._native",
        ["ffcv_ssl/codecs/_native.c"],
        extra_compile_args=flags["--cflags"],
        extra_link_args=flags["--libs"],
        optional=True,
    )


setup(
    name="ffcv_ssl",
    version="0.1.0",
    description="High-throughput image loading and readable trainers for self-supervised learning.",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10,<3.14",
    # Recipes and benchmarks are top-level folders of the repository and part of the wheel.
    packages=[
        *find_packages(include=["ffcv_ssl", "ffcv_ssl.*"]),
        *(
            "ffcv_ssl.recipes",
            "ffcv_ssl.recipes.demo",
            "ffcv_ssl.benchmarks",
            "ffcv_ssl.benchmarks.contestants",
        ),
    ],
    package_dir={"ffcv_ssl.recipes": "recipes", "ffcv_ssl.benchmarks": "benchmarks"},
    ext_modules=[] if NATIVE == "0" else [native_decoder()],
    cmdclass={"build_ext": BuildNative},
    package_data={
        "ffcv_ssl": ["py.typed", "beton/BETON.md"],
        "ffcv_ssl.recipes": ["*.yaml", "*.md", "studies/*.yaml"],
        "ffcv_ssl.benchmarks": ["*.md"],
    },
    install_requires=[
        "numpy>=1.26",
        "numba>=0.60",
        "torch>=2.4",
        "opencv-python>=4.8",
        "pillow>=11.3",
        "simplejpeg>=1.7",
        "filelock>=3.12",
        "fastargs>=1.2",
        "pyyaml>=6.0",  # fastargs imports these two without declaring them
        "terminaltables>=3.1",
        "tensorboard>=2.14",
        "tqdm>=4.64",
        "matplotlib>=3.8",
        "safetensors>=0.4",
    ],
    extras_require={
        "cuda12": ["numba-cuda[cu12]>=0.20"],
        "cuda13": ["numba-cuda[cu13]>=0.20"],
        "ffcv": ["ffcv>=1.0.2"],
        "heif": ["pillow-heif>=0.16"],
        "bench": ["psutil>=5.9"],
        "timm": ["timm>=1.0"],
        "viz": ["scikit-learn>=1.4"],
        "wandb": ["wandb>=0.16"],
        "dev": [
            "numba-cuda[cu13]>=0.20",
            "pytest>=8",
            "pytest-timeout>=2.3",
            "hypothesis>=6.100",
            "scipy>=1.11",
            "scikit-learn>=1.4",
            "ruff>=0.6",
            "mypy>=1.10",
            "types-PyYAML",
            "types-tqdm",
        ],
    },
    entry_points={"console_scripts": ["ffcv-ssl = ffcv_ssl.cli.main:main"]},
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Image Processing",
    ],
)
