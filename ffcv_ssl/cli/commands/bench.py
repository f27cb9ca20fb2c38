"""`ffcv-ssl bench`: compare this loader with others on the same images and operations."""

from collections.abc import Sequence

from ffcv_ssl.cli.config.parser import parse

DESCRIPTION = (
    "Measure images per second of this loader, of every other loader that is installed, and of "
    "JPEG decoding alone. Each loader runs in its own process and they take turns. "
    "benchmarks/README.md describes the workloads and how to install the other loaders."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark and return the exit status."""
    from ffcv_ssl.benchmarks.config import SECTIONS
    from ffcv_ssl.benchmarks.run import run

    configs = parse("ffcv-ssl bench", SECTIONS, argv, DESCRIPTION)
    run(configs["data"], configs["run"], configs["peer"])
    return 0
