"""Speed, as ratios against a named peer in the same run: ``python -m benchmarks.sweep``."""

import coto  # noqa: F401  (before torchvision: see coto/compat.py)
