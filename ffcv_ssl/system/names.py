r"""Names of files and classes made fit to be shown: they may hold any byte but `/` and null.

Python keeps bytes that are not UTF-8 as lone surrogates (PEP 383), which neither terminals nor pictures nor CSV readers take.
"""

import codecs
import difflib
import unicodedata
from collections.abc import Iterable

ESCAPING = "ffcv_ssl.escape"  # name of the error handler for streams


def unicode_name(name: str) -> str:
    r"""The name with its bytes read as UTF-8, whatever the locale in which it was listed; bytes that are not UTF-8 stay lone surrogates.

    In an ASCII locale Python lists `é` as two surrogates; in a UTF-8 locale as one letter. A file written in either must hold the same.
    """
    try:
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # surrogates that stand for no byte: not from a file system
        return name


def printable(text: str) -> str:
    r"""The text as one line of valid Unicode: bytes that are not UTF-8 as `\xe9`, control characters as `\n` or `\x1b`."""
    try:
        text = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:
        text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    if text.isprintable():
        return text
    return "".join(
        _escaped(letter) if unicodedata.category(letter) in _UNSEEN else letter for letter in text
    )


def caption(text: str) -> str:
    r"""`printable` for Matplotlib, which takes what stands between two `$` for a formula."""
    return printable(text).replace("$", r"\$")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ` Did you mean 'x'?` for the closest known word, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" Did you mean '{close[0]}'?" if close else ""


_UNSEEN = {"Cc", "Cf", "Zl", "Zp"}  # control and format characters, line and paragraph separators


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")


def _escape_unencodable(error: UnicodeError) -> tuple[str, int]:
    r"""Error handler of a text stream: a byte of a file name as `\xe9`, any other letter that the encoding lacks as Python spells it."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    escaped = (
        f"\\x{ord(each) - 0xDC00:02x}" if 0xDC80 <= ord(each) <= 0xDCFF else _escaped(each)
        for each in letters
    )
    return "".join(escaped), error.end


codecs.register_error(ESCAPING, _escape_unencodable)
