"""The architecture: allowed imports, deferred heavy imports, one module with jit options."""

import ast
import re
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "ffcv_ssl"
FILES = sorted(PACKAGE.rglob("*.py"))
FOR_ALL = {"errors", "system", "__version__", "ffcv_ssl"}
JIT = "kernels._jit"  # compilation and cache of kernels; every package that compiles may import it
RE_EXPORTS = {"writer", "reader", "views", "fields.decoders", "fields.rgb_image", "fields.basics"}
ROW = re.compile(r"^\| `(\w+)` \| [^|]+ \|([^|]*)\|$", re.MULTILINE)


def allowed_imports():
    """Return the packages that each row of the table may import. None: all."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    return {
        name: None if "all" in cell else set(re.findall(r"`(\w+)`", cell))
        for name, cell in ROW.findall(text)
    }


MAY_IMPORT = allowed_imports()


def module_name(path):
    """Return the dotted module name of a path, relative to the package."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path, within_functions=True):
    """Yield the modules of this package that a file imports, without imports for type checkers."""
    tree = ast.parse(path.read_text())
    skipped = {
        id(node)
        for block in ast.walk(tree)
        if (isinstance(block, ast.If) and ast.unparse(block.test).endswith("TYPE_CHECKING"))
        or (isinstance(block, ast.FunctionDef) and not within_functions)
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.ImportFrom) and id(node) not in skipped:
            assert node.level == 0, f"{path}: relative import"
            names = (
                [node.module]
                if node.module != "ffcv_ssl"
                else [f"ffcv_ssl.{alias.name}" for alias in node.names]
            )
        elif isinstance(node, ast.Import) and id(node) not in skipped:
            names = [alias.name for alias in node.names]
        yield from (name.removeprefix("ffcv_ssl.") for name in names if name.startswith("ffcv_ssl"))


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_imports__are_those_of_the_table(path):
    """Packages follow the table; re-exporting modules and `interop` may not import `cli`."""
    name = module_name(path)
    package = name.partition(".")[0]
    for imported in imports(path):
        target = imported.partition(".")[0]
        if name in RE_EXPORTS or package == "interop":
            assert target not in {"cli", "train", "evaluate"}, f"{name} imports {imported}"
        elif package in MAY_IMPORT and target not in FOR_ALL | {package} and imported != JIT:
            allowed = MAY_IMPORT[package]
            assert allowed is None or target in allowed | (
                {"reader"} if "beton" in allowed else set()
            ), f"{name} imports {imported}"
        elif package not in MAY_IMPORT and package:
            assert target in FOR_ALL, f"{name} imports {imported}"


def test_imports__have_no_circles():
    """No modules import each other in a circle, directly or indirectly."""
    names = {module_name(path) for path in FILES}
    graph = {
        module_name(path): set(imports(path, within_functions=False)) & names - {module_name(path)}
        for path in FILES
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"imports in a circle: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize("name", sorted(RE_EXPORTS))
def test_re_exports__hold_nothing_else(name):
    """A re-exporting module contains only a docstring, imports and `__all__`."""
    path = PACKAGE / (name.replace(".", "/") + ".py")
    for node in ast.parse(path.read_text()).body:
        is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        is_all = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        assert is_docstring or is_all or isinstance(node, (ast.Import, ast.ImportFrom)), (
            f"{name}: {ast.unparse(node)}"
        )


def test_table__has_a_row_for_every_package():
    """`docs/architecture.md` lists exactly the packages and modules that define something."""
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")} - {"interop"}
    modules = {path.stem for path in PACKAGE.glob("*.py")} - RE_EXPORTS - {"__init__", "errors"}
    assert set(MAY_IMPORT) == folders | modules


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_jit_options__are_in_one_module(path):
    """No parallel loops, no cache by Numba, no unresolved symbols, no generated code."""
    if module_name(path) == "kernels._jit":
        return
    text = path.read_text()
    for word in ("prange", "cache=True", "ExternalFunction", "fastmath"):
        assert word not in text, f"{module_name(path)} holds {word}"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"exec", "eval", "compile", "print"}, (
                f"{module_name(path)} calls {node.func.id}"
            )


def loaded_by(module):
    """Return the modules that an import of `module` loads in a fresh interpreter."""
    program = f"import sys, {module}; print(*sys.modules)"
    return set(
        subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        ).stdout.split()
    )


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("ffcv_ssl", {"torch", "numba", "cv2", "numpy", "matplotlib"}),
        ("ffcv_ssl.writer", {"torch", "numba", "cv2", "matplotlib", "tensorboard"}),
        ("ffcv_ssl.reader", {"torch", "numba", "cv2", "matplotlib", "tensorboard"}),
        ("ffcv_ssl.fields", {"torch", "numba", "cv2", "matplotlib", "tensorboard"}),
        ("ffcv_ssl.cli.main", {"torch", "numba", "cv2", "matplotlib", "tensorboard"}),
        ("ffcv_ssl.loader", {"cv2", "matplotlib", "tensorboard"}),
    ],
)
def test_heavy_imports__wait_until_they_are_used(module, absent):
    """Importing a module loads no heavy package that it does not need immediately."""
    assert not loaded_by(module) & absent


def test_modules__stay_small():
    """No module of the package exceeds 300 lines."""
    long = {
        module_name(path): count
        for path in FILES
        if (count := len(path.read_text().splitlines())) > 300
    }
    assert not long
