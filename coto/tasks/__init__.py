"""Tasks: rows, splits, metric. A task knows no adapter."""
