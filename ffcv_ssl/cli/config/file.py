"""Strict YAML configuration files: every line has an effect or raises an error."""

from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from ffcv_ssl.cli.config.checkers import NONE
from ffcv_ssl.errors import ConfigError
from ffcv_ssl.system.names import did_you_mean
from ffcv_ssl.system.paths import expanded_path

METHOD = "method"  # the only key outside the sections: the program that the file is for


class StrictLoader(yaml.SafeLoader):
    """A YAML loader that rejects mappings with duplicate keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return a mapping; raise ConstructorError if it has a key twice."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        duplicates = {str(key) for key in keys if keys.count(key) > 1}
        if duplicates:
            problem = f"{', '.join(sorted(duplicates))} given twice"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        return super().construct_mapping(node, deep)


def read_config_file(
    path: str | Path, known: Iterable[tuple[str, str]], command: str, other_sections: bool = False
) -> dict[tuple[str, str], Any]:
    """Read the options of a YAML (or JSON) file.

    Options are written `section: {field: value}` or `section.field: value`.

    Parameters
    ----------
    path
        The file, or the name of an installed recipe.
    known
        (section, field) of every option.
    command
        Name of the program. A file whose `method` names another program is rejected.
    other_sections
        Whether to ignore unknown sections instead of rejecting them.

    Returns
    -------
    dict
        (section, field) → value. None is spelled `none`, as in a flag.

    Raises
    ------
    ConfigError
        If the file cannot be read, is not a YAML mapping, or has an unknown key.
    """
    known = set(known)
    sections = {section for section, _ in known}
    values = {}
    for key, value in load_mapping(path).items():
        if key == METHOD and not isinstance(value, dict):
            if value != command:
                raise ConfigError(
                    f"{path}: the file is for the method '{value}', this is '{command}'."
                )
            continue
        for name, entry in _flatten(str(key), value, path):
            section, _, field = name.partition(".")
            if other_sections and section not in sections:
                continue
            if (section, field) not in known:
                raise ConfigError(_unknown_key(path, section, field, known))
            if isinstance(entry, (dict, list)):
                kind = type(entry).__name__
                raise ConfigError(f"{path}: {name}: got a {kind}, wanted one value.")
            values[section, field] = NONE if entry is None else entry
    return values


def load_mapping(path: str | Path) -> dict[Any, Any]:
    """Read a YAML file that contains a mapping.

    Parameters
    ----------
    path
        The file, or the name of an installed recipe.

    Returns
    -------
    dict
        Content of the file; empty if the file is.

    Raises
    ------
    ConfigError
        If the file cannot be read, is not valid YAML, or contains something else.
    """
    try:
        content = yaml.load(_read(path), StrictLoader)
    except OSError as error:
        reason = error.strerror
        raise ConfigError(f"{path}: the config file cannot be read: {reason}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: the config file is not UTF-8 text.") from error
    except RecursionError as error:
        raise ConfigError(f"{path}: not valid YAML: nested too deeply.") from error
    except ConfigError:
        raise
    except ValueError as error:  # a date that does not exist
        raise ConfigError(f"{path}: not valid YAML: {error}.") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or error
        raise ConfigError(f"{path}: not valid YAML{line}: {problem}.") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        kind = type(content).__name__
        raise ConfigError(
            f"{path}: a config file is a mapping 'section: {{field: value}}', this is a {kind}."
        )
    return content


def recipe_names() -> list[str]:
    """Return the sorted names of the installed recipes, which can be used in place of a file."""
    names = (file.name for file in resources.files("ffcv_ssl.recipes").iterdir())
    return sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))


def _read(path: str | Path) -> str:
    """Return the text of a file; if there is none, that of the recipe with this name."""
    file = Path(expanded_path(str(path)))
    if not file.exists() and str(path) in recipe_names():
        recipe = resources.files("ffcv_ssl.recipes") / f"{path}.yaml"
        return recipe.read_text(encoding="utf-8")
    return file.read_text(encoding="utf-8")


def _flatten(key: str, value: Any, path: str | Path) -> Iterable[tuple[str, Any]]:
    """Return `section.field` and value of each option below a top-level key."""
    if "." in key:
        return [(key, value)]
    if isinstance(value, dict):
        return [(f"{key}.{field}", entry) for field, entry in value.items()]
    if value is None:  # a section whose lines are all commented out
        return []
    raise ConfigError(
        f"{path}: '{key}' stands outside of any section; write 'section: {{{key}: {value}}}'."
    )


def _unknown_key(path: str | Path, section: str, field: str, known: set[tuple[str, str]]) -> str:
    """Return the message for an unknown section or field."""
    sections = sorted({name for name, _ in known})
    if section not in sections:
        hint = did_you_mean(section, sections)
        return f"{path}: no section '{section}'. Sections: {', '.join(sections)}.{hint}"
    fields = sorted(name for owner, name in known if owner == section)
    hint = did_you_mean(field, fields)
    return f"{path}: section '{section}' has no '{field}'. It has: {', '.join(fields)}.{hint}"
