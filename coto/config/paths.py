"""Where everything lies under the results folder: the one place that composes paths.

The rules use these functions with wildcards in braces, the plan and the stages with values, so that
all three always agree.
"""

# The archive with the offline corpora.
CORPORA = "corpora/vaderSentiment-3.3.2.tar.gz"


# Folder in a trained adapter with what it was earlier in its training.
SNAPSHOTS = "snapshots"


def number(value: float) -> str:
    """A learning rate as it stands in a path: ``0.004``, ``1e-05``."""
    return format(value, "g")


def backbone(name: str) -> str:
    """A backbone that was converted from a wheel."""
    return f"backbones/{name}"


def data(suite: str, task: str, split: str) -> str:
    """Rows of one part of a task."""
    return f"{suite}/{task}/data/{split}.parquet"


def arm(suite: str, task: str, adapter: str, strategy: str) -> str:
    """Folder of all runs of a task with one adapter kind and one strategy."""
    return f"{suite}/{task}/{adapter}-{strategy}"


def run(suite: str, task: str, adapter: str, strategy: str, lr: str, seed: int | str) -> str:
    """Folder of one training run."""
    return f"{arm(suite, task, adapter, strategy)}/lr{lr}/seed{seed}"


def adapter_weights(run_folder: str) -> str:
    """The trained adapter of a run, as PEFT saves it."""
    return f"{run_folder}/adapter"


def train_record(run_folder: str) -> str:
    """Record of a training run."""
    return f"{run_folder}/train.json"


def gradients_record(run_folder: str) -> str:
    """Record of the gradient norms of a training run."""
    return f"{run_folder}/gradients.json"


def answers(run_folder: str) -> str:
    """Every test item's answer, of a training run."""
    return f"{run_folder}/answers.parquet"


def baseline_record(suite: str) -> str:
    """Record of what no training gives: the bare backbone, guessing."""
    return f"{suite}/baseline.json"


def select_record(suite: str, task: str, adapter: str, strategy: str) -> str:
    """Which learning rate an arm uses, where its grid has more than one."""
    return f"{arm(suite, task, adapter, strategy)}/select.json"


def prune_record(suite: str, adapter: str, strategy: str, seed: int | str) -> str:
    """Record of pruning an arm's runs of all tasks with one seed."""
    return f"{suite}/prune/{adapter}-{strategy}/seed{seed}.json"


def interpolate_record(suite: str, adapter: str, strategy: str, seeds: str) -> str:
    """Record of mixing an arm's runs of several seeds, ``0-1``, on all tasks."""
    return f"{suite}/interpolate/{adapter}-{strategy}/seeds{seeds}.json"


def trajectory_record(suite: str, adapter: str, strategy: str) -> str:
    """Record of scoring an arm's snapshots over training on all tasks."""
    return f"{suite}/trajectory/{adapter}-{strategy}.json"


def snapshot(adapter_folder: str, share: float) -> str:
    """A run's adapter as it was after a share of the training."""
    return f"{adapter_folder}/{SNAPSHOTS}/{number(share)}"


def subnetworks_record(suite: str, adapter: str, strategy: str, seed: int | str) -> str:
    """Record of scoring subsets of an arm's adapters, on all tasks, with one seed."""
    return f"{suite}/subnetworks/{adapter}-{strategy}/seed{seed}.json"


def geometry_record(suite: str, adapter: str) -> str:
    """Record of comparing the weights of all runs with an adapter kind."""
    return f"{suite}/geometry/{adapter}.json"


def merged_adapters(record: str) -> str:
    """Folder of the merged adapters of a record, one per operator, in PEFT's format."""
    return record.removesuffix(".json")


def merge_record(suite: str, adapter: str, strategy: str, seed: int | str) -> str:
    """Record of merging all tasks of a suite."""
    return f"{suite}/merge/{adapter}-{strategy}/seed{seed}.json"


def overhead_record(suite: str, adapter: str) -> str:
    """Record of the training time of an adapter kind."""
    return f"{suite}/overhead/{adapter}.json"


# A run's folder with Snakemake's wildcards.
RUN = run("{suite}", "{task}", "{adapter}", "{strategy}", "{lr}", "{seed}")
# An arm's folder likewise.
ARM = arm("{suite}", "{task}", "{adapter}", "{strategy}")
