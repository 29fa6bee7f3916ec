"""Faster training steps with the same gradients: what is computed stays, how it is computed goes.

Each way to save time is one file and one switch (:class:`coto.models.settings.Fast`).
:func:`coto.fast.prepare.prepared` applies those that are on for the length of a training and undoes
them afterwards, so that scoring, saving and all else see the plain PEFT model.
"""
