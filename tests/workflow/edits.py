"""The rerun matrix as data: edits of a finished run, and which jobs each of them must rerun."""

from collections.abc import Callable

from tests.workflow.conftest import Planned

REPORT = {"tables", "figures", "claims"}
USES_ADAPTERS = {"interpolate", "merge", "prune"}
Expected = Callable[[Planned], bool]


def report(job: Planned) -> bool:
    return job.rule in REPORT


def nothing(job: Planned) -> bool:
    return False


def rules(*names: str) -> Expected:
    return lambda job: job.rule in {*names, *REPORT}


def chain(matches: Expected) -> Expected:
    """Training and all that follows from it, for the jobs that match; and the report."""
    return lambda job: (
        report(job) or (job.rule in {"train", *USES_ADAPTERS, "overhead"} and matches(job))
    )


CONFIG_EDITS: dict[str, tuple[dict, Expected]] = {
    "nothing": ({}, nothing),
    "the decimals of tables": (
        {"report": {"tables": {"decimals": 2}}},
        lambda j: j.rule == "tables",
    ),
    "the resolution of figures": (
        {"report": {"figures": {"dpi": 90}}},
        lambda j: j.rule == "figures",
    ),
    "the margin of claims": ({"report": {"statistics": {"margin": 2.0}}}, report),
    "a weight of the path": (
        {"suites": {"glue": {"interpolate": {"weights": [0.0, 0.25, 1.0]}}}},
        rules("interpolate"),
    ),
    "a merge weight": (
        {"suites": {"glue": {"merge": {"weights": {"movies": 0.7, "same-source": 0.3}}}}},
        rules("merge"),
    ),
    "what pruning keeps": (
        {"suites": {"glue": {"prune": {"keep": ["all", "odd", "high"]}}}},
        rules("prune"),
    ),
    "the timed steps": ({"suites": {"glue": {"overhead": {"steps": 5}}}}, rules("overhead")),
    "one adapter's rank": (
        {"adapters": {"lora": {"rank": 4}}},
        chain(lambda j: j.adapter == "lora"),
    ),
    "one strategy's p0": (
        {"strategies": {"coto": {"p0": 0.2}}},
        chain(lambda j: j.strategy == "coto" or j.rule == "overhead"),
    ),
    "two values swapped": (
        {"suites": {"glue": {"train": {"steps": 8, "batch_size": 6}}}},
        chain(lambda j: True),
    ),
    "one task's training": (
        {"suites": {"glue": {"train": {"per_task": {"same-source": {"steps": 7}}}}}},
        # The time is measured on the first task. What uses adapters uses every task's.
        chain(lambda j: j.task == "same-source" or j.rule in USES_ADAPTERS),
    ),
    "the reported rows": (
        {"suites": {"glue": {"rows": {"test": 24}}}},
        lambda j: j.rule != "corpora",
    ),
    "a number written otherwise": (
        {"strategies": {"coto": {"p1": 1}}, "adapters": {"lora": {"alpha": 16}}},
        nothing,
    ),
    "a definition that nothing uses": (
        {"adapters": {"wide": {"kind": "lora", "rank": 64}}},
        nothing,
    ),
    "a seed taken away": ({"suites": {"glue": {"seeds": [0]}}}, lambda j: j.rule in REPORT),
    "an adapter taken away": (
        {"suites": {"glue": {"adapters": ["lora", "dora"], "learning_rates": {}}}},
        lambda j: j.rule in REPORT,
    ),
}

SOURCE_EDITS: dict[str, tuple[str, str, Expected]] = {
    "a comment in train.py": ("coto/stages/train.py", "# a comment\n", nothing),
    "a docstring in training.py": ("coto/training.py", None, nothing),
    "a statement in train.py": (
        "coto/stages/train.py",
        "EDIT = 1\n",
        rules("train", *USES_ADAPTERS),
    ),
    "a statement in merge.py": (
        "coto/operators/merge.py",
        "EDIT = 1\n",
        rules("interpolate", "merge"),
    ),
    "a statement in prune.py": ("coto/operators/prune.py", "EDIT = 1\n", rules("prune")),
    "a statement in the method": (
        "coto/method/gate.py",
        "EDIT = 1\n",
        chain(lambda j: True),
    ),
    "a statement in the claims": (
        "coto/report/claims.py",
        "EDIT = 1\n",
        lambda j: j.rule == "claims",
    ),
    "a statement in the figures": (
        "coto/report/figures.py",
        "EDIT = 1\n",
        lambda j: j.rule == "figures",
    ),
    "a statement in the metrics": (
        "coto/evaluate/scoring.py",
        "EDIT = 1\n",
        rules("train", *USES_ADAPTERS),
    ),
    "a statement in one task's builder": (
        "coto/tasks/offline/same_source.py",
        "EDIT = 1\n",
        lambda j: (
            j.task == "same-source"  # prepare and train
            or j.rule in USES_ADAPTERS
            or report(j)
        ),
    ),
    "a statement in the command line": ("coto/cli.py", "EDIT = 1\n", nothing),
    "a new entry among the tasks": (
        "coto/tasks/registry.py",
        'TASKS["again"] = TASKS["movies"]\n',
        nothing,
    ),
    "a new entry among the adapters": (
        "coto/adapters/kinds.py",
        'KINDS["loha"] = Kind("LoHaConfig")\n',
        nothing,
    ),
}
