"""Metric modules for `evaluate`, loaded by path."""
