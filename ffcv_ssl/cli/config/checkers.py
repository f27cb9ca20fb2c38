"""From the annotation of a configuration field to the fastargs checker that reads its values."""

import math
import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from fastargs.validation import Checker

from ffcv_ssl.errors import ConfigError
from ffcv_ssl.system.names import did_you_mean
from ffcv_ssl.system.paths import EXPANDED, expanded_path

NONE = "none"  # how a flag spells None; fastargs takes a None from a file for "not given"
SWITCH = {"0": False, "1": True, "false": False, "true": True}


class Integer(Checker):
    """Whole numbers. Unlike fastargs' `Int`, 2.5 and True are not cut down to one."""

    placeholder = "N"

    def check(self, value: Any) -> int:
        if isinstance(value, bool) or (isinstance(value, float) and value != int(value)):
            raise ValueError
        return int(value)

    def help(self) -> str:
        return "a whole number"


class Number(Checker):
    """Finite numbers, also those that YAML takes for text (`1e-3` has no dot)."""

    placeholder = "X"

    def check(self, value: Any) -> float:
        number = float(value)
        if isinstance(value, bool) or not math.isfinite(number):
            raise ValueError
        return number

    def help(self) -> str:
        return "a finite number"


class Text(Checker):
    """Text as it is; a number from a file is refused, because `1.10` would have become `1.1`."""

    placeholder = "TEXT"

    def check(self, value: Any) -> str:
        if not isinstance(value, str):
            raise ValueError
        return value

    def help(self) -> str:
        return "text (in quotes, if it looks like a number)"


class PathText(Text):
    """A path on this machine, with `~` and `$VARIABLES` expanded; "" stands for none."""

    placeholder = "PATH"

    def check(self, value: Any) -> str:
        return expanded_path(text) if (text := super().check(value)) else ""

    def help(self) -> str:
        return "a path (in quotes, if it looks like a number)"

    def reason(self, value: Any) -> str:
        """Why a text is refused; empty if it is no text, or is accepted."""
        try:
            self.check(value)
        except ConfigError as error:
            return str(error)
        except ValueError:
            pass
        return ""


class Switch(Checker):
    """0 or 1. fastargs' `Bool` would read the text "False" as True."""

    placeholder = "0|1"

    def check(self, value: Any) -> bool:
        return SWITCH[str(value).lower()]

    def help(self) -> str:
        return "0 or 1"


class Choice(Checker):
    """One of the named values, listed in their order (fastargs' `OneOf` lists a set); False and True are 0 and 1, as in `Switch`."""

    def __init__(self, values: tuple):
        self.values = {str(int(value)) if isinstance(value, bool) else str(value): value for value in values}
        self.has_switch = any(isinstance(value, bool) for value in values)
        self.placeholder = "|".join(self.values)

    def check(self, value: Any) -> Any:
        if self.has_switch and str(value).lower() in SWITCH:
            return SWITCH[str(value).lower()]
        return self.values[str(value)]

    def help(self) -> str:
        return f"one of {', '.join(self.values)}"

    def hint(self, value: Any) -> str:
        """The sentence that names the closest choice, or nothing."""
        return did_you_mean(str(value), self.values)


class OrNone(Checker):
    """What another checker takes, or `none`."""

    def __init__(self, inner: Checker):
        self.inner = inner
        self.placeholder = f"{inner.placeholder}|{NONE}"

    def check(self, value: Any) -> Any:
        return None if value == NONE else self.inner.check(value)

    def help(self) -> str:
        return f"{self.inner.help()}, or {NONE}"


SCALARS = {int: Integer, float: Number, str: Text, bool: Switch}


def checker_for(annotation: Any) -> Checker:
    """Build the checker of a resolved annotation: int, float, str, LocalPath, bool, `Literal[…]`, or one of these `| None`."""
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
    raise TypeError(f"a configuration field is int, float, str, LocalPath, bool, Literal[…] or one of these | None, not {annotation}.")
