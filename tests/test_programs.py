"""Compiled programs on disk: found again, made again where they are damaged, and left alone under transformations."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coronjax import compiler, program_files, programs

PROCESS = """
import sys, pathlib, jax.numpy as jnp
from coronjax.programs import kept_program, programs_kept_in

traced = []

def decompose(given):
    traced.append("decompose")
    return jnp.linalg.eigh(given["matrix"])

def compose(given, found):
    traced.append("compose")
    values, vectors = found
    return {"values": values, "again": vectors @ (values[:, None] * vectors.T), "nothing": None}

with programs_kept_in(pathlib.Path(sys.argv[1])):
    found = kept_program(decompose, compose)({"matrix": jnp.diag(jnp.arange(1.0, 5.0))})
print(len(traced), sorted(found), found["values"].tolist(), round(float(found["again"].trace()), 4))
"""


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "_loaded", {})
    monkeypatch.setattr(programs, "_ahead", {})


class Multiple(eqx.Module):
    number: jax.Array
    times: int = eqx.field(static=True, default=2)


def multiplication() -> tuple[Callable[..., jax.Array], list[int]]:
    traced: list[int] = []

    def multiply(given: Multiple) -> jax.Array:
        traced.append(given.times)
        return given.times * given.number

    program = programs.kept_program(multiply)
    return lambda number, **times: program(Multiple(number, **times)), traced


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.program"))


def test_another_process_neither_traces_nor_compiles(tmp_path: Path) -> None:
    # A decomposition: LAPACK must be there for a program that nobody lowered in this process.
    said = [
        subprocess.run(
            [sys.executable, "-c", PROCESS, str(tmp_path)], capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    ]
    assert said[0] == "2 ['again', 'nothing', 'values'] [1.0, 2.0, 3.0, 4.0] 10.0\n"
    assert said[1] == said[0].replace("2", "0", 1)
    assert len(files(tmp_path)) == 1


def test_values_share_a_program_and_shapes_do_not(tmp_path: Path, fresh: None) -> None:
    multiply, traced = multiplication()
    with programs.programs_kept_in(tmp_path):
        for x in (jnp.ones(3), 4 * jnp.ones(3), jnp.ones(5)):
            assert jnp.all(multiply(x) == 2 * x)
        assert jnp.all(multiply(jnp.ones(3), times=3) == 3)
    assert traced == [2, 2, 3]
    assert len(files(tmp_path)) == 3


def squared(x: np.ndarray) -> dict[str, jax.Array]:
    square = x**2
    return {"square": square, "given": x, "again": square, "number": 0.5 * jnp.asarray(2.0)}


def collected(x: np.ndarray, first: dict[str, jax.Array]) -> dict[str, Any]:
    return {"total": jnp.sort(first["square"]).sum() + x[0], "scaled": first["number"] * x, "nothing": None, **first}


def test_steps_are_what_one_program_of_them_is(tmp_path: Path, fresh: None) -> None:
    """Types too. An array that stands in two places is the same array, and one that was given is JAX's as well."""
    steps, x = programs.kept_program(squared, collected), np.arange(3.0, dtype=np.float32)
    expected = steps(x)
    with programs.programs_kept_in(tmp_path):
        found = steps(x)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        assert isinstance(a, jax.Array)
        assert (a.dtype, a.weak_type, a.tolist()) == (b.dtype, b.weak_type, b.tolist())
    assert all(result["square"] is result["again"] for result in (found, expected))


def summed(x: np.ndarray, first: dict[str, jax.Array], second: dict[str, jax.Array]) -> jax.Array:
    return second["total"] + second["scaled"].sum()


