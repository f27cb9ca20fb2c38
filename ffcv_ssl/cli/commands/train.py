"""`ffcv-ssl train`: run a program of `recipes/` of an installed package."""

import sys
import textwrap
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ffcv_ssl.cli.config.file import METHOD, load_mapping, recipe_names
from ffcv_ssl.errors import ConfigError
from ffcv_ssl.system.names import did_you_mean

if TYPE_CHECKING:
    from ffcv_ssl.recipe import Recipe

METHODS = {  # modules of ffcv_ssl.recipes
    "simclr": "contrast two augmented views of an image with all other images",
    "emp_ssl": "pull many patches of an image together, spread different images apart",
    "barlow_twins": "make the cross-correlation of two views the identity matrix",
    "vicreg": "keep views close, variances up and covariances down",
    "byol": "predict the output of a moving-average network for another view",
    "simclr_instance": "contrast noisy copies of a patch with other patches of its image",
    "supervised": "supervised baseline",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the recipe of a method and return the exit status."""
    method, rest = split_method(list(sys.argv[1:] if argv is None else argv))
    if method is None and any(argument in ("-h", "--help") for argument in rest):
        sys.stdout.write(help_text())
        return 0
    if method is None:
        raise ConfigError(
            f"give --method={'|'.join(METHODS)}, or a config file with a line 'method: …'."
        )
    status: int = recipe_module(method).main(rest)
    return status


def recipe_module(method: str) -> Any:
    """Import the recipe of a method.

    Parameters
    ----------
    method
        A key of `METHODS`.

    Returns
    -------
    module
        The module `ffcv_ssl.recipes.METHOD`.

    Raises
    ------
    ConfigError
        If there is no such method.
    """
    if method not in METHODS:
        known = ", ".join(METHODS)
        hint = did_you_mean(method, METHODS)
        raise ConfigError(f"--method: no method '{method}'. Methods: {known}.{hint}")
    return import_module(f"ffcv_ssl.recipes.{method}")


def load_recipe(method: str) -> "Recipe":
    """Return the recipe of a method.

    Parameters
    ----------
    method
        A key of `METHODS`.

    Returns
    -------
    Recipe
        `RECIPE` of the method's module.

    Raises
    ------
    ConfigError
        If there is no such method.
    """
    recipe: Recipe = recipe_module(method).RECIPE
    return recipe


def split_method(arguments: Sequence[str]) -> tuple[str | None, list[str]]:
    """Separate `--method` from the other arguments.

    Parameters
    ----------
    arguments
        Arguments without the command's name.

    Returns
    -------
    method
        Value of `--method`; without it, that of `method` in the last config file that has one; None
        if there is neither.
    rest
        All other arguments.

    Raises
    ------
    ConfigError
        If an option has no value, or a config file cannot be read or names no method.

    Examples
    --------
    >>> from ffcv_ssl.cli.commands.train import split_method
    >>> split_method(["--method=simclr", "--train.epochs=100"])
    ('simclr', ['--train.epochs=100'])
    """
    method: str | None = None
    files: list[str] = []
    rest: list[str] = []
    index = 0
    while index < len(arguments):
        flag, equals, value = arguments[index].partition("=")
        takes_next = flag in ("--method", "--config-file", "-C") and not equals
        if takes_next:
            index += 1
            if index == len(arguments):
                raise ConfigError(f"argument {flag}: expected one argument.")
            value = arguments[index]
        if flag == "--method":
            method = value
        else:
            rest += [flag, value] if takes_next else [arguments[index]]
        if flag in ("--config-file", "-C"):
            files.append(value)
        index += 1
    for path in files if method is None else []:
        method = load_mapping(path).get(METHOD, method)
        if not isinstance(method, str | None):
            kind = type(method).__name__
            raise ConfigError(f"{path}: {METHOD}: got a {kind}, wanted the name of a method.")
    return method, rest


def help_text() -> str:
    """Return the help of `ffcv-ssl train`: the methods and the recipes."""
    width = max(map(len, METHODS))
    recipes = textwrap.fill(
        ", ".join(recipe_names()), 98, initial_indent="  ", subsequent_indent="  "
    )
    return "\n".join(
        [
            "usage: ffcv-ssl train --method=METHOD --data.train=FILE [--section.field=value …] "
            "[--config-file=FILE]",
            "",
            "methods:",
            *(f"  {name:{width}}  {summary}" for name, summary in METHODS.items()),
            "",
            "recipes, for --config-file=NAME:",
            recipes,
            "",
            "Run `ffcv-ssl train --method=METHOD --help` to list the options of a method.",
            "",
        ]
    )
