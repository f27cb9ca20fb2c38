"""Read the options of a command from flags and YAML files into frozen dataclasses.

A section is a frozen dataclass. `metadata["help"]` of each field states meaning, unit and range;
its annotation gives the type (int, float, str, `LocalPath`, bool, `Literal[…]`, or one of these `|
None`). `metadata["positional"]` gives a name under which the usage line shows the field and allows
it without a flag. `metadata["alias"]` gives a second flag. Values come from the defaults, then the
configuration files, then the flags; environment variables are not read.
"""

import argparse
import dataclasses
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, TextIO, get_type_hints

import yaml
from fastargs import Config, Param, Section

from ffcv_ssl.cli.config.checkers import Choice, OrNone, PathText, checker_for
from ffcv_ssl.cli.config.file import METHOD, read_config_file
from ffcv_ssl.cli.config.help import command_help, first_line
from ffcv_ssl.errors import ConfigError
from ffcv_ssl.system.names import did_you_mean

Key = tuple[str, str]  # (section, field)


class _FlagParser(argparse.ArgumentParser):
    """An argparse parser that raises ConfigError instead of exiting."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}.")


def parse(
    command: str,
    sections: Mapping[str, type],
    argv: Sequence[str] | None = None,
    description: str = "",
    recipe: str | None = None,
) -> dict[str, Any]:
    """Read the options of a command from its arguments and configuration files.

    Parameters
    ----------
    command
        Name of the program for the usage line, such as `ffcv-ssl write`.
    sections
        Section name → frozen dataclass.
    argv
        Arguments without the program's name. None takes those of the process.
    description
        Summary of the command for `--help`.
    recipe
        Method whose recipe files are accepted as configuration files. Their sections that the
        command does not have are ignored. None accepts files with the sections of the command only.

    Returns
    -------
    dict
        Section name → instance of its dataclass.

    Raises
    ------
    ConfigError
        If a value is missing, unknown or out of range.
    SystemExit
        With status 0, after printing the help for `--help`.

    Examples
    --------
    >>> from dataclasses import dataclass, field
    >>> from ffcv_ssl.cli.config import parse
    >>> @dataclass(frozen=True)
    ... class OptimConfig:
    ...     lr: float = field(default=0.1, metadata={"help": "Learning rate, > 0"})
    >>> parse("train", {"optim": OptimConfig}, ["--optim.lr=0.5"])
    {'optim': OptimConfig(lr=0.5)}
    """
    config = _fastargs_config(sections)
    arguments = sys.argv[1:] if argv is None else argv
    flags, files, wants_help = _read_flags(config, sections, arguments)
    if wants_help:
        sys.stdout.write(command_help(command, description, sections, config.entries))
        raise SystemExit(0)
    origins: dict[Key, str] = {}
    has_recipe = recipe is not None
    for path in files:
        values = read_config_file(path, config.entries, recipe or command, has_recipe)
        _collect(config, values)
        origins |= {key: f"{path}: {'.'.join(key)}" for key in values}
    _collect(config, flags)
    origins |= {key: f"--{'.'.join(key)}" for key in flags}
    _raise_first_error(config, origins, sections)
    return {name: _build(name, section, config) for name, section in sections.items()}


def config_dict(configs: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Convert a configuration to plain dicts.

    Parameters
    ----------
    configs
        Section name → dataclass, as `parse` returns it.

    Returns
    -------
    dict
        Section → field → value.
    """
    return {name: dataclasses.asdict(section) for name, section in configs.items()}


def config_yaml(configs: Mapping[str, Any], method: str | None = None) -> str:
    """Return a configuration as YAML that `--config-file` reads back to equal values.

    Parameters
    ----------
    configs
        Section name → dataclass, as `parse` returns it.
    method
        Method to name in the first line. None writes no such line.

    Returns
    -------
    str
        The YAML text.

    Examples
    --------
    >>> from ffcv_ssl.cli.config import config_yaml
    >>> from ffcv_ssl.cli.config.sections import FileConfig
    >>> print(config_yaml({"file": FileConfig("train.beton")}, "simclr"), end="")
    method: simclr
    file:
      path: train.beton
    """
    content = ({METHOD: method} if method else {}) | config_dict(configs)
    text: str = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    return text


def print_config(configs: Mapping[str, Any], file: TextIO | None = None) -> None:
    """Print every option, one `section.field = value` per line.

    Parameters
    ----------
    configs
        Section name → dataclass, as `parse` returns it.
    file
        Text stream to write to. None writes to standard error.

    Examples
    --------
    >>> import sys
    >>> from ffcv_ssl.cli.config import print_config
    >>> from ffcv_ssl.cli.config.sections import FileConfig
    >>> print_config({"file": FileConfig("train.beton")}, sys.stdout)
    file.path = train.beton
    """
    values = {
        f"{name}.{field}": value
        for name, section in config_dict(configs).items()
        for field, value in section.items()
    }
    width = max(map(len, values), default=0)
    text = "".join(f"{name:{width}} = {value}\n" for name, value in values.items())
    (file or sys.stderr).write(text)


