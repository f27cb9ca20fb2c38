"""Run a recipe as a program: parse its options, train, print the result."""

import sys
from collections.abc import Sequence
from functools import partial

from ffcv_ssl.cli.config.parser import parse, print_config
from ffcv_ssl.cli.status import exit_status
from ffcv_ssl.recipe import Recipe, run


def run_recipe(recipe: Recipe, argv: Sequence[str] | None = None) -> int:
    """Run a recipe as a program.

    Parameters
    ----------
    recipe
        Method, options and views to train with.
    argv
        Arguments without the program's name. None takes those of the process.

    Returns
    -------
    int
        Exit status, see `ffcv_ssl.cli.status.exit_status`.
    """
    return exit_status(recipe.name, partial(_program, recipe), argv)


def _program(recipe: Recipe, argv: Sequence[str] | None) -> None:
    """Parse the options, train and print a summary."""
    configs = parse(recipe.name, recipe.sections, argv, recipe.summary)
    result = run(recipe, configs, announce=lambda: print_config(configs))
    if result is not None:
        sys.stdout.write(f"{result.summary()}\n")
