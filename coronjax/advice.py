"""What a user should know of the options of a run before it begins."""

from __future__ import annotations

from .options import Klip, Options

_SKIPPED = {
    "outlier_detection": "cosmic rays stay in the data, and there are no crfints products",
    "align_refs": "reference images are subtracted where they lie",
    "klip": "the star stays in the data",
    "resample": "every integration is written as an image of its own, in place of an image of the sky",
}


def option_notes(options: Options, n_references: int) -> tuple[str, ...]:
    """Say what follows from options that are not the usual ones.

    Args:
        options: of the run.
        n_references: integrations of all reference exposures.

    Returns:
        A sentence each: on more modes than there are references, and on every step that is left out.

    Example:
        >>> from coronjax import Klip
        >>> option_notes(Options(klip=Klip(truncate=9)), 4)
        ('klip.truncate=9 is more than the 4 reference integrations: all modes are kept',)
    """
    notes = [f"{name}.skip: {text}" for name, text in _SKIPPED.items() if getattr(options, name).skip]
    # The default asks for as many as there may be: nobody needs to be told that there are fewer.
    asked = options.klip.truncate not in (0, Klip().truncate)
    if asked and n_references < options.klip.truncate and not options.klip.skip:
        wanted = f"klip.truncate={options.klip.truncate}"
        notes.append(f"{wanted} is more than the {n_references} reference integrations: all modes are kept")
    return tuple(notes)
