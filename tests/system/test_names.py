"""Names that contain arbitrary bytes are displayed as valid text."""

import os
import subprocess
import sys

import pytest

from ffcv_ssl.system.names import caption, printable, unicode_name

ASCII_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("plain name.jpg", "plain name.jpg"),
        ("日本語 é · 猫", "日本語 é · 猫"),
        (b"caf\xe9", r"caf\xe9"),
        (b"\x93\xfa\x96{", r"\x93\xfa\x96{"),  # Shift-JIS
        ("new\nline\tand\rtab", r"new\nline\tand\rtab"),
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("left\u202eright\u2028next", r"left\u202eright\u2028next"),
        ("\ud800 alone", r"\ud800 alone"),
        ("\udcc3\udca9", "é"),  # listed in an ASCII locale
        ("", ""),
    ],
)
def test_printable__is_one_line_of_valid_text(name, shown):
    """Bytes that are not UTF-8, control and direction characters are escaped, nothing else."""
    assert printable(os.fsdecode(name)) == shown
    shown.encode("utf-8")


def test_caption__holds_no_formula():
    """Matplotlib draws any name, also one with text between two dollar signs."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure()
    FigureCanvasAgg(figure)
    for name in (b"caf\xe9", r"a$\frac{$b", "$x", r"a\$b", "two\nlines"):
        figure.text(0.5, 0.5, caption(os.fsdecode(name)))
    figure.canvas.draw()


def test_unicode_name__is_the_same_in_every_locale():
    """ASCII and UTF-8 locales give the same name; bytes that are not UTF-8 are preserved."""
    assert unicode_name("\udce6\udc97\udca5") == unicode_name("日") == "日"
    assert os.fsencode(unicode_name(os.fsdecode(b"caf\xe9"))) == b"caf\xe9"
    assert unicode_name("\ud800") == "\ud800"


def test_terminal__accepts_every_name_in_an_ascii_locale():
    """A command prints any text and error to an ASCII terminal and keeps its exit status."""
    program = (
        "import sys\n"
        "from ffcv_ssl.cli.status import exit_status\n"
        "from ffcv_ssl.errors import ConfigError\n"
        "def main(argv):\n"
        "    sys.stdout.write('caf\\udce9 \\u65e5 \\u2026\\n')\n"
        "    raise ConfigError('r\\udce9sum\\udce9 \\u65e5')\n"
        "sys.exit(exit_status('p', main))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        encoding="ascii",
        env={**os.environ, **ASCII_LOCALE},
        timeout=60,
    )
    assert (result.returncode, result.stdout, result.stderr) == (
        2,
        "caf\\xe9 \\u65e5 \\u2026\n",
        "p: r\\xe9sum\\xe9 \\u65e5\n",
    )
