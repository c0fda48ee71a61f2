"""Set up what every test shares: the compiler of the command line, and double precision as `run` sets it for itself."""

from coronjax.cli import set_compiler_flag

set_compiler_flag()

import jax  # noqa: E402  the flag has to come first

jax.config.update("jax_enable_x64", True)
