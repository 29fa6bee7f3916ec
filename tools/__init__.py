"""Recipes that are not the product: the small image backbone, tried tuners, generated pages."""

import coto  # noqa: F401  (before torchvision: see coto/compat.py)
