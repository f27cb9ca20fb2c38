"""`ffcv-ssl train`: the programs of `recipes/`, for those who installed the package."""

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ffcv_ssl.cli.config.file import METHOD, load_mapping, recipe_names
from ffcv_ssl.errors import ConfigError
from ffcv_ssl.system.names import did_you_mean

if TYPE_CHECKING:
    from ffcv_ssl.recipe import Recipe

METHODS = {  # the modules of ffcv_ssl.recipes
    "simclr": "two strongly augmented views of each image, told apart from all others",
    "emp_ssl": "many small patches of each image, pulled together while each view's batch is spread out",
    "barlow_twins": "features correlated with themselves across views, and with no other feature",
    "vicreg": "views kept close, variances kept up, covariances kept down",
    "byol": "what a slowly following copy of the network sees in one view, predicted from another",
    "simclr_instance": "noisy copies of a patch, told apart from the other patches of the same image",
    "supervised": "supervised baseline",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Find out which method is meant, and run its recipe with the other arguments."""
    method, rest = split_method(list(sys.argv[1:] if argv is None else argv))
    if method is None and any(argument in ("-h", "--help") for argument in rest):
        sys.stdout.write(help_text())
        return 0
    if method is None:
        raise ConfigError(f"give --method={'|'.join(METHODS)}, or a config file with a line 'method: …'.")
    return recipe_module(method).main(rest)


def recipe_module(method: str) -> Any:
    """Return the module of a method's recipe; ConfigError if there is none."""
    if method not in METHODS:
        raise ConfigError(f"--method: no method '{method}'. Methods: {', '.join(METHODS)}.{did_you_mean(method, METHODS)}")
    return import_module(f"ffcv_ssl.recipes.{method}")


def load_recipe(method: str) -> "Recipe":
    """Return a method's recipe; ConfigError if there is none."""
    return recipe_module(method).RECIPE


def split_method(arguments: Sequence[str]) -> tuple[str | None, list[str]]:
    """Take `--method` out of the arguments; without it, look for `method` in the config files they name."""
    method, files, rest = None, [], []
    position = 0
    while position < len(arguments):
        flag, equals, value = arguments[position].partition("=")
        takes_next = flag in ("--method", "--config-file", "-C") and not equals
        if takes_next:
            position += 1
            if position == len(arguments):
                raise ConfigError(f"argument {flag}: expected one argument.")
            value = arguments[position]
        if flag == "--method":
            method = value
        else:
            rest += [flag, value] if takes_next else [arguments[position]]
        if flag in ("--config-file", "-C"):
            files.append(value)
        position += 1
    for path in files if method is None else []:
        method = load_mapping(path).get(METHOD, method)
        if not isinstance(method, str | None):
            raise ConfigError(f"{path}: {METHOD}: got a {type(method).__name__}, wanted the name of one.")
    return method, rest


def help_text() -> str:
    """Which methods there are; each lists its own options."""
    width = max(map(len, METHODS))
    lines = ["usage: ffcv-ssl train --method=METHOD --data.train=FILE [--section.field=value …] [--config-file=FILE]", "", "methods:"]
    lines += [f"  {name:{width}}  {summary}" for name, summary in METHODS.items()]
    lines += ["", f"recipes, by name for --config-file: {', '.join(recipe_names())}"]
    lines += ["", "ffcv-ssl train --method=METHOD --help lists a method's options.", ""]
    return "\n".join(lines)
