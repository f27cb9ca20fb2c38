"""Packaging metadata; lower bounds only, the versions that were tested stand in constraints.txt."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

setup(
    name="ffcv_ssl",
    version="0.1.0",
    description="High-throughput image loading and readable trainers for self-supervised learning.",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10,<3.14",
    # The recipes live at the top of the repository, where a researcher looks for them, and travel in the wheel.
    packages=[*find_packages(include=["ffcv_ssl", "ffcv_ssl.*"]), "ffcv_ssl.recipes"],
    package_dir={"ffcv_ssl.recipes": "recipes"},
    package_data={"ffcv_ssl": ["README.md"], "ffcv_ssl.recipes": ["*.yaml", "*.md"]},
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
    ],
    extras_require={
        "cuda12": ["numba-cuda[cu12]>=0.20"],
        "cuda13": ["numba-cuda[cu13]>=0.20"],
        "ffcv": ["ffcv>=1.0.2"],
        "bench": ["psutil>=5.9"],
        "viz": ["scikit-learn>=1.4"],
        "dev": [
            "numba-cuda[cu13]>=0.20",
            "pytest>=8",
            "pytest-timeout>=2.3",
            "hypothesis>=6.100",
            "scipy>=1.11",
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
