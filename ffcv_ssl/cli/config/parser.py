"""Frozen dataclasses as a command's configuration: flags, YAML files and help, through fastargs.

A section is a frozen dataclass. Each of its fields says in `metadata["help"]` what it means, in which unit and range; its
annotation says what it takes (int, float, str, `LocalPath`, bool, `Literal[…]`, or one of these `| None`). A field with
`metadata["positional"]`, its name in the usage line, is also taken without a flag, one with `metadata["alias"]` by a second flag.
Values come from the defaults, then the config files, then the flags. Nothing is read from the environment.
"""

import argparse
import dataclasses
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO, get_type_hints

import yaml
from fastargs import Config, Param, Section

from ffcv_ssl.cli.config.checkers import Choice, OrNone, PathText, checker_for
from ffcv_ssl.cli.config.file import METHOD, read_config_file
from ffcv_ssl.cli.config.help import command_help, first_line
from ffcv_ssl.errors import ConfigError
from ffcv_ssl.system.names import did_you_mean

Key = tuple[str, str]  # (section, field)


class _FlagParser(argparse.ArgumentParser):
    """An argparse parser that raises instead of printing and leaving."""

    def error(self, message: str) -> Any:
        raise ConfigError(f"{message}.")


def parse(
    command: str, sections: Mapping[str, type], argv: Sequence[str] | None = None, description: str = "", recipe: str | None = None
) -> dict[str, Any]:
    """Read a command's configuration from its arguments and the config files they name.

    Parameters
    ----------
    command
        Name of the program, as it stands in the usage line: `ffcv-ssl write`, `simclr`.
    sections
        Section name → frozen dataclass.
    argv
        The arguments without the program's name; None takes those of the process.
    description
        What the command does, for `--help`.
    recipe
        Method whose recipe files are read too; their sections that this command does not have are passed over.

    Returns
    -------
    dict
        Section name → instance of its dataclass.

    Raises
    ------
    ConfigError
        If a value is missing, unknown or out of range.
    SystemExit
        With status 0, after `--help` was printed.
    """
    config = _fastargs_config(sections)
    flags, files, wants_help = _read_flags(config, sections, sys.argv[1:] if argv is None else argv)
    if wants_help:
        sys.stdout.write(command_help(command, description, sections, config.entries))
        raise SystemExit(0)
    origins: dict[Key, str] = {}
    for path in files:
        values = read_config_file(path, config.entries, recipe or command, other_sections=recipe is not None)
        _collect(config, values)
        origins |= {key: f"{path}: {'.'.join(key)}" for key in values}
    _collect(config, flags)
    origins |= {key: f"--{'.'.join(key)}" for key in flags}
    _raise_first_error(config, origins, sections)
    return {name: _build(name, section, config) for name, section in sections.items()}


def config_dict(configs: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Turn what `parse` returned into a plain dict: section → field → value."""
    return {name: dataclasses.asdict(section) for name, section in configs.items()}


def config_yaml(configs: Mapping[str, Any], method: str | None = None) -> str:
    """Return the configuration as YAML that `--config-file` reads back to equal values."""
    content = ({METHOD: method} if method else {}) | config_dict(configs)
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def print_config(configs: Mapping[str, Any], file: TextIO | None = None) -> None:
    """Write every resolved value, one `section.field = value` a line, to `file` (standard error)."""
    values = {f"{name}.{field}": value for name, section in config_dict(configs).items() for field, value in section.items()}
    width = max(map(len, values), default=0)
    (file or sys.stderr).write("".join(f"{name:{width}} = {value}\n" for name, value in values.items()))


def _fastargs_config(sections: Mapping[str, type]) -> Config:
    """Build a fastargs Config of this command's own; the global one is shared by every module of a process."""
    config = Config()
    for name, section in sections.items():
        hints = get_type_hints(section, include_extras=True)
        params = {}
        for field in dataclasses.fields(section):
            if not field.metadata.get("help"):
                raise TypeError(f'{section.__name__}.{field.name} needs metadata={{"help": …}}: meaning, unit, range.')
            required = field.default is dataclasses.MISSING
            default = None if required else field.default
            params[field.name] = Param(checker_for(hints[field.name]), field.metadata["help"], default=default, required=required)
        Section(name, first_line(section), config_descriptor=config).params(**params)
    return config


def _read_flags(config: Config, sections: Mapping[str, type], argv: Sequence[str]) -> tuple[dict[Key, str], list[str], bool]:
    """Split the arguments into values by key, config files, and whether help was asked for."""
    parser = _FlagParser(add_help=False, allow_abbrev=False, argument_default=argparse.SUPPRESS)
    parser.add_argument("-h", "--help", action="store_true", default=False)
    parser.add_argument("-C", "--config-file", action="append", default=[], metavar="FILE")
    dests: dict[str, Key] = {}
    for name, section in sections.items():
        for field in dataclasses.fields(section):
            flags = [f"--{name}.{field.name}", *([field.metadata["alias"]] if "alias" in field.metadata else [])]
            dests[parser.add_argument(*flags, dest=f"{name}.{field.name}").dest] = name, field.name
            if "positional" in field.metadata:
                dests[parser.add_argument(f"positional {name}.{field.name}", nargs="?").dest] = name, field.name
    found, unknown = parser.parse_known_args(list(argv))
    if unknown and not found.help:
        raise ConfigError(_unknown_flag(unknown[0], config.entries))
    return {dests[dest]: value for dest, value in vars(found).items() if dest in dests}, found.config_file, found.help


def _unknown_flag(argument: str, known: Mapping[Key, Param]) -> str:
    """Say which argument is unknown, and which flag was perhaps meant."""
    if not argument.startswith("-"):
        return f"unexpected argument '{argument}'; options are written --section.field=value."
    word = argument.partition("=")[0]
    by_field = {field: f"--{section}.{field}" for section, field in known}
    bare = word.lstrip("-").replace("-", "_")
    hint = f" Did you mean '{by_field[bare]}'?" if bare in by_field else did_you_mean(word, [f"--{'.'.join(key)}" for key in known])
    return f"unknown option {word}.{hint} --help lists them all."


def _collect(config: Config, values: Mapping[Key, Any]) -> None:
    config.collect({".".join(key): value for key, value in values.items()})


def _raise_first_error(config: Config, origins: Mapping[Key, str], sections: Mapping[str, type]) -> None:
    """Turn fastargs' dict of errors into one line; missing values are named together."""
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
        raise ConfigError(f"missing: {', '.join(_flag_of(key, sections) for key in missing)}. --help says what they mean.")


def _flag_of(key: Key, sections: Mapping[str, type]) -> str:
    """The way a user writes a value: its positional name, or its flag."""
    (field,) = (field for field in dataclasses.fields(sections[key[0]]) if field.name == key[1])
    return field.metadata.get("positional", f"--{'.'.join(key)}=…")


def _build(name: str, section: type, config: Config) -> Any:
    """Make the dataclass; what it finds wrong with its values is an error of the configuration."""
    try:
        return section(**{field.name: config[name, field.name] for field in dataclasses.fields(section)})
    except (ValueError, TypeError) as error:
        raise ConfigError(f"--{name}.…: {error}") from error
