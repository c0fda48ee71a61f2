"""Stacks that lie on several devices: images are divided by pixels, stacks by planes; each device has its own part.

That there are several is read from the types of the arrays, which know their mesh but, where the compiler decides, not
how they are divided. Each piece of work is therefore divided as suits it, over all devices of the mesh; the compiler
moves each part to where it is worked on, once. Inside a `jax.shard_map` nothing is divided further.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool

from ._batches import default_batch, in_batches, in_turn, lengthened


class Part(eqx.Module):
    """What a device has to know of the others that share the pixels of an image."""

    real: Bool[Array, "y x"] | None  # pixels of the part that are no padding; None: all
    names: tuple[str, ...] = eqx.field(static=True, default=())  # axes of the mesh; none on one device

    def add(self, value: Any) -> Any:
        """Add up over all parts."""
        return jax.lax.psum(value, self.names) if self.names else value

    def largest(self, value: Array) -> Array:
        """The largest over all parts; carries no derivative."""
        value = jax.lax.stop_gradient(value)
        return jax.lax.pmax(value, self.names) if self.names else value


class _Division(NamedTuple):
    """Which axes of the mesh divide the rows of an image and which its columns, and the rows that are missing."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    spare: int

    def of(self, n_axes: int) -> PartitionSpec:
        """For arrays `[... y x]`."""
        return PartitionSpec(*(None,) * (n_axes - 2), self.rows or None, self.columns or None)


def by_pixels(work: Callable[[Any, Any, Part], tuple[Any, Any]], images: Any, shared: Any = None) -> tuple[Any, Any]:
    """Work on the pixels of images wherever they lie.

    Args:
        work: is called with the images, or a part of their pixels, with `shared`, and with what it has to know of the
            other parts; returns images `[... y x]` and anything else, which is the same for all parts.
        images: pytree of arrays `[... y x]`.
        shared: pytree of what every part needs whole. Where the program says how arrays are divided, JAX takes none of
            them from the surroundings of `work`.

    Returns:
        What `work` returns.
    """
    images = jax.tree.map(jnp.asarray, images)  # of numpy's, JAX may not keep the precision
    mesh = _mesh_of(images)
    if mesh is None:
        return work(images, shared, Part(None))
    return _divided(work, images, shared, mesh)


def _divided(work: Callable[[Any, Any, Part], tuple[Any, Any]], images: Any, shared: Any, mesh: Any) -> tuple[Any, Any]:
    """As `by_pixels`, on the devices of a mesh."""
    ny, nx = jax.tree.leaves(images)[0].shape[-2:]
    division = _divide(ny, nx, mesh)

    def padded(image: Array) -> Array:
        return jnp.pad(image, (*((0, 0),) * (image.ndim - 2), (0, division.spare), (0, 0))) if division.spare else image

    def specs(tree: Any) -> Any:
        return jax.tree.map(lambda image: division.of(len(image.shape)), tree)

    own = jax.tree.map(padded, (images, jnp.ones((ny, nx), bool) if division.spare else None))
    bare = jax.tree.map(lambda a: jax.ShapeDtypeStruct(jnp.shape(a), jnp.result_type(a)), (*own, shared))

    def part_of(names: tuple[str, ...]) -> Callable[..., tuple[Any, Any]]:
        return lambda images, real, shared: work(images, shared, Part(real, names))

    found = jax.eval_shape(part_of(()), *bare)[0]
    images, rest = jax.shard_map(
        part_of(division.rows + division.columns),
        mesh=mesh,
        in_specs=(*specs(own), PartitionSpec()),
        out_specs=(specs(found), PartitionSpec()),
        check_vma=False,
    )(*_moved(own, mesh, specs(own)), _everywhere(shared, mesh))
    return jax.tree.map(lambda image: _cropped(image, -2, ny, mesh), images), rest


def by_planes(
    one: Callable[[Any, Any], Any],
    stacks: Any,
    shared: Any = None,
    *,
    wanted: Bool[Array, " plane"] | None = None,
    otherwise: Callable[[Any], Any] | None = None,
    few: int = 1,
    batch_size: int | None = None,
) -> Any:
    """Call `one` for every plane of stacks, each device for its own, a few at a time.

    Args:
        one: is called with the pytree of one plane each, and with `shared`.
        stacks: pytree of arrays `[plane ...]`.
        shared: as in `by_pixels`.
        wanted: planes that count, all by default. Where none of a few do, nothing is worked out.
        otherwise: makes of a plane what stands for it where it does not count, in the dtypes of `one`; goes with
            `wanted`.
        few: planes that a processor works on at once where nothing else is said; accelerators then take many.
        batch_size: planes worked on at once, at most: bounds the memory.

    Returns:
        What `one` returns, stacked.
    """
    batch_size = default_batch(stacks, few) if batch_size is None else batch_size

    def work(own: tuple, shared: Any) -> Any:
        return in_batches(lambda plane: one(plane, shared), own, otherwise, batch_size)

    own, mesh = (stacks, wanted), _mesh_of(stacks)
    if mesh is None:
        return work(own, shared)
    spec, planes = PartitionSpec(mesh.axis_names), len(jax.tree.leaves(stacks)[0])
    own = jax.tree.map(lambda a: lengthened(a, -planes % mesh.size), own)
    divided = jax.shard_map(work, mesh=mesh, in_specs=(spec, PartitionSpec()), out_specs=spec, check_vma=False)
    found = divided(_moved(own, mesh, jax.tree.map(lambda _: spec, own)), _everywhere(shared, mesh))
    return jax.tree.map(lambda a: _cropped(a, 0, planes, mesh), found)


