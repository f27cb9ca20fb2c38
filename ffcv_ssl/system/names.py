r"""Conversion of file and class names to text that can be displayed.

A file name may contain any byte except `/` and NUL. Python represents bytes that are not UTF-8 as
lone surrogates (PEP 383), which terminals, figures and CSV readers do not accept.
"""

from __future__ import annotations

import codecs
import difflib
import unicodedata
from collections.abc import Iterable

ESCAPING = "ffcv_ssl.escape"  # name of the error handler for text streams

# Control and format characters, line and paragraph separators.
_INVISIBLE_CATEGORIES = {"Cc", "Cf", "Zl", "Zp"}


def unicode_name(name: str) -> str:
    r"""Decode the bytes of a name as UTF-8, independent of the locale.

    In an ASCII locale Python lists `é` as two surrogates, in a UTF-8 locale as one letter. Files
    written in either locale hold the same name.

    Parameters
    ----------
    name
        Name as listed by the operating system.

    Returns
    -------
    str
        The name with valid UTF-8 sequences decoded. Other bytes remain lone surrogates.
    """
    try:
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # surrogates that represent no byte: not a file name
        return name


def printable(text: str) -> str:
    r"""Return the text as one line of valid Unicode.

    Parameters
    ----------
    text
        Any string, lone surrogates included.

    Returns
    -------
    str
        The text with bytes that are not UTF-8 escaped as `\xe9`, and control characters as `\n` or
        `\x1b`.

    Examples
    --------
    >>> printable("caf\udce9")
    'caf\\xe9'
    """
    try:
        text = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:
        text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    if text.isprintable():
        return text
    return "".join(
        _escape(char) if unicodedata.category(char) in _INVISIBLE_CATEGORIES else char
        for char in text
    )


def caption(text: str) -> str:
    r"""Return `printable(text)` with `$` escaped, because Matplotlib parses `$...$` as a formula.

    Parameters
    ----------
    text
        Any string, lone surrogates included.
    """
    return printable(text).replace("$", r"\$")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a suggestion to append to an error message.

    Parameters
    ----------
    word
        The unknown word.
    known
        The valid words.

    Returns
    -------
    str
        ` Did you mean 'x'?` for the most similar known word, or an empty string.

    Examples
    --------
    >>> did_you_mean("imge", ["image", "label"])
    " Did you mean 'image'?"
    """
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" Did you mean '{close[0]}'?" if close else ""


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def _escape_unencodable(error: UnicodeError) -> tuple[str, int]:
    r"""Escape bytes of a file name as `\xe9`, other unencodable characters as Python does."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    chars = error.object[error.start : error.end]
    escaped = (
        f"\\x{ord(char) - 0xDC00:02x}" if 0xDC80 <= ord(char) <= 0xDCFF else _escape(char)
        for char in chars
    )
    return "".join(escaped), error.end


codecs.register_error(ESCAPING, _escape_unencodable)
