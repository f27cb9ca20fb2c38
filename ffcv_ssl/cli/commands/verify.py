"""`ffcv-ssl verify`: check every checksum of a file and decode every value."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ffcv_ssl.cli.config.parser import parse
from ffcv_ssl.cli.config.sections import FileConfig
from ffcv_ssl.cli.status import FOUND_PROBLEMS, OK
from ffcv_ssl.system.names import printable

if TYPE_CHECKING:
    from ffcv_ssl.beton.verify import Problem

DESCRIPTION = (
    "Check every checksum of a .beton file, decode every image and list the damaged samples. The "
    "exit status is 1 if there are any."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Verify the file and return the exit status: 0 if it is intact, 1 if not."""
    from ffcv_ssl.reader import Reader

    path = parse("ffcv-ssl verify", {"file": FileConfig}, argv, DESCRIPTION)["file"].path
    num_problems = num_warnings = 0
    with Reader(path) as reader:
        for problem in reader.verify():
            num_problems += not problem.is_harmless
            num_warnings += problem.is_harmless
            sys.stdout.write(f"{printable(f'{path}: {_problem_text(problem)}')}\n")
        checksums = "checksums compared" if reader.has_checksums else "file has no checksums"
        checked = f"{reader.num_samples:,} samples decoded, {checksums}"
    result = f"{num_problems:,} problem(s)" if num_problems else "no problems"
    warnings = f", {num_warnings:,} warning(s)" if num_warnings else ""
    sys.stdout.write(f"{path}: {checked}: {result}{warnings}.\n")
    return FOUND_PROBLEMS if num_problems else OK


def _problem_text(problem: "Problem") -> str:
    """Format a problem as its sample and field, followed by the message."""
    if problem.sample_id is None:
        return problem.message
    warning = " (warning: the image decodes completely)" if problem.is_harmless else ""
    return f"sample {problem.sample_id}, field '{problem.field}': {problem.message}{warning}"
