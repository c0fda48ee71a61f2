"""Compiled programs kept on disk, so that another process neither traces nor compiles them again.

JAX's own cache keeps what the compiler made, yet a process must trace and lower a function to learn which entry it
needs: for the whole chain that takes longer than computing. Here the entry is found from the shapes alone.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import inspect
import logging
import os
import pickle
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import serialize_executable
from jax.experimental.compilation_cache import compilation_cache

from .compiler import compiler_options, other_flags

logger = logging.getLogger("coronjax")

KEPT = 32  # programs in the folder; those used longest ago go first
_SUFFIX = ".program"
_folder: ContextVar[Path | None] = ContextVar("folder", default=None)
_writing: ContextVar[list[Future[None]] | None] = ContextVar("writing", default=None)  # what the block is to wait for
_loaded: dict[str, Callable[..., Any]] = {}  # by name of the file
_ahead: dict[Path, Future[Callable[..., Any] | None]] = {}  # of `load_ahead`


@contextmanager
def programs_kept_in(folder: Path | None) -> Iterator[None]:
    """Keep the programs of functions marked by `kept_program` in a folder, for the length of a `with` block.

    Args:
        folder: made where it is missing; None keeps nothing. What is kept is in it when the block ends.

    Example:
        >>> with programs_kept_in(None):
        ...     pass
    """
    begun: list[Future[None]] = []
    tokens = _folder.set(folder), _writing.set(begun)
    try:
        yield
    finally:
        _folder.reset(tokens[0])
        _writing.reset(tokens[1])
        wait(begun)


def load_ahead(folder: Path | None) -> None:
    """Begin to link the program used last, in a thread of its own: most often it is the one that will be asked for.

    Linking takes a third of a second, in which files can be read. Nothing is done where this process has a program
    already, or where none in the folder was made by these versions on this processor.

    Args:
        folder: that of `programs_kept_in`; None: nothing is kept.

    Example:
        >>> load_ahead(None)
    """
    if folder is None or _loaded or _ahead:
        return
    for newest in _used_last_first(folder, f"{_setting()}-*")[:1]:
        _ahead[newest] = _in_thread(_read, newest)


class kept_program:
    """Compile a function as `jax.jit` does, and keep its programs while `programs_kept_in` names a folder.

    A program is found by the shapes and types of the arguments, the values of the static ones, the source of this
    package, the versions of JAX, its settings, and the processor. Calls under a transformation of JAX, and calls with
    arrays on several devices, are plain `jax.jit`. A program that cannot be read is made anew; a folder that cannot be
    written is left alone.

    Args:
        function: of pytrees; keyword arguments are static.

    Example:
        >>> @kept_program
        ... def power(x, *, exponent):
        ...     return x**exponent
        >>> float(power(3.0, exponent=2))
        9.0
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        parameters = inspect.signature(function).parameters.values()
        names = tuple(p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY)
        self.jitted = jax.jit(function, static_argnames=names)

    def __call__(self, *arguments: Any, **static: Any) -> Any:
        """The function's result."""
        leaves, structure = jax.tree.flatten(arguments)
        folder = _folder.get()
        if folder is None or any(_is_of_many(leaf) for leaf in leaves):
            return self.jitted(*arguments, **static)
        path = folder / f"{_setting()}-{_key(self._function, leaves, structure, static)}{_SUFFIX}"
        if path.name not in _loaded:
            _loaded[path.name] = _kept(path) or self._make(path, leaves, structure, static)
        return _loaded[path.name](*leaves)

    def _make(self, path: Path, leaves: list[Any], structure: Any, static: dict[str, Any]) -> Callable[..., Any]:
        """Compile, and write the program."""
        results: list[Any] = []

        def flat(*leaves: Any) -> list[Any]:
            result, form = jax.tree.flatten(self._function(*jax.tree.unflatten(structure, leaves), **static))
            places: dict[int, int] = {}  # one array that stands in several places is computed, and kept, once
            numbers = [places.setdefault(id(leaf), len(places)) for leaf in result]
            results.append(jax.tree.unflatten(form, numbers))
            return list({id(leaf): leaf for leaf in result}.values())

        with _jax_cache_off():  # what comes out of it cannot be kept a second time
            compiled = jax.jit(flat).lower(*leaves).compile(compiler_options(jax.default_backend()))
        result = results[-1]
        _give_back_memory()
        writing = _in_thread(_keep, path, compiled, result)  # it runs in the meantime
        if (begun := _writing.get()) is not None:
            begun.append(writing)
        return lambda *leaves: _filled(result, compiled(*leaves))


