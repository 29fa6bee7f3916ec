"""What benchmarks share: timing and records, models and rows, steps, tables and figures."""
