"""Every example in a docstring runs, and public docstrings keep their order."""

import doctest
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import coronjax
import coronjax.ops

ROOT = Path(__file__).parents[1]
SECTIONS = ("Args:", "Returns:", "Raises:", "Example:", "Source:")
# What an example may use without importing it, beside what its own module has.
USUAL = {"jax": jax, "jnp": jnp, "np": np, "coronjax": coronjax}
USUAL |= {name: getattr(coronjax.ops, name) for name in coronjax.ops.__all__}
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
MODULES = ["coronjax", *sorted(module.name for module in pkgutil.walk_packages(coronjax.__path__, "coronjax."))]
MODULES = [name for name in MODULES if not name.endswith("__main__")]

# Worked operation by operation, these take seconds each.
SLOW = {
    "chain.reduce",
    "ops.apertures.at_apertures",
    "ops.apertures.correlation_factors",
    "ops.drizzle.drizzle_add",
    "ops.lmdif.follow_lmdif",
    "ops.outliers.flag_outliers",
    "ops.overlap.overlap",
    "ops.predict.predict_star",
    "ops.resample.resample",
    "ops.shift_frame.shift_frame",
    "ops.speckles.speckle_variance",
    "simulate.companions.companion_image",
    "simulate.files.simulate",
}


def short(test: doctest.DocTest) -> str:
    return test.name.removeprefix("coronjax.")


def examples() -> Iterator[doctest.DocTest]:
    """The doctests of every module, each where it is written."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    for name in MODULES:
        module = importlib.import_module(name)
        for test in finder.find(module, name, module=module):
            if test.examples:
                test.globs = {**USUAL, **test.globs}
                yield test


EXAMPLES = [
    pytest.param(test, id=short(test), marks=[pytest.mark.slow] if short(test) in SLOW else []) for test in examples()
]


@pytest.mark.parametrize("test", EXAMPLES)
def test_example_runs(test: doctest.DocTest) -> None:
    """In double precision, as the documentation tells everybody who calls steps to set it."""
    report: list[str] = []
    doctest.DocTestRunner(optionflags=FLAGS, verbose=False).run(test, out=report.append)
    assert not report, "".join(report)


def test_slow_examples_exist() -> None:
    assert {short(test) for test in examples()} >= SLOW


def public() -> list[tuple[str, object]]:
    """Every public name of the package and of its steps, with what it stands for."""
    found = []
    for module in (coronjax, coronjax.ops):
        for name in getattr(module, "__all__", ()):
            item = getattr(module, name)
            if callable(item):
                found.append((f"{module.__name__}.{name}", item))
    return found


def test_everything_public_is_in_the_reference() -> None:
    pages = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs/reference").glob("*.md"))
    listed = set(re.findall(r"^::: (\S+)", pages, re.MULTILINE))
    assert not {name for name, _ in public()} - listed


def headings(text: str) -> list[str]:
    """The sections of a docstring, in their order."""
    return re.findall(rf"^({'|'.join(SECTIONS)})", text, re.MULTILINE)


@pytest.mark.parametrize(("name", "item"), public(), ids=[name for name, _ in public()])
def test_docstring_keeps_the_order(name: str, item: object) -> None:
    text = inspect.getdoc(item) or ""
    lines = text.splitlines()
    assert lines, f"{name} has no docstring"
    assert lines[0].endswith("."), f"{name}: the first line is one sentence"
    assert len(lines) == 1 or not lines[1], f"{name}: the summary fills one line"
    found = headings(text)
    assert found == sorted(found, key=SECTIONS.index), f"{name}: the sections stand as {found}"
    if inspect.isfunction(item):
        signature = inspect.signature(item)
        needed = {"Example:"}
        needed |= {"Args:"} if signature.parameters else set()
        needed |= {"Returns:"} if signature.return_annotation not in (None, "None") else set()
        assert needed <= set(found), f"{name} lacks {sorted(needed - set(found))}"


@pytest.mark.parametrize("name", MODULES)
def test_module_says_what_it_is(name: str) -> None:
    module = importlib.import_module(name)
    empty = module.__file__ is not None and not Path(module.__file__).read_text(encoding="utf-8").strip()
    assert empty or (module.__doc__ or "").strip()
