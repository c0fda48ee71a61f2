"""Which of XLA's compilers for the CPU is taken: the one that needs half the time, whose programs are no slower.

A choice that jaxlib does not know would end the process, so it is made for the versions that it was measured with.
Nothing heavy is imported: the environment has to be set before JAX is.
"""

from __future__ import annotations

import os

_OPTION, _VERSIONS = "xla_cpu_use_fusion_emitters", ("0.10.",)
_FLAG = f"--{_OPTION}=false"


def set_compiler_flag() -> None:
    """Choose for all of a process, unless the user has chosen; once JAX has started it is too late.

    Example:
        >>> set_compiler_flag()
    """
    if _is_ours() and _FLAG not in os.environ.get("XLA_FLAGS", ""):
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
    """The same for one program, as `jax.stages.Lowered.compile` takes it.

    Args:
        platform: what it is compiled for.

    Returns:
        The options; none where the choice is the user's, or another platform's.

    Example:
        >>> compiler_options("tpu")
        {}
    """
    return {_OPTION: False} if platform == "cpu" and _is_ours() else {}


def _is_ours() -> bool:
    """Whether the choice is not the user's. Flags set here may have come too late for the process."""
    flags = other_flags()
    in_file = bool(flags) and not flags.startswith("-")  # XLA takes this for the name of a file with flags
    return not in_file and _OPTION not in flags and _is_measured()


def _is_measured() -> bool:
    from importlib.metadata import version

    return version("jaxlib").startswith(_VERSIONS)
