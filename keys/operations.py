"""What stands behind a view of Django Ninja: operations, which have authenticators of their own. Needs no Ninja."""

import sys
from contextlib import suppress
from typing import Any


def operations_of(view: Any) -> list[Any]:
    """Return the operations behind a view that Ninja has made, each for other methods; none for any other view."""
    library = sys.modules.get("ninja.operation")
    while library is not None and view is not None:
        # Nothing but the variables of its function leads from the view in a URLconf to what Ninja knows of it.
        for cell in getattr(view, "__closure__", None) or ():
            with suppress(ValueError):  # an empty one
                if issubclass(type(cell.cell_contents), library.PathView):
                    return list(cell.cell_contents.operations)
        view = getattr(view, "__wrapped__", None)
    return []
