"""Value checkers: read the value of an option according to its annotation.

A fastargs checker has two methods. `check(value)` returns the value of a flag (text) or of a YAML
file (any scalar) in the annotated type, and raises an exception if it cannot. `help()` returns a
phrase for the error message "got …, wanted …". Each checker here also has a `placeholder` for
`--help`.
"""

import math
import types
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from fastargs.validation import Checker

from ffcv_ssl.errors import ConfigError
from ffcv_ssl.system.names import did_you_mean
from ffcv_ssl.system.paths import EXPANDED, expanded_path

NONE = "none"  # spelling of None in a flag; fastargs reads a None from a file as "not given"
SWITCH = {"0": False, "1": True, "false": False, "true": True}


class Integer(Checker):  # type: ignore[misc]  # fastargs has no type hints; same below
    """A whole number. Unlike `Int` of fastargs, it rejects 2.5 and True instead of truncating."""

    placeholder = "N"

    def check(self, value: Any) -> int:
        """Return the value as an int; raise ValueError if it is not a whole number."""
        if isinstance(value, bool) or (isinstance(value, float) and value != int(value)):
            raise ValueError
        return int(value)

    def help(self) -> str:
        """Return the phrase for the error message."""
        return "a whole number"


class Number(Checker):  # type: ignore[misc]
    """A finite number, also one that YAML reads as text (`1e-3`, which has no dot)."""

    placeholder = "X"

    def check(self, value: Any) -> float:
        """Return the value as a float; raise ValueError if it is not a finite number."""
        number = float(value)
        if isinstance(value, bool) or not math.isfinite(number):
            raise ValueError
        return number

    def help(self) -> str:
        """Return the phrase for the error message."""
        return "a finite number"


class Text(Checker):  # type: ignore[misc]
    """Text. A number from a file is rejected: YAML would already have read `1.10` as `1.1`."""

    placeholder = "TEXT"

    def check(self, value: Any) -> str:
        """Return the text unchanged; raise ValueError for any other type."""
        if not isinstance(value, str):
            raise ValueError
        return value

    def help(self) -> str:
        """Return the phrase for the error message."""
        return "text (in quotes, if it looks like a number)"


class PathText(Text):
    """A local path. `~` and `$VARIABLES` are expanded; empty text stays empty."""

    placeholder = "PATH"

    def check(self, value: Any) -> str:
        """Return the expanded path; raise ConfigError if it is remote or cannot be expanded."""
        text = super().check(value)
        return expanded_path(text) if text else ""

    def help(self) -> str:
        """Return the phrase for the error message."""
        return "a path (in quotes, if it looks like a number)"

    def reason(self, value: Any) -> str:
        """Return why `check` rejects a text; empty if it accepts it or if it is not a text."""
        try:
            self.check(value)
        except ConfigError as error:
            return str(error)
        except ValueError:
            pass
        return ""


class Switch(Checker):  # type: ignore[misc]
    """0 or 1, also spelled false or true. `Bool` of fastargs reads the text "False" as True."""

    placeholder = "0|1"

    def check(self, value: Any) -> bool:
        """Return the value as a bool; raise KeyError for any other value."""
        return SWITCH[str(value).lower()]

    def help(self) -> str:
        """Return the phrase for the error message."""
        return "0 or 1"


class Choice(Checker):  # type: ignore[misc]
    """One of several values.

    Parameters
    ----------
    values
        The choices, in the order in which `help` lists them. False and True are 0 and 1, as in
        `Switch`.
    """

    def __init__(self, values: Sequence[Any]):
        self.values = {_spelling(value): value for value in values}
        self.has_switch = any(isinstance(value, bool) for value in values)
        self.placeholder = "|".join(self.values)

    def check(self, value: Any) -> Any:
        """Return the choice with this spelling; raise KeyError if there is none."""
        if self.has_switch and str(value).lower() in SWITCH:
            return SWITCH[str(value).lower()]
        return self.values[str(value)]

    def help(self) -> str:
        """Return the phrase for the error message."""
        return f"one of {', '.join(self.values)}"

    def hint(self, value: Any) -> str:
        """Return a sentence that names the closest choice; empty if none is close."""
        return did_you_mean(str(value), self.values)


class OrNone(Checker):  # type: ignore[misc]
    """A value of another checker, or `none`.

    Parameters
    ----------
    inner
        Checker of values other than `none`.
    """

    def __init__(self, inner: Checker):
        self.inner = inner
        self.placeholder = f"{inner.placeholder}|{NONE}"

    def check(self, value: Any) -> Any:
        """Return None for `none`, else the value as the inner checker reads it."""
        return None if value == NONE else self.inner.check(value)

    def help(self) -> str:
        """Return the phrase for the error message."""
        return f"{self.inner.help()}, or {NONE}"


SCALARS = {int: Integer, float: Number, str: Text, bool: Switch}


def checker_for(annotation: Any) -> Checker:
    """Return the checker for an annotation.

    Parameters
    ----------
    annotation
        int, float, str, `LocalPath`, bool, `Literal[…]`, or one of these `| None`; resolved, not a
        string.

    Returns
    -------
    fastargs.validation.Checker
        One of the checkers above.

    Raises
    ------
    TypeError
        For any other annotation.

    Examples
    --------
    >>> from ffcv_ssl.cli.config.checkers import checker_for
    >>> checker = checker_for(int | None)
    >>> checker.check("8"), checker.check("none"), checker.help()
    (8, None, 'a whole number, or none')
    """
    if annotation in SCALARS:
        return SCALARS[annotation]()
    if get_origin(annotation) is Annotated and annotation.__metadata__ == (EXPANDED,):
        return PathText()
    if get_origin(annotation) is Literal:
        return Choice(get_args(annotation))
    if get_origin(annotation) in (Union, types.UnionType):
        kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
        if len(kinds) == 1:
            return OrNone(checker_for(kinds[0]))
    raise TypeError(
        "a configuration field is int, float, str, LocalPath, bool, Literal[…] or one of these "
        f"| None, not {annotation}."
    )


def _spelling(value: Any) -> str:
    """Return a choice as a flag spells it."""
    return str(int(value)) if isinstance(value, bool) else str(value)
