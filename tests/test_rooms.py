"""The rules of the house: imports go downwards, doors hold nothing, heavy imports wait, jit options stand in one place."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "ffcv_ssl"
FILES = sorted(PACKAGE.rglob("*.py"))
LEAVES = {"errors", "names", "paths", "signals", "__version__", "ffcv_ssl"}
JIT = "kernels._jit"  # how kernels are compiled and kept: a leaf for every room that compiles, though it stands in `kernels/`
DOORS = {"writer", "reader", "views", "interop", "fields.decoders", "fields.rgb_image", "fields.basics"}
MAY_IMPORT = {
    "cli": {"train", "ssl", "loader", "pipeline", "transforms", "kernels", "sources", "beton", "fields", "codecs", "recipes", "benchmarks"},
    "train": {"ssl", "loader", "pipeline", "transforms", "kernels", "sources", "beton", "fields", "codecs"},
    "ssl": set(),
    "loader": {"pipeline", "transforms", "kernels", "sources", "beton", "fields", "codecs"},
    "pipeline": {"transforms", "kernels", "sources", "beton", "fields", "codecs"},
    "transforms": {"kernels"},
    "kernels": set(),
    "sources": {"fields", "codecs"},
    "beton": {"fields", "codecs"},
    "fields": {"codecs"},
    "codecs": set(),
}


def module_name(path):
    """Dotted name below the package; a package's __init__ is the package."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path):
    """Modules of this package that a file imports, dotted, at any depth; imports for type checkers alone do not count."""
    tree = ast.parse(path.read_text())
    skipped = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test).endswith("TYPE_CHECKING")
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.ImportFrom) and id(node) not in skipped:
            assert node.level == 0, f"{path}: relative import"
            names = [node.module] if node.module != "ffcv_ssl" else [f"ffcv_ssl.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import) and id(node) not in skipped:
            names = [alias.name for alias in node.names]
        yield from (name.removeprefix("ffcv_ssl.") for name in names if name.startswith("ffcv_ssl"))


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_imports__go_downwards(path):
    """A room imports only what the table allows; doors may import any room but `cli` and `train`."""
    name = module_name(path)
    room = name.partition(".")[0]
    for imported in imports(path):
        target = imported.partition(".")[0]
        if name in DOORS or room == "interop":
            assert target not in {"cli", "train"}, f"{name} imports {imported}"
        elif room in MAY_IMPORT and target not in LEAVES | {room} and imported != JIT:
            allowed = MAY_IMPORT[room] | ({"reader", "writer", "views"} if room in {"cli", "train"} else set())
            assert target in allowed, f"{name} imports {imported}"
        elif room not in MAY_IMPORT and room:
            assert target in LEAVES, f"{name} imports {imported}"


@pytest.mark.parametrize("name", sorted(DOORS - {"interop"}))
def test_doors__only_re_export(name):
    """A door holds a docstring, imports and `__all__`, nothing else."""
    path = PACKAGE / (name.replace(".", "/") + ".py")
    for node in ast.parse(path.read_text()).body:
        is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        is_all = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        assert is_docstring or is_all or isinstance(node, (ast.Import, ast.ImportFrom)), f"{name}: {ast.unparse(node)}"


def test_map__has_a_line_for_every_room():
    """`ffcv_ssl/README.md` names every folder of the package, and no folder that does not exist."""
    text = (PACKAGE / "README.md").read_text()
    listed = set(re.findall(r"^\| `(\w+)/`", text, re.MULTILINE))
    assert listed == {path.parent.name for path in PACKAGE.glob("*/__init__.py")} - {"interop"}
    assert listed == set(MAY_IMPORT)


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_jit_options__stand_in_one_place(path):
    """No parallel loops, no cache of Numba's own, no unresolved symbols, no generated code."""
    if module_name(path) == "kernels._jit":
        return
    text = path.read_text()
    for word in ("prange", "cache=True", "ExternalFunction", "fastmath"):
        assert word not in text, f"{module_name(path)} holds {word}"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"exec", "eval", "compile", "print"}, f"{module_name(path)} calls {node.func.id}"


def loaded_by(module):
    """Modules that importing `module` loads in a fresh interpreter."""
    program = f"import sys, {module}; print(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split())


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
    """Importing a module loads none of the packages that it does not need at once."""
    assert not loaded_by(module) & absent


def test_modules__stay_small():
    """No module of the package exceeds 300 lines."""
    long = {module_name(path): count for path in FILES if (count := len(path.read_text().splitlines())) > 300}
    assert not long
