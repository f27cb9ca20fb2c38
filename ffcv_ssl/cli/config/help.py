"""The text of `--help`: one block per section, one entry per option, made to be read."""

import dataclasses
import shutil
import textwrap
from collections.abc import Mapping

from fastargs import Param

CONFIG_FILE_HELP = "YAML file of 'section: {field: value}', or a recipe's name; may be given again, flags win over files."


def command_help(command: str, description: str, sections: Mapping[str, type], entries: Mapping[tuple[str, str], Param]) -> str:
    """Return the help text of one command.

    Parameters
    ----------
    command
        Name of the program for the usage line.
    description
        What it does.
    sections
        Section name → dataclass; the first line of its docstring heads the block.
    entries
        (section, field) → fastargs parameter, with checker, default and description.
    """
    width = min(shutil.get_terminal_size().columns, 110)
    blocks = [_usage(command, sections, entries), *([_wrap(description, "", width)] if description else [])]
    for name, section in sections.items():
        lines = [f"{name}: {first_line(section)}"]
        for field in dataclasses.fields(section):
            lines += _entry(name, field, entries[name, field.name], width)
        blocks.append("\n".join(lines))
    blocks.append("\n".join(["general:", "  --config-file=FILE", _wrap(CONFIG_FILE_HELP, " " * 6, width), "  --help"]))
    return "\n\n".join(blocks) + "\n"


def first_line(section: type) -> str:
    """The first line of a dataclass's docstring, unless it is the one that dataclass() generates."""
    line = (section.__doc__ or "").strip().partition("\n")[0]
    return "" if line.startswith(f"{section.__name__}(") else line


def _usage(command: str, sections: Mapping[str, type], entries: Mapping[tuple[str, str], Param]) -> str:
    """The usage line: positional and required options by name, the rest as one word."""
    words = []
    for name, section in sections.items():
        for field in dataclasses.fields(section):
            if "positional" in field.metadata:
                words.append(field.metadata["positional"])
            elif entries[name, field.name].required:
                words.append(f"--{name}.{field.name}={entries[name, field.name].checker.placeholder}")
    return " ".join(["usage:", command, *words, "[--section.field=value …] [--config-file=FILE]"])


def _entry(section: str, field: dataclasses.Field, param: Param, width: int) -> list[str]:
    """One option: its flag and what it takes, then meaning and default."""
    flag = f"--{section}.{field.name}={param.checker.placeholder}"
    if "positional" in field.metadata:
        flag = f"{field.metadata['positional']} (or {flag})"
    if "alias" in field.metadata:
        flag = f"{field.metadata['alias']}={param.checker.placeholder} (or {flag})"
    meaning = param.desc.rstrip(".")
    return [f"  {flag}", _wrap(f"{meaning}. {_default(param)}", " " * 6, width)]


def _default(param: Param) -> str:
    if param.required:
        return "Required."
    value = param.default
    shown = "none" if value is None else int(value) if isinstance(value, bool) else "(empty)" if value == "" else value
    return f"Default: {shown}."


def _wrap(text: str, indent: str, width: int) -> str:
    return textwrap.fill(" ".join(text.split()), width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
