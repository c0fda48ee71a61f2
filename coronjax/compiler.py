"""How XLA compiles for the CPU: what was measured to compile sooner, or to run faster, than what it does by itself.

A flag that jaxlib does not know would end the process, and an option fail, so all is for the versions that it was
measured with. Nothing heavy is imported: the environment has to be set before JAX is.
"""

from __future__ import annotations

import os

_VERSIONS = ("0.10.",)
_EMITTERS = "xla_cpu_use_fusion_emitters"
_FLAG = f"--{_EMITTERS}=false"
_OPTIONS: dict[str, str | bool] = {
    _EMITTERS: False,  # the older of two compilers, which needs half the time
    "xla_backend_optimization_level": "1",  # of 3: a fifth less; the steps run one or two hundredths longer
    "xla_cpu_parallel_codegen_split_count": "8",  # in place of 32: each part of a program costs something by itself
    "xla_cpu_prefer_vector_width": "512",  # bits, in place of 256, where there are such registers: it runs faster
}


def set_compiler_flag() -> None:
    """Choose the older compiler for all of a process, unless the user has chosen; once JAX has started it is too late.

    Example:
        >>> set_compiler_flag()
    """
    if _is_ours(_EMITTERS) and _FLAG not in os.environ.get("XLA_FLAGS", ""):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_FLAG}".strip()


def other_flags() -> str:
    """What the environment says besides: programs for which the choice was made either way are the same.

    Returns:
        XLA_FLAGS, without the flag of `set_compiler_flag` where that is measured.

    Example:
        >>> "fusion_emitters=false" in other_flags()
        False
    """
    flags = os.environ.get("XLA_FLAGS", "")
    return " ".join((flags.replace(_FLAG, " ") if _is_measured() else flags).split())


def compiler_options(platform: str) -> dict[str, str | bool]:
    """Options of a program that is kept, as `jax.stages.Lowered.compile` takes them.

    Args:
        platform: what it is compiled for.

    Returns:
        The options, but for those that the user has chosen; none for another platform.

    Example:
        >>> compiler_options("tpu")
        {}
    """
    return {option: value for option, value in _OPTIONS.items() if platform == "cpu" and _is_ours(option)}


def _is_ours(option: str) -> bool:
    """Whether the choice is not the user's. Flags set here may have come too late for the process."""
    flags = other_flags()
    in_file = bool(flags) and not flags.startswith("-")  # XLA takes this for the name of a file with flags
    return not in_file and option not in flags and _is_measured()


def _is_measured() -> bool:
    from importlib.metadata import version

    return version("jaxlib").startswith(_VERSIONS)
