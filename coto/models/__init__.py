"""Pretrained models: loading, training batches, scores."""
