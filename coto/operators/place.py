"""Where in a model an adapted module is."""

import re

from coto.errors import CotoError


def place_of(module: str) -> tuple[str, int]:
    """The stack of blocks that a module is in, such as ``vision_model.encoder.layers``, and where.

    The block is the name's first number. A model of two encoders has two stacks, and counts the
    blocks of each from 0.

    Raises:
        CotoError: if the name has no number.
    """
    found = re.search(r"\.(\d+)\.", module)
    if found is None:
        raise CotoError(f"module {module!r}: expected a layer number in its name")
    return module[: found.start()], int(found[1])