def by_planes_in_turn(
    one: Callable[[Any, Any], Any],
    parts: Sequence[Any],
    shared: Any = None,
    *,
    wanted: Sequence[Bool[Array, " plane"]],
    otherwise: Callable[[Any], Any],
    few: int = 1,
) -> list[Any]:
    """As `by_planes` for several stacks of planes of one shape, in one loop, so that `one` is compiled once.

    A processor fetches each plane from where it lies, since to join the stacks takes as long as to work on some of
    their planes; elsewhere they are joined.

    Args:
        one: as in `by_planes`.
        parts: pytrees of arrays `[plane ...]`, of one structure.
        shared: as there.
        wanted: of each of them, planes that count.
        otherwise: as there.
        few: as there.

    Returns:
        What `one` returns, stacked, for each of them.
    """
    at_once, lengths = default_batch(parts, few), [len(own) for own in wanted]
    if at_once <= few and min(lengths) > 0 and _mesh_of(parts) is None:
        return in_turn(lambda plane: one(plane, shared), list(zip(parts, wanted, strict=True)), otherwise, at_once)
    joined = jax.tree.map(lambda *stacks: jnp.concatenate(stacks), *parts)
    found = by_planes(one, joined, shared, wanted=jnp.concatenate(wanted), otherwise=otherwise, few=few)
    ends = list(itertools.accumulate(lengths))
    cuts = [slice(end - length, end) for end, length in zip(ends, lengths, strict=True)]
    return [jax.tree.map(operator.itemgetter(cut), found) for cut in cuts]


def by_each(work: Callable[..., Any], *arguments: Any) -> Any:
    """Call `work` on every device with the whole arguments: what is small is faster done than divided."""
    mesh = _mesh_of(arguments)
    if mesh is None:
        return work(*arguments)
    everywhere = PartitionSpec()
    divided = jax.shard_map(work, mesh=mesh, in_specs=everywhere, out_specs=everywhere, check_vma=False)
    return divided(*_everywhere(arguments, mesh))


def whole(tree: Any) -> Any:
    """Arrays that every device is to hold whole: the few images of an exposure, which are transformed and moved."""
    mesh = _mesh_of(tree)
    if mesh is None or AxisType.Explicit in mesh.axis_types:
        return tree if mesh is None else _everywhere(tree, mesh)
    return jax.lax.with_sharding_constraint(tree, NamedSharding(mesh, PartitionSpec()))


def _mesh_of(tree: Any) -> AbstractMesh | None:
    """The mesh of several devices on which arrays lie; None on one device, or inside a part."""
    for leaf in jax.tree.leaves(tree):
        mesh = jax.typeof(leaf).sharding.mesh
        if mesh.size > 1 and AxisType.Manual not in mesh.axis_types:
            return mesh
    return None


def _divide(ny: int, nx: int, mesh: AbstractMesh) -> _Division:
    """Divide an image evenly if that can be: padding would move what is divided already."""
    rows: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    for name in reversed(mesh.axis_names):  # references x pixels: those that divide pixels already come first
        if ny % _size(mesh, (*rows, name)) == 0:
            rows = (*rows, name)
        elif nx % _size(mesh, (*columns, name)) == 0:
            columns = (*columns, name)
        else:
            return _Division(tuple(reversed(mesh.axis_names)), (), -ny % mesh.size)
    return _Division(rows, columns, 0)


def _size(mesh: AbstractMesh, names: tuple[str, ...]) -> int:
    return math.prod(mesh.shape[name] for name in names)


def _moved(tree: Any, mesh: AbstractMesh, specs: Any) -> Any:
    """Divided as the work is, where the program and not the compiler says how."""
    if AxisType.Explicit not in mesh.axis_types:
        return tree
    return jax.tree.map(lambda array, spec: jax.reshard(array, NamedSharding(mesh, spec)), tree, specs)


def _everywhere(tree: Any, mesh: AbstractMesh) -> Any:
    return _moved(tree, mesh, jax.tree.map(lambda _: PartitionSpec(), tree))


def _cropped(array: Array, axis: int, length: int, mesh: AbstractMesh) -> Array:
    if array.shape[axis] == length:
        return array
    return jax.lax.slice_in_dim(_everywhere(array, mesh), 0, length, axis=axis)
