"""`ffcv-ssl seal`: add checksums to a file that has none."""

import sys
from collections.abc import Sequence

from ffcv_ssl.cli.config.parser import parse
from ffcv_ssl.cli.config.sections import FileConfig

DESCRIPTION = (
    "Decode every value of a .beton file that FFCV or an older version of this package wrote, and "
    "add a checksum per value, so that every later read detects damage. FFCV can still read the "
    "file."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Seal the file and return the exit status."""
    from ffcv_ssl.beton.seal import seal

    path = parse("ffcv-ssl seal", {"file": FileConfig}, argv, DESCRIPTION)["file"].path
    if seal(path):
        outcome = "decoded every value and added its checksum"
    else:
        outcome = "has a checksum for every value already"
    sys.stdout.write(f"{path}: {outcome}.\n")
    return 0
