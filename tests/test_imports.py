"""The direction of imports inside the package, and what a bare `import coronjax` may load."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "coronjax"
FILES = sorted(PACKAGE.rglob("*.py"))

# What a part of the package may import beside itself; a part without a row is on top and may import all but `cli`.
MAY_IMPORT = {
    "cube": set(),
    "errors": set(),
    "options": {"cube", "errors"},
    "ops": {"cube", "options", "errors"},
    "io": {"cube", "errors"},
    "compiler": set(),
    "fits_settings": set(),
    "garbage": set(),
    "program_files": {"compiler"},
    "programs": {"compiler", "program_files"},
    "session": {"programs"},
    "reduction": {"cube", "ops"},
    "frames": {"cube", "options", "ops"},
    "alignment": {"cube", "options", "ops", "frames"},
    "star_removal": {"cube", "options", "ops", "frames", "alignment", "reduction"},
    "chain": {"cube", "options", "errors", "ops", "frames", "alignment", "star_removal", "reduction", "programs"},
    "inputs": {"advice", "cube", "options", "ops", "io", "star"},
    "result": {"cube", "options", "errors", "ops", "reduction", "io", "inputs"},  # the last for its types alone
    "pipeline": {"options", "chain", "inputs", "io", "programs", "reduction", "session", "result", "tally"},
    "library": {"ops", "options"},
    "workers": {"errors", "fits_settings", "garbage"},
    "associations": {"errors", "io", "options", "pipeline", "workers"},
    "tally": {"cube", "io", "options", "inputs", "reduction"},  # all but the first for their types alone
    "advice": {"options"},
    "inspection": {"options", "errors", "io", "advice"},
    "report": {"associations", "cube", "options", "result", "pipeline", "inspection", "demo"},
    "commands": {"associations", "fits_settings", "options", "pipeline", "report", "inspection", "simulate", "demo"},
    "demo": {"cube", "pipeline", "result", "session", "analysis", "simulate"},
    "star": {"errors", "options", "io", "simulate"},
    "simulate": {"cube", "errors", "io"},
    "forward": {"cube", "options", "errors", "ops", "chain", "reduction"},
    "analysis": {"cube", "options", "errors", "ops", "chain", "reduction"},
}
# Device code takes arrays and gives arrays.
OPS_THIRD_PARTY = {"jax", "equinox", "optax", "jaxtyping", "numpy"}
LAZY = ("astropy", "gwcs", "asdf", "matplotlib", "rich", "tyro", "distributed", "dask")


def part_of(path: Path) -> str:
    """The part of the package a file belongs to: its first folder, or its own name."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    """Every module a file imports, at any depth, with its line: absolute dotted names."""
    package = ("coronjax", *path.relative_to(PACKAGE).parent.parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def inner(name: str) -> str | None:
    """The part of the package that a dotted name lies in; None for other packages and public names of the top."""
    words = name.split(".")
    if words[0] != "coronjax" or len(words) == 1:
        return None
    return words[1] if (PACKAGE / words[1]).is_dir() or (PACKAGE / f"{words[1]}.py").exists() else "__init__"


def arrows_back(path: Path) -> list[str]:
    """The imports of a file that its part of the package may not make."""
    part, bad = part_of(path), []
    allowed = MAY_IMPORT.get(part)
    for line, name in imports_of(path):
        target = inner(name)
        if target is None or target == part:
            continue
        if target == "cli" or (allowed is not None and target not in allowed):
            bad.append(f"{path.relative_to(ROOT)}:{line} imports {name}")
    return bad


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_arrow_points_back(path: Path) -> None:
    if part_of(path) == "__main__":
        return
    assert not arrows_back(path)


@pytest.mark.parametrize("path", sorted((PACKAGE / "ops").glob("*.py")), ids=lambda path: path.name)
def test_ops_are_device_code(path: Path) -> None:
    outside = {
        name.split(".")[0] for _, name in imports_of(path) if name.split(".")[0] not in sys.stdlib_module_names
    } - {"coronjax"}
    assert outside <= OPS_THIRD_PARTY
    assert not {name.split(".")[0] for _, name in imports_of(path)} & {"logging", "warnings", "pathlib", "os", "io"}


def test_an_arrow_that_points_back_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("ops", "io"):
        (tmp_path / folder).mkdir()
    (tmp_path / "cli.py").touch()
    for name, text in (
        ("ops/a.py", "from ..io import b\nfrom ..cube import Cube\n"),
        ("io/b.py", "def f():\n    import coronjax.options\n"),
        ("run.py", "from . import cli\n"),
    ):
        (tmp_path / name).write_text(text)
    (tmp_path / "options.py").touch()
    (tmp_path / "cube.py").touch()
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    assert arrows_back(tmp_path / "ops/a.py") == ["ops/a.py:1 imports coronjax.io.b"]
    assert arrows_back(tmp_path / "io/b.py") == ["io/b.py:2 imports coronjax.options"]
    assert arrows_back(tmp_path / "run.py") == ["run.py:1 imports coronjax.cli"]


def test_import_is_light() -> None:
    code = f"import sys, coronjax; print([name for name in {LAZY} if name in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
