"""A recipe as a program: parse, train, print."""

import sys
from collections.abc import Sequence
from functools import partial

from ffcv_ssl.cli.config.parser import parse, print_config
from ffcv_ssl.cli.status import exit_status
from ffcv_ssl.recipe import Recipe, run


def run_recipe(recipe: Recipe, argv: Sequence[str] | None = None) -> int:
    """Run the recipe with these arguments (None: those of the process) and return its exit status."""
    return exit_status(recipe.name, partial(_program, recipe), argv)


def _program(recipe: Recipe, argv: Sequence[str] | None) -> None:
    configs = parse(recipe.name, recipe.sections, argv, recipe.summary)
    result = run(recipe, configs, announce=lambda: print_config(configs))
    if result is not None:
        sys.stdout.write(f"{result.summary()}\n")
