"""Set up what every test shares: double precision, as `coronjax.run` sets it for itself."""

import jax

jax.config.update("jax_enable_x64", True)
