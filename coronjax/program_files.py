"""Files of compiled programs: what they hold, how they are named, read and written."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import pickle
import platform
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import serialize_executable
from jax.stages import Compiled, Lowered

from .compiler import other_flags

logger = logging.getLogger("coronjax")

KEPT = 32  # files in the folder; those used longest ago go first
_SUFFIX = ".program"


@dataclass(frozen=True)
class Program:
    """Compiled steps that follow one another: each is called with all arrays that there are, and makes more of them."""

    steps: Sequence[Compiled]
    needless: Sequence[Sequence[int]]  # numbers of the arrays that each step is the last to take
    result: Any  # of the last; in place of its arrays are their numbers, those of the arguments come first

    def __call__(self, leaves: Sequence[Any]) -> Any:
        """The result of the last step."""
        arrays = list(leaves)
        for step, needless in zip(self.steps, self.needless, strict=True):
            arrays += step(*arrays)
            for number in needless:  # its memory is given back; what stands for it has none
                arrays[number] = np.broadcast_to(np.zeros((), arrays[number].dtype), arrays[number].shape)
        return jax.tree.map(jnp.asarray, fill(self.result, arrays))  # numpy's may be among the arguments


def fill(result: Any, arrays: Sequence[Any]) -> Any:
    """Put arrays in the place of their numbers.

    Args:
        result: pytree of numbers.
        arrays: that these count.

    Returns:
        The pytree of arrays.

    Example:
        >>> fill({"second": 1}, ["a", "b"])
        {'second': 'b'}
    """
    return jax.tree.map(lambda number: arrays[number], result)


def compile_step(lowered: Lowered, options: dict[str, str | bool]) -> tuple[Compiled, Any]:
    """Compile one step, and serialise it before it runs: what sorts cannot be afterwards.

    Args:
        lowered: the step.
        options: of the compiler.

    Returns:
        The compiled step and what `keep` writes of it, None where it cannot be kept.
    """
    compiled = lowered.compile(options)
    try:
        return compiled, serialize_executable.serialize(compiled)
    except Exception as error:  # keeping is no part of the work: whatever serialising raises, the step can run
        logger.info("the compiled program is not kept: %s", error)
        return compiled, None


def path_of(folder: Path, name: str) -> Path:
    """Where a program is kept.

    Args:
        folder: of all programs.
        name: that `key` gives.

    Returns:
        The path, whose name begins with what all programs of a process depend on.

    Example:
        >>> path_of(Path("cache"), "0123").name.endswith("-0123.program")
        True
    """
    return folder / f"{_setting()}-{name}{_SUFFIX}"


def key(steps: Sequence[Callable[..., Any]], leaves: Sequence[Any], structure: Any) -> str:
    """Digest of what a program depends on, besides what all of a process do.

    Args:
        steps: functions that are compiled.
        leaves: arrays and numbers that they are called with; their values do not count.
        structure: of the pytree of these.

    Returns:
        The digest, in hexadecimal digits.

    Example:
        >>> structure = jax.tree.structure(0)
        >>> key([abs], [np.zeros(3)], structure) == key([abs], [np.ones(3)], structure)
        True
    """
    settings = jnp.result_type(float).name, sorted(map(str, jax.config.values.items()))
    names = [f"{step.__module__}.{step.__qualname__}" for step in steps]
    return _digest(names, str(structure), [_kind(leaf) for leaf in leaves], settings)


def find_latest(folder: Path) -> Path | None:
    """The program used last of those that this process could run.

    Args:
        folder: of all programs.

    Returns:
        Its path; None where there is none.

    Example:
        >>> find_latest(Path("no such folder")) is None
        True
    """
    return next(iter(_used_last_first(folder, f"{_setting()}-*")), None)


def read(path: Path) -> Program | None:
    """Link the program in a file.

    Args:
        path: of the file.

    Returns:
        The program; None where there is no file, or one that cannot be used.

    Example:
        >>> read(Path("no such file")) is None
        True
    """
    try:
        content = path.read_bytes()
    except OSError:
        return None
    _register_lapack()
    try:
        steps, *rest = pickle.loads(content)
        return Program([serialize_executable.deserialize_and_load(*step) for step in steps], *rest)
    except Exception as error:  # a damaged pickle may raise anything; the program is made again
        logger.info("%s cannot be used and is made again: %s", path, error)
        return None


def keep(path: Path, steps: Sequence[Any], program: Program) -> None:
    """Write a program, or say why not: it has been compiled and can run.

    Args:
        path: of the file; its folder is made where it is missing.
        steps: of the program, from `compile_step`.
        program: what belongs to the steps.
    """
    if any(step is None for step in steps):
        return
    try:
        _write(path, pickle.dumps((steps, program.needless, program.result)))
    except Exception as error:  # in a thread nobody asks: what is not told here is never told
        logger.info("the compiled program is not kept: %s", error)


def give_back_memory() -> None:
    """Reading files and linking a program take a hundred megabytes for a moment; glibc keeps them unless asked."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def _setting() -> str:
    """Digest of what all programs of a process depend on; one that another setting made may not even link."""
    device = jax.devices()[0]
    versions = jax.__version__, jax.lib.__version__, device.platform, device.device_kind, other_flags()
    return _digest(_sources(), _processor(), *versions)


def _digest(*described: Any) -> str:
    return hashlib.sha256(repr(described).encode()).hexdigest()[:32]


def _kind(leaf: Any) -> tuple[str, ...]:
    """What a program depends on of an argument: everything but its values."""
    if isinstance(leaf, (bool, int, float, complex)):
        return (type(leaf).__name__,)
    return str(leaf.shape), leaf.dtype.name, str(getattr(leaf, "weak_type", False))


@functools.cache
def _sources() -> str:
    """Digest of every file of this package: a program made from other source is another program."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


@functools.cache
def _processor() -> str:
    """Machine code made for one processor may not run on another that shares the folder."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return " ".join(platform.uname())
    return " ".join(sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))}))


@functools.cache
def _register_lapack() -> None:
    """XLA finds LAPACK once a decomposition has been lowered in this process; a program that was read lowers none."""
    jax.jit(jax.lax.linalg.cholesky).lower(np.eye(2, dtype=np.float32))


def _write(path: Path, content: bytes) -> None:
    """Write whole or not at all, and make room."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".part")
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    os.replace(name, path)
    for other in _used_last_first(path.parent)[KEPT:]:
        other.unlink(missing_ok=True)


def _used_last_first(folder: Path, name: str = "*") -> list[Path]:
    """The programs of a folder; those that another process takes away meanwhile count as old."""

    def used(path: Path) -> float:
        try:
            return path.stat().st_mtime
        except OSError:
            return 0.0

    return sorted(folder.glob(f"{name}{_SUFFIX}"), key=used, reverse=True)
