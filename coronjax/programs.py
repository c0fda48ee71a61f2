"""Compiled programs kept on disk, so that another process neither traces nor compiles them again.

JAX's own cache keeps what the compiler made, yet a process must trace and lower a function to learn which entry it
needs: for the whole chain that takes longer than computing. Here the entry is found from the shapes alone.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from threading import Lock
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.experimental.compilation_cache import compilation_cache
from jaxtyping import Array

from .compiler import compiler_options
from .program_files import (
    Program,
    compile_step,
    fill,
    find_latest,
    give_back_memory,
    keep,
    key,
    path_of,
    read,
)

_folder: ContextVar[Path | None] = ContextVar("folder", default=None)
_writing: ContextVar[list[Future[None]] | None] = ContextVar("writing", default=None)  # what the block is to wait for
_loaded: dict[str, Program] = {}  # by name of the file
_ahead: dict[Path, Future[Program | None]] = {}  # of `load_ahead`
_making = Lock()  # JAX's cache is off for all threads meanwhile


@contextmanager
def programs_kept_in(folder: Path | None) -> Iterator[None]:
    """Keep the programs of each `kept_program` in a folder, for the length of a `with` block.

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
    latest = find_latest(folder)
    if latest is not None:
        _ahead[latest] = _in_thread(read, latest)


class kept_program:
    r"""Compile steps that follow one another, and keep their programs while `programs_kept_in` names a folder.

    $$ r_k = f_k(x, r_1, \dots, r_{k-1}), \qquad k = 1 \dots n $$

    By itself it is one program, as `jax.jit` makes it. What is kept is one program for each step, all in one file:
    while the compiler works at one step, Python traces the next. They are found by the names of the steps, the shapes
    and types of the leaves of $x$, what is static in it, the source of this package, the versions of JAX, its settings,
    and the processor. Calls under a transformation of JAX, and calls on other devices than the first, are plain
    `jax.jit`. Programs that cannot be read are made anew; a folder that cannot be written is left alone.

    Args:
        steps: functions $f_k$ of a pytree and of the results of the steps before, each with a name of its own in its
            module; what they return are pytrees of arrays of numbers. The result of the last, $r_n$, is that of a call.

    Example:
        >>> def square(x):
        ...     return x**2
        >>> def cube(x, squared):
        ...     return x * squared
        >>> float(kept_program(square, cube)(3.0))
        27.0
    """

    def __init__(self, *steps: Callable[..., Any]) -> None:
        self._steps = steps
        self.jitted = jax.jit(functools.partial(_in_turn, steps))

    def __call__(self, given: Any) -> Any:
        """The result of the last step."""
        leaves, structure = jax.tree.flatten(given)
        folder = _folder.get()
        if folder is None or _are_elsewhere(leaves):
            return self.jitted(given).whole()
        path = path_of(folder, key(self._steps, leaves, structure))
        if path.name not in _loaded:
            _loaded[path.name] = _kept(path) or self._make(path, leaves, structure)
            give_back_memory()
        return _loaded[path.name](leaves)

    def _make(self, path: Path, leaves: list[Any], structure: Any) -> Program:
        """Compile, and write the programs."""
        options = compiler_options(jax.default_backend())
        results: list[Any] = []
        begun, taken, arrays = [], [], leaves
        with _making, _jax_cache_off(), ThreadPoolExecutor(len(self._steps)) as pool:
            for step in self._steps:
                traced, result = _traced(step, structure, results, arrays)
                begun.append(pool.submit(compile_step, traced.lower(), options))
                results.append(result)
                taken.append(_taken(traced))
                arrays = [*arrays, *traced.out_info]
            compiled, contents = zip(*(future.result() for future in begun), strict=True)
        made = range(len(leaves), len(arrays))  # what was given is the caller's
        program = Program(compiled, _needless(made, [*taken, set(jax.tree.leaves(results[-1]))]), results[-1])
        writing = _in_thread(keep, path, contents, program)  # it runs in the meantime
        if (waiting := _writing.get()) is not None:
            waiting.append(writing)
        return program


class _Distinct(eqx.Module):
    """A result with every array once: a compiled program would return a copy for each place it stands in."""

    arrays: list[Array]
    numbers: tuple[int, ...] = eqx.field(static=True)  # of the arrays that its leaves are
    form: Any = eqx.field(static=True)

    def whole(self) -> Any:
        """The result."""
        return fill(jax.tree.unflatten(self.form, self.numbers), self.arrays)