def test_memory_that_no_step_needs_any_more_is_given_back(
    tmp_path: Path, fresh: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, x = programs.kept_program(squared, collected, summed), np.arange(3.0, dtype=np.float32)
    there: list[list[tuple[int, ...]]] = []

    def call() -> float:
        with programs.programs_kept_in(tmp_path):
            steps(x)
        (name,) = programs._loaded
        program = programs._loaded[name]

        def seen(*arrays: Any) -> Any:
            there.append([array.shape for array in arrays if isinstance(array, jax.Array)])
            return program.steps[-1](*arrays)

        programs._loaded[name] = replace(program, steps=[*program.steps[:-1], seen])
        with programs.programs_kept_in(tmp_path):
            return float(steps(x))

    made = call()
    monkeypatch.setattr(programs, "_loaded", {})
    assert call() == made == steps(x)
    assert there == [[(3,), ()]] * 2  # the total and what was scaled; neither squares nor the number


def test_what_has_run_already_is_kept(tmp_path: Path, fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """XLA cannot serialise a program that sorts once it has run, and writing may be late."""
    has_run = threading.Event()

    def late(*arguments: Any) -> None:
        has_run.wait(60)
        program_files.keep(*arguments)

    monkeypatch.setattr(programs, "keep", late)
    with programs.programs_kept_in(tmp_path):
        jax.block_until_ready(programs.kept_program(squared, collected)(jnp.arange(3.0)))
        has_run.set()
    assert len(files(tmp_path)) == 1


def failing(x: jax.Array, first: dict[str, jax.Array]) -> jax.Array:
    raise ArithmeticError("no such step")


def test_a_step_that_fails_leaves_nothing_behind(tmp_path: Path, fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    caching = jax.config.jax_enable_compilation_cache
    with programs.programs_kept_in(tmp_path):
        with pytest.raises(ArithmeticError, match="no such step"):
            programs.kept_program(squared, failing)(jnp.ones(3))
        monkeypatch.setattr(programs, "compiler_options", lambda _: {"xla_no_such_option": True})
        with pytest.raises(Exception, match="xla_no_such_option"):
            programs.kept_program(squared, collected)(jnp.ones(3))
    assert jax.config.jax_enable_compilation_cache == caching
    assert not files(tmp_path)


def test_a_damaged_program_is_made_again(tmp_path: Path, fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    multiply, traced = multiplication()
    with programs.programs_kept_in(tmp_path):
        multiply(jnp.ones(3))
    whole = files(tmp_path)[0].read_bytes()
    for content in (b"", b"no program", whole[: len(whole) // 2]):
        files(tmp_path)[0].write_bytes(content)
        monkeypatch.setattr(programs, "_loaded", {})
        with programs.programs_kept_in(tmp_path):
            assert jnp.all(multiply(jnp.ones(3)) == 2)
    assert traced == [2, 2, 2, 2]
    assert files(tmp_path)[0].stat().st_size > len(whole) // 2


def test_the_one_used_last_is_linked_ahead(tmp_path: Path, fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    multiply, traced = multiplication()
    with programs.programs_kept_in(tmp_path):
        multiply(jnp.ones(3))
        multiply(jnp.ones(4))
    first, last = sorted(files(tmp_path), key=lambda path: path.stat().st_mtime)
    os.utime(first, (0, 0))
    (tmp_path / f"other-{last.name}").write_bytes(b"of another processor, and newer")
    monkeypatch.setattr(programs, "_loaded", {})
    read = []
    monkeypatch.setattr(programs, "read", lambda path: read.append(path) or program_files.read(path))
    programs.load_ahead(tmp_path)
    with programs.programs_kept_in(tmp_path):
        assert multiply(jnp.ones(4)).tolist() == [2.0] * 4
        assert multiply(jnp.ones(3)).tolist() == [2.0] * 3
    assert read == [last, first]
    assert traced == [2, 2]


def test_a_folder_of_somebody_else_serves_too(tmp_path: Path, fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    multiply, traced = multiplication()
    with programs.programs_kept_in(tmp_path):
        multiply(jnp.ones(3))

    def forbidden(*_: object) -> None:
        raise PermissionError("not the owner")

    monkeypatch.setattr(os, "utime", forbidden)
    for ahead in (False, True):
        monkeypatch.setattr(programs, "_loaded", {})
        if ahead:
            programs.load_ahead(tmp_path)
        with programs.programs_kept_in(tmp_path):
            assert multiply(jnp.ones(3)).tolist() == [2.0] * 3
    assert traced == [2]


def test_what_cannot_be_written_has_run(tmp_path: Path, fresh: None, caplog: pytest.LogCaptureFixture) -> None:
    @jax.tree_util.register_pytree_node_class
    class Local:  # pickle finds no class inside a function
        def __init__(self, value: jax.Array) -> None:
            self.value = value

        def tree_flatten(self) -> tuple:
            return (self.value,), None

        @classmethod
        def tree_unflatten(cls, _: None, leaves: tuple) -> "Local":
            return cls(*leaves)

    wrapped = programs.kept_program(lambda x: Local(2 * x))
    with caplog.at_level("INFO", "coronjax"), programs.programs_kept_in(tmp_path):
        assert wrapped(jnp.ones(3)).value.tolist() == [2.0] * 3
    assert "the compiled program is not kept" in caplog.text
    assert not files(tmp_path)


def test_programs_that_vanish_are_no_error(tmp_path: Path, fresh: None) -> None:
    programs.load_ahead(tmp_path / "nowhere")
    (tmp_path / "gone.program").symlink_to(tmp_path / "nothing")
    multiply, _ = multiplication()
    with programs.programs_kept_in(tmp_path):
        assert multiply(jnp.ones(3)).tolist() == [2.0] * 3
    assert len(files(tmp_path)) == 2


def test_nothing_is_kept_unasked_or_under_a_transformation(tmp_path: Path, fresh: None) -> None:
    multiply, _ = multiplication()
    multiply(jnp.ones(3))
    with programs.programs_kept_in(tmp_path):
        assert jax.grad(lambda x: multiply(x).sum())(jnp.ones(3)).tolist() == [2.0, 2.0, 2.0]
        assert jax.vmap(multiply)(jnp.ones((2, 3))).shape == (2, 3)
    assert not files(tmp_path)


def test_a_folder_that_cannot_be_written_is_left_alone(tmp_path: Path, fresh: None) -> None:
    (tmp_path / "file").touch()
    multiply, _ = multiplication()
    with programs.programs_kept_in(tmp_path / "file" / "folder"):
        assert jnp.all(multiply(jnp.ones(3)) == 2)


def test_those_used_longest_ago_go_first(tmp_path: Path, fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program_files, "KEPT", 2)
    multiply, _ = multiplication()
    with programs.programs_kept_in(tmp_path):
        multiply(jnp.ones(1))
    (first,) = files(tmp_path)  # it is there once the block has ended
    os.utime(first, (0, 0))
    with programs.programs_kept_in(tmp_path):
        multiply(jnp.ones(2))
        multiply(jnp.ones(3))
    assert len(files(tmp_path)) == 2
    assert first not in files(tmp_path)


def test_the_compiler_is_chosen_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a process or for one program, it is the same program; the user's choice stands."""
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=there")
    options, flags = compiler.compiler_options("cpu"), compiler.other_flags()
    compiler.set_compiler_flag()
    assert compiler.other_flags() == flags == "--xla_dump_to=there"
    compiler.set_compiler_flag()
    assert (len(os.environ["XLA_FLAGS"].split()) == 2) == bool(options)
    assert compiler.compiler_options("cpu") == options  # for the process it may have come too late
    assert not compiler.compiler_options("gpu")
    monkeypatch.setenv("XLA_FLAGS", "flags.txt")  # a file with flags, to whose name none can be added
    compiler.set_compiler_flag()
    assert os.environ["XLA_FLAGS"] == "flags.txt"
    for option in {"xla_cpu_use_fusion_emitters", *options}:
        monkeypatch.setenv("XLA_FLAGS", f"--{option}=true")
        compiler.set_compiler_flag()
        assert (os.environ["XLA_FLAGS"] == f"--{option}=true") == ("emitters" in option)
        assert compiler.compiler_options("cpu").keys() == options.keys() - {option}
