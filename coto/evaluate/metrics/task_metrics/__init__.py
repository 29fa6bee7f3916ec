"""An `evaluate` module, loaded by path; see :mod:`coto.evaluate.scoring`."""
