"""Pure operators on adapters: tensors in, tensors out, no I/O."""
