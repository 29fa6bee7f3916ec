"""Pure analyses of trained adapters: numbers in, numbers out, no I/O."""
