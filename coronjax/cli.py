"""The command line: which command, and what becomes of errors. Everything heavy is imported once a command is known."""

from __future__ import annotations

import itertools
import os
import sys
import traceback
from collections.abc import Callable, Sequence

from .compiler import set_compiler_flag
from .garbage import rarely_collected

COMMANDS = {
    "run": "Reduce an association: read, flag outliers, align, subtract the star, resample, write the products.",
    "batch": "Reduce many associations side by side, skipping those that are complete; say what became of each.",
    "info": "Say what is in an association, what a run would do with it, and what looks wrong.",
    "simulate": "Make an association with a known truth, in the JWST file format.",
    "demo": "Simulate a small association with three companions, reduce it, and show what was found.",
}
DESCRIPTION = "Coronagraphic stage 3 processing for JWST, in JAX. `coronjax COMMAND --help` describes a command."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: those of the command line by default.

    Returns:
        Exit status: 0, 1 where the input is at fault or files cannot be written, 130 when interrupted. A wrong
        command line ends in `SystemExit(2)`, help in `SystemExit(0)`.

    Example:
        >>> main(["info", "no_such_asn.json"])
        1
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words == ["--version"]:
        from importlib.metadata import version

        print(f"coronjax {version('coronjax')}")
        return 0
    if not words or words[0] not in COMMANDS:
        return _no_command(words)
    try:
        return _run_command(words[0], words[1:])
    except KeyboardInterrupt:
        return _fail("interrupted", words, status=130)
    except BrokenPipeError:  # the reader of our output has gone: nothing more to say to it, at exit neither
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except MemoryError as error:
        return _fail(f"out of memory. {error}".strip(), words)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"{where}{error.strerror or error}", words)
    except Exception as error:
        message = _message_of(error)
        if message is None:
            raise
        return _fail(message, words)


def _run_command(name: str, words: list[str]) -> int:
    set_compiler_flag()
    with rarely_collected():
        import tyro

        from .commands import command_class, session

        chosen, default = command_class(name, words)
        command = tyro.cli(chosen, args=words, prog=f"coronjax {name}", description=COMMANDS[name], default=default)
        with session(command):
            return command()


def _no_command(words: list[str]) -> int:
    """Help on the commands, or what is wrong with the words."""
    import tyro

    def choice(line: str) -> Callable[[], None]:
        def chosen() -> None:
            """Nothing: commands that exist are run elsewhere."""

        chosen.__doc__ = line
        return chosen

    if not words:
        words = ["--help"]
    stand_ins = {name: choice(line) for name, line in COMMANDS.items()}
    tyro.extras.subcommand_cli_from_dict(stand_ins, prog="coronjax", description=DESCRIPTION, args=words)
    return 2


def _message_of(error: Exception) -> str | None:
    """What to tell the user of an error that is not a fault of this program; None where it is one."""
    from .errors import CoronjaxError

    if isinstance(error, CoronjaxError):
        return str(error)
    if "RESOURCE_EXHAUSTED" in str(error):
        return f"out of memory on the device. {error}"
    return None


def _fail(message: str, words: list[str], status: int = 1) -> int:
    if _wants_debug(words):
        traceback.print_exc()
    print(f"coronjax: error: {message}" if status == 1 else f"coronjax: {message}", file=sys.stderr)
    return status


def _wants_debug(words: list[str]) -> bool:
    return "--log-level=DEBUG" in words or ("--log-level", "DEBUG") in itertools.pairwise(words)


if __name__ == "__main__":
    sys.exit(main())
