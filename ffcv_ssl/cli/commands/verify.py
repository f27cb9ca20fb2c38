"""`ffcv-ssl verify`: check every checksum and decode every value."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ffcv_ssl.cli.config.parser import parse
from ffcv_ssl.cli.config.sections import FileConfig
from ffcv_ssl.cli.status import FOUND_PROBLEMS, OK
from ffcv_ssl.system.names import printable

if TYPE_CHECKING:
    from ffcv_ssl.beton.verify import Problem

DESCRIPTION = "Check every checksum and decode every image of a .beton file; list what is broken. Exit status 1 if anything is."


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 1 if something is broken, 0 if not."""
    from ffcv_ssl.reader import Reader

    path = parse("ffcv-ssl verify", {"file": FileConfig}, argv, DESCRIPTION)["file"].path
    num_problems = num_blemishes = 0
    with Reader(path) as reader:
        for problem in reader.verify():
            num_problems += not problem.is_harmless
            num_blemishes += problem.is_harmless
            sys.stdout.write(f"{printable(f'{path}: {problem_text(problem)}')}\n")
        checked = f"{reader.num_samples:,} samples decoded, {'checksums compared' if reader.has_checksums else 'no checksums in this file'}"
    result = f"{num_problems:,} problem(s)" if num_problems else "all good"
    warnings = f", {num_blemishes:,} warning(s)" if num_blemishes else ""
    sys.stdout.write(f"{path}: {checked}: {result}{warnings}.\n")
    return FOUND_PROBLEMS if num_problems else OK


def problem_text(problem: "Problem") -> str:
    """Where, then what."""
    if problem.sample_id is None:
        return problem.message
    warning = " (warning: every pixel is there, and the image loads)" if problem.is_harmless else ""
    return f"sample {problem.sample_id}, field '{problem.field}': {problem.message}{warning}"