@contextmanager
def _jax_cache_off() -> Iterator[None]:
    before = jax.config.values["jax_enable_compilation_cache"]
    try:
        jax.config.update("jax_enable_compilation_cache", False)
        compilation_cache.reset_cache()  # it is asked once whether it is on
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", before)
        compilation_cache.reset_cache()


def _setting() -> str:
    """Digest of what all programs of a process depend on; one that another setting made may not even link."""
    device = jax.devices()[0]
    versions = jax.__version__, jax.lib.__version__, device.platform, device.device_kind, other_flags()
    return _digest(_sources(), _processor(), *versions)


def _key(function: Callable[..., Any], leaves: list[Any], structure: Any, static: dict[str, Any]) -> str:
    """Digest of what a program depends on besides."""
    settings = jnp.result_type(float).name, sorted(map(str, jax.config.values.items()))
    name = f"{function.__module__}.{function.__qualname__}"
    return _digest(name, str(structure), [_kind(leaf) for leaf in leaves], sorted(static.items()), settings)


def _digest(*described: Any) -> str:
    return hashlib.sha256(repr(described).encode()).hexdigest()[:32]


def _is_of_many(leaf: Any) -> bool:
    """Whether a leaf is part of a larger program, or lies on several devices."""
    return isinstance(leaf, jax.core.Tracer) or (isinstance(leaf, jax.Array) and len(leaf.sharding.device_set) > 1)


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


def _kept(path: Path) -> Callable[..., Any] | None:
    """The program in a file, begun ahead or not; None where there is none that can be used."""
    begun = _ahead.pop(path, None)
    _ahead.clear()  # the guess was wrong: what it takes is given back
    program = _read(path) if begun is None else begun.result()
    if program is not None:
        with suppress(OSError):  # the folder may be another's, or another process may have made room
            os.utime(path)
    return program


def _read(path: Path) -> Callable[..., Any] | None:
    """Link the program in a file."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    _register_lapack()
    try:
        program, ins, outs, result = pickle.loads(content)
        loaded = serialize_executable.deserialize_and_load(program, ins, outs)
    except Exception as error:  # whatever a damaged file makes of the reader
        logger.info("%s cannot be used and is made again: %s", path, error)
        return None
    _give_back_memory()
    return lambda *leaves: _filled(result, loaded(*leaves))


def _filled(result: Any, arrays: list[Any]) -> Any:
    """The result of a function with arrays in place of their numbers."""
    return jax.tree.map(lambda number: arrays[number], result)


def _give_back_memory() -> None:
    """Linking a program takes a hundred megabytes for a moment, which glibc keeps unless it is asked for them."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


@functools.cache
def _register_lapack() -> None:
    """XLA finds LAPACK once a decomposition has been lowered in this process; a program that was read lowers none."""
    jax.jit(jax.lax.linalg.cholesky).lower(np.eye(2, dtype=np.float32))


def _in_thread(work: Callable[..., Any], *arguments: Any) -> Future[Any]:
    thread = ThreadPoolExecutor(1)
    future = thread.submit(work, *arguments)
    thread.shutdown(wait=False)
    return future


def _keep(path: Path, compiled: Any, result: Any) -> None:
    """Write a program, or say why not."""
    try:
        _write(path, pickle.dumps((*serialize_executable.serialize(compiled), result)))
    except Exception as error:  # whatever the compiler or pickle make of it: the program has run
        logger.info("the compiled program is not kept: %s", error)


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
