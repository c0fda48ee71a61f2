"""Set up what every test shares: the compiler of the command line, and double precision as `run` sets it for itself."""

import gc

from coronjax.compiler import set_compiler_flag

set_compiler_flag()
# Tracing makes very many objects, most of which stay: to look through them for cycles as often as usual takes a tenth
# of the time.
gc.set_threshold(200_000, 20, 100)

import jax  # noqa: E402  the flag has to come first

jax.config.update("jax_enable_x64", True)
