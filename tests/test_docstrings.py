"""Docstrings of public names are present, complete, and have examples that run."""

import doctest
import importlib
import inspect
import pkgutil
import re

import pytest

import ffcv_ssl

PACKAGES = [
    "ffcv_ssl.beton", "ffcv_ssl.errors", "ffcv_ssl.evaluate", "ffcv_ssl.fields", "ffcv_ssl.loader",
    "ffcv_ssl.reader", "ffcv_ssl.runs", "ffcv_ssl.sources", "ffcv_ssl.ssl", "ffcv_ssl.train",
    "ffcv_ssl.transforms", "ffcv_ssl.views", "ffcv_ssl.writer",
]  # fmt: skip
# Names that are neither classes nor functions, or that are documented by their value.
CONSTANTS = {"BACKBONES", "PROTOCOLS", "STEMS", "TIMM", "Configs"}
EXAMPLES = [  # main names, which need an example
    "ffcv_ssl.loader.Loader",
    "ffcv_ssl.reader.Reader",
    "ffcv_ssl.writer.DatasetWriter",
    "ffcv_ssl.transforms.MultiView",
    "ffcv_ssl.transforms.SampleTransform",
    "ffcv_ssl.views.simclr",
    "ffcv_ssl.views.emp_ssl",
    "ffcv_ssl.ssl.SimCLR",
    "ffcv_ssl.ssl.knn_accuracy",
]


def public():
    """Return every public class and function once, by its full name."""
    seen = {}
    for package in PACKAGES:
        module = importlib.import_module(package)
        for name in getattr(
            module, "__all__", [each for each in vars(module) if not each.startswith("_")]
        ):
            value = getattr(module, name)
            if name not in CONSTANTS and (inspect.isclass(value) or inspect.isfunction(value)):
                seen.setdefault(id(value), (f"{package}.{name}", value))
    return dict(seen.values())


PUBLIC = public()


def parameters_of(value):
    """Return the names of the parameters that a caller passes."""
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return []
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [
        name
        for name, parameter in signature.parameters.items()
        if name not in ("self", "cls") and parameter.kind not in kinds
    ]


def is_exempt(value):
    """Return whether parameters need no section: errors, enumerations, options with help texts."""
    if not inspect.isclass(value):
        return False
    if issubclass(value, BaseException) or hasattr(value, "__members__"):
        return True
    fields = getattr(value, "__dataclass_fields__", {})
    return bool(fields) and all("help" in field.metadata for field in fields.values())


def missing(value):
    """Return the missing parts of a docstring."""
    text = inspect.getdoc(value) or ""
    lines = text.splitlines()
    found = []
    if not text:
        return ["docstring"]
    if len(lines) > 1 and lines[1].strip():
        found.append("one sentence, then an empty line")
    if not lines[0].rstrip().endswith((".", "?")):
        found.append("a first line that is a sentence")
    if not is_exempt(value):
        found += [
            f"parameter {name}" for name in parameters_of(value) if name not in named_in(text)
        ]
    return found


def named_in(text):
    """Return the names in the sections Parameters and Attributes, or in backticks anywhere."""
    headings = re.findall(r"^(\w+(?:, \w+)*)$", text, re.MULTILINE)
    return {name for heading in headings for name in heading.split(", ")} | set(
        re.findall(r"`(\w+)", text)
    )


@pytest.mark.parametrize("name", PUBLIC)
def test_docstring__is_complete(name):
    """Every docstring starts with a sentence and names every parameter."""
    assert missing(PUBLIC[name]) == []


@pytest.mark.parametrize("name", EXAMPLES)
def test_example__stands_in_the_docstring(name):
    """The docstrings of the main names have an example."""
    module, _, attribute = name.rpartition(".")
    assert ">>>" in inspect.getdoc(getattr(importlib.import_module(module), attribute))


def modules():
    """Return the names of all modules that can be imported here."""
    names = [info.name for info in pkgutil.walk_packages(ffcv_ssl.__path__, "ffcv_ssl.")]
    return [
        name
        for name in names
        if not re.search(r"\.(interop|cuda|_native|benchmarks|recipes)(\.|$)", name)
    ]


@pytest.mark.parametrize("name", modules())
def test_examples__run(name, tmp_path, monkeypatch):
    """Every example produces the output that it shows."""
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(
        importlib.import_module(name), optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    )
    assert result.failed == 0
