"""Speed, as ratios of two things that are timed in one run: ``python -m benchmarks NAME``."""

import coto  # noqa: F401  (before torchvision: see coto/compat.py)
