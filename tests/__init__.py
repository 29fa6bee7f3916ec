import coto  # noqa: F401  (before torchvision: see coto/compat.py)
