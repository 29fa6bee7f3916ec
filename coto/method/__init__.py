"""The paper's method, importable alone: it knows no task, no data set and no configuration file."""
