"""Code and documentation use standard terms and American spelling."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Private vocabulary, as regular expressions between letters, and the replacement to use. They also
# match parts of identifiers: `ladder` matches `decoder_ladder`, but not `bladder`.
VOCABULARY = {
    r"houses?": "package, repository",
    r"rooms?": "package, module; of memory: space",
    r"doors?": "public module, re-export",
    r"verbs?": "responsibility",
    r"ladders?": "list of decoders, fallback order",
    r"rungs?": "decoder",
    r"shims?": "native decoder",
    r"yardsticks?": "baseline, reference",
    r"judg(?:e[sd]?|ing)": "evaluate",
    r"ship(?:s|ped|ping|ments?)?": "copy, transfer; of a package: include",
    r"said": "reported, stated, noted",
    r"hungriest": "largest",
}
# Spelling, as regular expressions between word boundaries.
SPELLING = {
    r"grey(?:s|scale)?": "gray",
    r"colour(?:s|ed|ing)?": "color",
    r"centre[sd]?": "center",
    r"neighbour(?:s|ing|hood)?": "neighbor",
    r"behaviours?": "behavior",
    r"flavours?": "flavor",
    r"labell(?:ed|ing)": "labeled, labeling",
    r"licence": "license",
    r"\w*(?:normal|optim|vector|initial|general|serial|parallel|real|recogn|organ|util|minim|maxim"
    r"|summar|synchron|random|standard|final|token|regular)is(?:e[sdr]?|ing|ation)": "-ize",
}
# (path, matched text in lower case): words with their literal meaning, and names that must stay.
ALLOWED = {
    ("CONTRIBUTING.md", "verb"): "part of speech",
    ("benchmarks/README.md", "ladder"): "name of a group of workloads",
    ("benchmarks/config.py", "ladder"): "name of a group of workloads",
    ("benchmarks/kernel_times.py", "grey"): "key of the JSON files",
    ("benchmarks/workloads.py", "grey"): "name of a workload",
    ("benchmarks/workloads.py", "ladder"): "names of workloads",
    ("tests/benchmarks/test_contestants.py", "ladder"): "name of a workload",
    ("tests/benchmarks/test_report.py", "ladder"): "names of workloads",
    ("tests/reference/cifar.py", "ship"): "class of CIFAR-10",
}


def pattern(words, before, after):
    """Compile the alternatives between two boundaries."""
    return re.compile(f"{before}(?:{'|'.join(words)}){after}", re.IGNORECASE)


PATTERNS = (
    (VOCABULARY, pattern(VOCABULARY, r"(?<![A-Za-z])", r"(?![a-z])")),
    (SPELLING, pattern(SPELLING, r"\b", r"\b")),
)


def tracked_files():
    """Return the tracked Python and Markdown files, relative to the repository."""
    try:
        command = ["git", "-C", str(ROOT), "ls-files", "*.py", "*.md"]
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs git and a checkout")
    here = Path(__file__).resolve()
    paths = (ROOT / name for name in listed.splitlines())
    return [path for path in paths if path.is_file() and path.resolve() != here]


def replacement(words, text):
    """Return the replacement of a matched text."""
    return next(new for word, new in words.items() if re.fullmatch(word, text, re.IGNORECASE))


def findings(text):
    """Yield (line number, matched text, replacement) for each unwanted word."""
    for number, line in enumerate(text.splitlines(), 1):
        for words, compiled in PATTERNS:
            for match in compiled.finditer(line):
                yield number, match[0], replacement(words, match[0])


def all_findings():
    """Yield (path, line number, matched text, replacement) for all tracked files."""
    for path in tracked_files():
        name = path.relative_to(ROOT).as_posix()
        for finding in findings(path.read_text(encoding="utf-8")):
            yield name, *finding


def test_language__uses_standard_terms():
    """No tracked file contains a word of the lists, apart from the allowed places."""
    unwanted = [
        f"{name}:{number}: '{word}'; write {new}"
        for name, number, word, new in all_findings()
        if (name, word.lower()) not in ALLOWED
    ]
    assert not unwanted, "\n" + "\n".join(unwanted)


def test_allowed_places__are_in_use():
    """Every allowed place contains its word."""
    found = {(name, word.lower()) for name, _, word, _ in all_findings()}
    assert not set(ALLOWED) - found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The decoder_ladder has Rungs.", ["ladder", "Rungs"]),
        ("class Shipment:", ["Shipment"]),
        ("a relationship, a bladder, a classroom, verbose, harshly", []),
        ("a grey image in full colour, normalised", ["grey", "colour", "normalised"]),
        ("a gray image in full color, normalized, precise, raised", []),
    ],
)
def test_findings__respect_word_boundaries(text, expected):
    """Words and parts of identifiers match; parts of other words do not."""
    assert sorted(word for _, word, _ in findings(text)) == sorted(expected)
