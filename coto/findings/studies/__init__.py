"""Studies: a suite with other strategies, rates, lengths or snapshots, on request."""
