"""Sizes of pieces of work: what stays in the caches of a processor would leave an accelerator idle.

A program is traced before JAX says what it is compiled for, so that the sizes are those for JAX's default device
then. Nothing but time, memory and rounding depends on them.
"""

import functools

import jax
import numpy as np


def accelerated() -> bool:
    """Whether JAX works on something else than a processor by default."""
    device = jax.config.values["jax_default_device"]  # set by jax.default_device too
    if device is None:
        return jax.default_backend() != "cpu"
    return (device if isinstance(device, str) else device.platform) != "cpu"


def suited(processor: int, accelerator: int) -> int:
    """Of two sizes, that for the device worked on."""
    return accelerator if accelerated() else processor


@functools.cache
def has_wide_registers() -> bool:
    """Whether the processor has vector registers of 512 bits, with masks, by what numpy found; True of other kinds."""
    kinds = np.show_config(mode="dicts")["SIMD Extensions"]
    known = {*kinds.get("baseline", ()), *kinds.get("found", ())}
    wide = any(name == "X86_V4" or name.startswith("AVX512") for name in known)
    return wide or known.isdisjoint({"AVX2", "X86_V3"})