def _fastargs_config(sections: Mapping[str, type]) -> Config:
    """Build a fastargs Config for one command; all modules of a process share the global one."""
    config = Config()
    for name, section in sections.items():
        hints = get_type_hints(section, include_extras=True)
        params = {}
        for field in dataclasses.fields(section):
            text = field.metadata.get("help")
            if not text:
                place = f"{section.__name__}.{field.name}"
                raise TypeError(f'{place} needs metadata={{"help": …}}: meaning, unit, range.')
            checker = checker_for(hints[field.name])
            required = field.default is dataclasses.MISSING
            default = None if required else field.default
            params[field.name] = Param(checker, text, default=default, required=required)
        Section(name, first_line(section), config_descriptor=config).params(**params)
    return config


def _read_flags(
    config: Config, sections: Mapping[str, type], argv: Sequence[str]
) -> tuple[dict[Key, str], list[str], bool]:
    """Split the arguments into values by key, configuration files, and whether to print help."""
    parser = _FlagParser(add_help=False, allow_abbrev=False, argument_default=argparse.SUPPRESS)
    parser.add_argument("-h", "--help", action="store_true", default=False)
    parser.add_argument("-C", "--config-file", action="append", default=[], metavar="FILE")
    keys: dict[str, Key] = {}
    for name, section in sections.items():
        for field in dataclasses.fields(section):
            key = name, field.name
            aliases = [field.metadata["alias"]] if "alias" in field.metadata else []
            flag = f"{name}.{field.name}"
            keys[parser.add_argument(f"--{flag}", *aliases, dest=flag).dest] = key
            if "positional" in field.metadata:
                keys[parser.add_argument(f"positional {flag}", nargs="?").dest] = key
    found, unknown = parser.parse_known_args(list(argv))
    if unknown and not found.help:
        raise ConfigError(_unknown_flag(unknown[0], config.entries))
    flags = {keys[dest]: value for dest, value in vars(found).items() if dest in keys}
    return flags, found.config_file, found.help


def _unknown_flag(argument: str, known: Mapping[Key, Param]) -> str:
    """Return the message for an unknown argument, with the closest known flag."""
    if not argument.startswith("-"):
        return f"unexpected argument '{argument}'; options are written --section.field=value."
    flag = argument.partition("=")[0]
    by_field = {field: f"--{section}.{field}" for section, field in known}
    bare = flag.lstrip("-").replace("-", "_")
    if bare in by_field:
        hint = f" Did you mean '{by_field[bare]}'?"
    else:
        hint = did_you_mean(flag, [f"--{'.'.join(key)}" for key in known])
    return f"unknown option {flag}.{hint} --help lists all options."


def _collect(config: Config, values: Mapping[Key, Any]) -> None:
    """Pass values to fastargs."""
    config.collect({".".join(key): value for key, value in values.items()})


def _raise_first_error(
    config: Config, origins: Mapping[Key, str], sections: Mapping[str, type]
) -> None:
    """Raise ConfigError for the first invalid value, or for all missing ones together."""
    errors = config.validate("errordict")
    missing = [key for key in errors if key not in origins]
    for key in errors:
        if key in origins:
            checker, value = config.entries[key].checker, config.content[key]
            choice = checker.inner if isinstance(checker, OrNone) else checker
            if isinstance(choice, PathText) and (reason := choice.reason(value)):
                raise ConfigError(f"{origins[key]}: {reason}")
            hint = choice.hint(value) if isinstance(choice, Choice) else ""
            raise ConfigError(f"{origins[key]}: got {value!r}, wanted {checker.help()}.{hint}")
    if missing:
        flags = ", ".join(_flag_of(key, sections) for key in missing)
        raise ConfigError(f"missing: {flags}. --help describes them.")


def _flag_of(key: Key, sections: Mapping[str, type]) -> str:
    """Return how a user writes an option: its positional name, or its flag."""
    (field,) = (field for field in dataclasses.fields(sections[key[0]]) if field.name == key[1])
    flag: str = field.metadata.get("positional", f"--{'.'.join(key)}=…")
    return flag


def _build(name: str, section: type, config: Config) -> Any:
    """Create the dataclass of a section; raise ConfigError if it rejects its values."""
    values = {field.name: config[name, field.name] for field in dataclasses.fields(section)}
    try:
        return section(**values)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"--{name}.…: {error}") from error
