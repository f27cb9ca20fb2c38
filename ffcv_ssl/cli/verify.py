"""`ffcv-ssl verify`: check every checksum and decode every value."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ffcv_ssl.cli.config import parse
from ffcv_ssl.cli.sections import FileConfig
from ffcv_ssl.cli.status import FOUND_PROBLEMS, OK

if TYPE_CHECKING:
    from ffcv_ssl.beton.verify import Problem

DESCRIPTION = "Check every checksum and decode every image of a .beton file; list what is broken. Exit status 1 if anything is."


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 1 if something is broken, 0 if not."""
    from ffcv_ssl.reader import Reader

    path = parse("ffcv-ssl verify", {"file": FileConfig}, argv, DESCRIPTION)["file"].path
    num_problems = 0
    with Reader(path) as reader:
        for problem in reader.verify():
            num_problems += 1
            sys.stdout.write(f"{path}: {problem_text(problem)}\n")
        checked = f"{reader.num_samples:,} samples decoded, {'checksums compared' if reader.has_checksums else 'no checksums in this file'}"
    sys.stdout.write(f"{path}: {checked}: {f'{num_problems:,} problem(s)' if num_problems else 'all good'}.\n")
    return FOUND_PROBLEMS if num_problems else OK


def problem_text(problem: "Problem") -> str:
    """Where, then what."""
    return problem.message if problem.sample_id is None else f"sample {problem.sample_id}, field '{problem.field}': {problem.message}"
