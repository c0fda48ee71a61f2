"""Let the documentation show the examples of docstrings as code."""

import griffe


class Examples(griffe.Extension):
    """The parser knows the plural heading as code; the docstrings have one example and the singular."""

    def on_object(self, *, obj, **_):
        """Rename the heading of an object's docstring."""
        if obj.docstring:
            obj.docstring.value = obj.docstring.value.replace("\nExample:\n", "\nExamples:\n")
