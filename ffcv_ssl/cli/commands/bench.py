"""`ffcv-ssl bench`: this loader and its peers on the same images and the same operations."""

from collections.abc import Sequence

from ffcv_ssl.cli.config.parser import parse

DESCRIPTION = (
    "Measure images per second through this loader, through each peer that is installed, and through plain decode of the same JPEGs. "
    "Peers run in processes of their own and take turns. benchmarks/README.md says what is compared and how to install the peers."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; errors pass to the caller."""
    from ffcv_ssl.benchmarks.config import SECTIONS
    from ffcv_ssl.benchmarks.run import run

    configs = parse("ffcv-ssl bench", SECTIONS, argv, DESCRIPTION)
    run(configs["data"], configs["run"], configs["peer"])
    return 0
