"""Image files as bytes: writing, checking, and a hash to order and compare them by."""

import hashlib
import io

import numpy as np
from PIL import Image

from coto.errors import CotoError


def png(pixels: np.ndarray) -> bytes:
    """A grey image, (height, width) uint8, as the content of a PNG file."""
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, format="PNG")
    return content.getvalue()


def content_key(content: bytes) -> str:
    """Hash of an image file."""
    return hashlib.sha256(content).hexdigest()


def check(content: object, name: str) -> None:
    """Refuse what is no image file.

    Raises:
        CotoError: Nothing is there, or PIL does not know it; a broken body of a JPEG is only found
            where it is decoded.
    """
    if not isinstance(content, bytes) or not content:
        raise CotoError(f"{name}: is missing, expected the content of an image file")
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.verify()
    # PIL raises whatever its decoder does: OSError, SyntaxError, ValueError, …
    except Exception as error:
        # PIL's own message shows the address of a buffer.
        reason = str(error).partition(" <_io.")[0] or type(error).__name__
        raise CotoError(f"{name}: is no readable image ({reason[:120]})") from None
