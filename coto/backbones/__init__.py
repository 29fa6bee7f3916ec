"""Pretrained models by name: from the hub, a local directory or a Python package."""
