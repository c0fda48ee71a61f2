"""How XLA compiles for the CPU: what was measured to compile sooner, or to run faster, than what it does by itself.

An option that jaxlib does not know would end the process, so all is for the versions that it was measured with.
Nothing heavy is imported: the environment has to be set before JAX is.
"""

from __future__ import annotations

import os

_VERSIONS = ("0.10.",)
_EMITTERS = "xla_cpu_use_fusion_emitters"
_FLAG = f"--{_EMITTERS}=false"  # the older of two compilers needs half the time, and its programs are as fast
# Twice the default, where the processor has such registers: 3 to 10 hundredths less for `reduce`.
_RUNNING: dict[str, str | bool] = {"xla_cpu_prefer_vector_width": "512"}
# The third level of optimisation gains nothing, and of more parts than processors can work on each costs something.
_COMPILING: dict[str, str | bool] = {
    _EMITTERS: False,
    "xla_backend_optimization_level": "2",
    "xla_cpu_parallel_codegen_split_count": str(min(2 * (os.cpu_count() or 1), 32)),
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


def compiler_options(platform: str, *, soon: bool = False) -> dict[str, str | bool]:
    """Options of one program, as `jax.jit` and `jax.stages.Lowered.compile` take them.

    Args:
        platform: what it is compiled for.
        soon: choose what compiles sooner too, and runs about as fast.

    Returns:
        The options; none where the choice is the user's, or another platform's.

    Example:
        >>> compiler_options("tpu")
        {}
    """
    chosen = _RUNNING | (_COMPILING if soon else {}) if platform == "cpu" else {}
    return {option: value for option, value in chosen.items() if _is_ours(option)}


def _is_ours(option: str) -> bool:
    """Whether the choice is not the user's. Flags set here may have come too late for the process."""
    flags = other_flags()
    in_file = bool(flags) and not flags.startswith("-")  # XLA takes this for the name of a file with flags
    return not in_file and option not in flags and _is_measured()


def _is_measured() -> bool:
    from importlib.metadata import version

    return version("jaxlib").startswith(_VERSIONS)
