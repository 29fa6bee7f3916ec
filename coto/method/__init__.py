"""The paper's method, importable alone: schedule, strategies, gate, training hooks.

Knows PEFT and torch, but no task, no data set and no configuration file.
"""
