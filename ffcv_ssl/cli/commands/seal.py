"""`ffcv-ssl seal`: add checksums to a file that has none."""

import sys
from collections.abc import Sequence

from ffcv_ssl.cli.config.parser import parse
from ffcv_ssl.cli.config.sections import FileConfig

DESCRIPTION = (
    "Decode every value of a .beton file of FFCV's, or of an older version of this package, and add a checksum "
    "per value, so that later damage is noticed on every read. FFCV reads the file as before."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; errors pass to the caller."""
    from ffcv_ssl.beton.seal import seal

    path = parse("ffcv-ssl seal", {"file": FileConfig}, argv, DESCRIPTION)["file"].path
    done = "every value decodes and has a checksum now" if seal(path) else "has checksums of its values already"
    sys.stdout.write(f"{path}: {done}.\n")
    return 0
