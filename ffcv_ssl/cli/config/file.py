"""YAML configuration files, read so strictly that no line of them is ignored."""

from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from ffcv_ssl.cli.config.checkers import NONE
from ffcv_ssl.errors import ConfigError
from ffcv_ssl.system.names import did_you_mean
from ffcv_ssl.system.paths import expanded_path

METHOD = "method"  # the one key outside the sections: which program the file is for


class StrictLoader(yaml.SafeLoader):
    """A SafeLoader that refuses to let a key overwrite an equal one above it."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        doubled = {str(key) for key in keys if keys.count(key) > 1}
        if doubled:
            raise yaml.constructor.ConstructorError(None, None, f"{', '.join(sorted(doubled))} given twice", node.start_mark)
        return super().construct_mapping(node, deep)


def read_config_file(
    path: str | Path, known: Iterable[tuple[str, str]], command: str, other_sections: bool = False
) -> dict[tuple[str, str], Any]:
    """Read `section: {field: value}` or `section.field: value` from a YAML (or JSON) file.

    Parameters
    ----------
    path
        The file.
    known
        (section, field) of everything that may be set.
    command
        Name of the program; a file whose `method` names another one is refused.
    other_sections
        Whether the file may hold sections that nothing knows; they are passed over.

    Raises
    ------
    ConfigError
        If the file cannot be read, is no YAML mapping, or holds a key that nothing knows.
    """
    known = set(known)
    values = {}
    for key, value in load_mapping(path).items():
        if key == METHOD and not isinstance(value, dict):
            if value != command:
                raise ConfigError(f"{path}: the file is for the method '{value}', this is '{command}'.")
            continue
        for name, entry in _flatten(str(key), value, path):
            section, _, field = name.partition(".")
            if other_sections and section not in {name for name, _ in known}:
                continue
            if (section, field) not in known:
                raise ConfigError(_unknown_key(path, section, field, known))
            if isinstance(entry, (dict, list)):
                raise ConfigError(f"{path}: {name}: got a {type(entry).__name__}, wanted one value.")
            values[section, field] = NONE if entry is None else entry
    return values


def load_mapping(path: str | Path) -> dict:
    """Read a YAML file, or the installed recipe of that name, that holds a mapping (or nothing), as it stands."""
    try:
        content = yaml.load(_read(path), StrictLoader)
    except OSError as error:
        raise ConfigError(f"{path}: the config file cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: the config file is not UTF-8 text.") from error
    except RecursionError as error:
        raise ConfigError(f"{path}: no valid YAML: it is nested too deeply.") from error
    except ConfigError:
        raise
    except ValueError as error:  # a date that does not exist
        raise ConfigError(f"{path}: no valid YAML: {error}.") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}: no valid YAML{line}: {getattr(error, 'problem', None) or error}.") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: a config file is a mapping 'section: {{field: value}}', this is a {type(content).__name__}.")
    return content


def recipe_names() -> list[str]:
    """Names of the installed recipes, which stand for their files."""
    return sorted(file.name.removesuffix(".yaml") for file in resources.files("ffcv_ssl.recipes").iterdir() if file.name.endswith(".yaml"))


def _read(path: str | Path) -> str:
    """Text of a file or, where there is none, of the recipe of that name."""
    file = Path(expanded_path(str(path)))
    if not file.exists() and str(path) in recipe_names():
        return (resources.files("ffcv_ssl.recipes") / f"{path}.yaml").read_text(encoding="utf-8")
    return file.read_text(encoding="utf-8")


def _flatten(key: str, value: Any, path: str | Path) -> Iterable[tuple[str, Any]]:
    """Names with their values: those of a section, or the one of a dotted key."""
    if "." in key:
        return [(key, value)]
    if isinstance(value, dict):
        return [(f"{key}.{field}", entry) for field, entry in value.items()]
    if value is None:  # a section whose lines are all commented out
        return []
    raise ConfigError(f"{path}: '{key}' stands outside of any section; write 'section: {{{key}: {value}}}'.")


def _unknown_key(path: str | Path, section: str, field: str, known: set[tuple[str, str]]) -> str:
    sections = sorted({name for name, _ in known})
    if section not in sections:
        return f"{path}: no section '{section}'. Sections: {', '.join(sections)}.{did_you_mean(section, sections)}"
    fields = sorted(name for home, name in known if home == section)
    return f"{path}: section '{section}' has no '{field}'. It has: {', '.join(fields)}.{did_you_mean(field, fields)}"
