"""Merging of seeds and of tasks."""
