"""The text of `--help`: a block per section, an entry per option."""

import dataclasses
import shutil
import textwrap
from collections.abc import Mapping
from typing import Any

from fastargs import Param

CONFIG_FILE_HELP = (
    "YAML file with lines 'section: {field: value}', or the name of a recipe. May be given several "
    "times: later files override earlier ones, and flags override files."
)


def command_help(
    command: str,
    description: str,
    sections: Mapping[str, type],
    entries: Mapping[tuple[str, str], Param],
) -> str:
    """Return the help text of a command.

    Parameters
    ----------
    command
        Name of the program for the usage line.
    description
        Summary of the command.
    sections
        Section name → dataclass. The first line of its docstring is the heading of the block.
    entries
        (section, field) → fastargs parameter with checker, default and description.

    Returns
    -------
    str
        The text, wrapped to the width of the terminal and to 100 columns at most, except for the
        usage line.
    """
    width = min(shutil.get_terminal_size().columns, 100)
    blocks = [_usage(command, sections, entries)]
    if description:
        blocks.append(_wrap(description, "", width))
    for name, section in sections.items():
        lines = [_wrap(f"{name}: {first_line(section)}", "", width)]
        for field in dataclasses.fields(section):
            lines += _entry(name, field, entries[name, field.name], width)
        blocks.append("\n".join(lines))
    config_file = ["  --config-file=FILE", _wrap(CONFIG_FILE_HELP, " " * 6, width)]
    blocks.append("\n".join(["general:", *config_file, "  --help", "      Show this help."]))
    return "\n\n".join(blocks) + "\n"


def first_line(section: type) -> str:
    """Return the first line of a dataclass's docstring; empty if dataclass() generated it."""
    line = (section.__doc__ or "").strip().partition("\n")[0]
    return "" if line.startswith(f"{section.__name__}(") else line


def _usage(
    command: str, sections: Mapping[str, type], entries: Mapping[tuple[str, str], Param]
) -> str:
    """Return the usage line, which names positional and required options."""
    words = []
    for name, section in sections.items():
        for field in dataclasses.fields(section):
            param = entries[name, field.name]
            if "positional" in field.metadata:
                words.append(field.metadata["positional"])
            elif param.required:
                words.append(f"--{name}.{field.name}={param.checker.placeholder}")
    general = "[--section.field=value …] [--config-file=FILE]"
    return " ".join(["usage:", command, *words, general])


def _entry(section: str, field: "dataclasses.Field[Any]", param: Param, width: int) -> list[str]:
    """Return the lines of one option: its flag and values, then its meaning and default."""
    flag = f"--{section}.{field.name}={param.checker.placeholder}"
    if "positional" in field.metadata:
        flag = f"{field.metadata['positional']} (or {flag})"
    if "alias" in field.metadata:
        flag = f"{field.metadata['alias']}={param.checker.placeholder} (or {flag})"
    meaning = param.desc.rstrip(".")
    return [f"  {flag}", _wrap(f"{meaning}. {_default(param)}", " " * 6, width)]


def _default(param: Param) -> str:
    """Return the sentence about the default value."""
    if param.required:
        return "Required."
    value = param.default
    if value is None:
        return "Default: none."
    if isinstance(value, bool):
        return f"Default: {int(value)}."
    return f"Default: {'(empty)' if value == '' else value}."


def _wrap(text: str, indent: str, width: int) -> str:
    """Fill a paragraph."""
    return textwrap.fill(
        " ".join(text.split()),
        width,
        initial_indent=indent,
        subsequent_indent=indent,
        break_on_hyphens=False,
    )
