"""Public names of the top-level package."""

import importlib
import inspect
import subprocess
import sys

import pytest

import ffcv_ssl


@pytest.mark.parametrize(
    ("name", "module"), [("DatasetWriter", "writer"), ("Loader", "loader"), ("Reader", "reader")]
)
def test_class__is_that_of_its_module(name, module):
    """The top-level package offers the main classes of its modules."""
    assert getattr(ffcv_ssl, name) is getattr(importlib.import_module(f"ffcv_ssl.{module}"), name)


@pytest.mark.parametrize("name", ["transforms", "views"])
def test_module__is_available_without_importing_it(name):
    """`ffcv_ssl.views` and `ffcv_ssl.transforms` work after `import ffcv_ssl` alone."""
    code = f"import ffcv_ssl; assert ffcv_ssl.{name}.__name__ == 'ffcv_ssl.{name}'"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_dir__lists_public_names():
    """`dir` lists every public name, also before it is imported."""
    assert set(ffcv_ssl.__all__) <= set(dir(ffcv_ssl))
    assert all(inspect.isclass(getattr(ffcv_ssl, name)) for name in ("Loader", "Reader"))


def test_unknown_name__is_an_attribute_error():
    """A name that the package does not have raises AttributeError."""
    with pytest.raises(AttributeError, match="no attribute 'Loadr'"):
        _ = ffcv_ssl.Loadr
