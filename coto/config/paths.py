"""Where rows and backbones lie under the results folder, and how a path spells a number.

The paths of records are part of their measurement (:mod:`coto.measurements`).
"""

# The archive with the offline corpora.
CORPORA = "corpora/vaderSentiment-3.3.2.tar.gz"
# A backbone that was converted from a wheel.
BACKBONE = "backbones/{backbone}"
# Rows of one part of a task.
DATA = "{suite}/{task}/data/{split}.parquet"
# The part of a task that a head of prototypes is made of.
PROTOTYPES = "prototypes"
# Folder in a trained adapter with what it was earlier in its training.
SNAPSHOTS = "snapshots"


def number(value: float) -> str:
    """A learning rate as it stands in a path: ``0.004``, ``1e-05``."""
    return format(value, "g")


def data(suite: str, task: str, split: str) -> str:
    """Rows of one part of a task."""
    return DATA.format(suite=suite, task=task, split=split)


def snapshot(adapter_folder: str, share: float) -> str:
    """A run's adapter as it was after a share of the training."""
    return f"{adapter_folder}/{SNAPSHOTS}/{number(share)}"