def _in_turn(steps: tuple[Callable[..., Any], ...], given: Any) -> _Distinct:
    # What a caller's function closes over is constant: without this the compiler works out steps of it, slowly.
    # Leaf by leaf, so that what is not differentiated has no tangent.
    given = jax.tree.map(jax.lax.optimization_barrier, given)
    results: list[Any] = []
    for step in steps:
        results.append(_strong(step(given, *results)))
    return _Distinct(*_numbered(results[-1]))


def _numbered(result: Any, there: Iterable[Any] = ()) -> tuple[list[Any], tuple[int, ...], Any]:
    """The arrays of a result that are not there already, the numbers of all its leaves, those first, and its form."""
    leaves, form = jax.tree.flatten(result)
    places = {id(array): number for number, array in enumerate(there)}
    known = len(places)
    numbers = tuple(places.setdefault(id(leaf), len(places)) for leaf in leaves)
    found = dict(zip(numbers, leaves, strict=True))
    return [found[number] for number in range(known, len(places))], numbers, form


def _traced(step: Callable[..., Any], structure: Any, earlier: list[Any], arrays: list[Any]) -> tuple[Any, Any]:
    """A step, traced as a function of all arrays there are; its result, in which numbers stand for arrays.

    An array that is there already, or that stands in several places of the result, is neither computed nor kept again.
    """
    results: list[Any] = []

    def flat(*arrays: Any) -> list[Any]:
        given = jax.tree.unflatten(structure, arrays[: structure.num_leaves])
        result = _strong(step(given, *(fill(result, arrays) for result in earlier)))
        new, numbers, form = _numbered(result, arrays)
        results.append(jax.tree.unflatten(form, numbers))
        return new

    return jax.jit(flat).trace(*arrays), results[-1]


def _taken(traced: Any) -> set[int]:
    """Numbers of the arrays that a step takes, some of them perhaps in vain."""
    program = traced.jaxpr.jaxpr
    names = {id(name) for one in program.eqns for name in one.invars} | {id(name) for name in program.outvars}
    return {number for number, name in enumerate(program.invars) if id(name) in names}


def _needless(made: Iterable[int], taken: list[set[int]]) -> list[list[int]]:
    """Numbers of the arrays that each step is the last to take; the last of `taken` are those of the result."""
    last = {number: step for step, own in enumerate(taken) for number in own}
    return [[number for number in made if last.get(number) == step] for step in range(len(taken) - 1)]


def _strong(result: Any) -> Any:
    """Without weak types, so that several programs are what one of all steps is."""

    def strong(leaf: Any) -> Any:
        return jax.lax.convert_element_type(leaf, jnp.result_type(leaf)) if jax.typeof(leaf).weak_type else leaf

    return jax.tree.map(strong, result)


@contextmanager
def _jax_cache_off() -> Iterator[None]:
    """What comes out of JAX's cache cannot be kept a second time."""
    before = jax.config.values["jax_enable_compilation_cache"]
    try:
        jax.config.update("jax_enable_compilation_cache", False)
        compilation_cache.reset_cache()  # it is asked once whether it is on
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", before)
        compilation_cache.reset_cache()


def _are_elsewhere(leaves: list[Any]) -> bool:
    """Whether any leaf is part of a larger program, or not on the first device, for which programs are kept."""
    first, default = jax.devices()[0], jax.config.values["jax_default_device"]  # set by jax.default_device too
    if default not in (None, first, first.platform) or not jax.sharding.get_abstract_mesh().empty:
        return True

    def elsewhere(leaf: Any) -> bool:
        return isinstance(leaf, jax.core.Tracer) or (isinstance(leaf, jax.Array) and leaf.devices() != {first})

    return any(map(elsewhere, leaves))


def _kept(path: Path) -> Program | None:
    """The program in a file, begun ahead or not; None where there is none that can be used."""
    begun = _ahead.pop(path, None)
    _ahead.clear()  # the guess was wrong: what it takes is given back
    program = read(path) if begun is None else begun.result()
    if program is not None:
        with suppress(OSError):  # the folder may be another's, or another process may have made room
            os.utime(path)
    return program


def _in_thread(work: Callable[..., Any], *arguments: Any) -> Future[Any]:
    thread = ThreadPoolExecutor(1)
    future = thread.submit(work, *arguments)
    thread.shutdown(wait=False)
    return future
