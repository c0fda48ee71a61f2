"""The JAX settings of an application: double precision and a cache of compiled programs, put back afterwards."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax
from jax.experimental.compilation_cache import compilation_cache

from .programs import programs_kept_in

CACHE_VARIABLE = "CORONJAX_CACHE_DIR"  # a folder, or "off"


def cache_folder() -> Path | None:
    """Where compiled programs are kept between processes, or None where the user has turned that off.

    Returns:
        The folder named by the environment variable CORONJAX_CACHE_DIR, else `coronjax` in the user's cache folder;
        None when the variable is `off`.

    Example:
        >>> cache_folder() is None or cache_folder().is_absolute()
        True
    """
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen is not None and chosen.lower() == "off":
        return None
    if chosen:
        return Path(chosen).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "coronjax"


@contextmanager
def application_settings(precision: str) -> Iterator[None]:
    """Enable x64 where the precision asks for it and keep compiled programs on disk, for the length of a `with` block.

    Args:
        precision: `"float64"` or `"float32"`.

    Example:
        >>> with application_settings("float64"):
        ...     jnp.zeros(1).dtype.name
        'float64'
    """
    folder = cache_folder()
    settings: dict[str, object] = {
        "jax_compilation_cache_dir": None if folder is None else str(folder),
        "jax_persistent_cache_min_compile_time_secs": 0.05,
        "jax_persistent_cache_min_entry_size_bytes": 0,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    if before["jax_compilation_cache_dir"] is not None:  # the user's own cache is left as it is
        settings, before = {}, {}
    try:
        _apply(settings)
        with jax.enable_x64(precision == "float64"), programs_kept_in(folder):
            yield
    finally:
        _apply(before)


def _apply(settings: dict[str, object]) -> None:
    for name, value in settings.items():
        jax.config.update(name, value)
    if settings:
        compilation_cache.reset_cache()  # the folder is looked up once, at the first compilation
