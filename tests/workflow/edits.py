"""The rerun matrix as data: edits of a finished run, and which jobs each of them must rerun."""

from collections.abc import Callable

from tests.workflow.conftest import Planned

REPORT = {"tables", "figures", "claims"}
MERGES = {"interpolate", "merge"}
# Runs of single arms; ``geometry`` compares those of all arms.
USES_ARMS = {*MERGES, "prune", "subnetworks"}
USES_ADAPTERS = {*USES_ARMS, "geometry"}
USES_MODEL = {"train", "overhead", *USES_ADAPTERS}
Expected = Callable[[Planned], bool]


def report(job: Planned) -> bool:
    return job.rule in REPORT


def nothing(job: Planned) -> bool:
    return False


def rules(*names: str, suite: str | None = None) -> Expected:
    """These rules, in one suite or all; and the report."""
    return lambda job: report(job) or (job.rule in names and suite in (None, job.suite))


def chain(matches: Expected) -> Expected:
    """Training and all that follows from it, for the jobs that match; and the report."""
    return lambda job: report(job) or (job.rule in USES_MODEL and matches(job))


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
        rules("interpolate", suite="glue"),
    ),
    "a merge weight": (
        {"suites": {"glue": {"merge": {"weights": {"movies": 0.7, "same-source": 0.3}}}}},
        rules("merge", suite="glue"),
    ),
    "an operator's setting": (
        {"suites": {"glue": {"merging": {"settings": {"ties": {"keep": 0.5}}}}}},
        rules(*MERGES, suite="glue"),
    ),
    "a setting of an operator that only tasks are merged by": (
        {"suites": {"glue": {"merging": {"settings": {"dare": {"drop": 0.3}}}}}},
        rules("merge", suite="glue"),
    ),
    "an operator's setting in full": (
        {"suites": {"glue": {"merging": {"settings": {"ties": {"scale": 1}}}}}},
        nothing,
    ),
    "the draws of LoRA-LEGO": (
        {"suites": {"glue": {"merging": {"repeats": 3}}}},
        rules(*MERGES, suite="glue"),
    ),
    "a sparsity": (
        {"suites": {"glue": {"prune": {"unstructured": {"sparsities": [0.0, 0.9]}}}}},
        rules("prune", suite="glue"),
    ),
    "the subsets of adapters": (
        {"suites": {"glue": {"subnetworks": {"samples": 7}}}},
        rules("subnetworks", suite="glue"),
    ),
    "when CoTo is stopped early": (
        {"suites": {"glue": {"subnetworks": {"early_stop": 0.6}}}},
        chain(lambda j: j.suite == "glue" and j.rule != "overhead"),
    ),
    "what pruning keeps": (
        {"suites": {"images": {"prune": {"keep": ["all", "odd", "high"]}}}},
        rules("prune", suite="images"),
    ),
    "the timed steps": (
        {"suites": {"glue": {"overhead": {"steps": 5}}}},
        rules("overhead", suite="glue"),
    ),
    "one adapter's rank": (
        {"adapters": {"lora": {"rank": 4}}},
        chain(lambda j: j.adapter == "lora"),
    ),
    "one adapter's rank in one suite": (
        {"suites": {"images": {"adapter_settings": {"hira": {"kind": "hira", "rank": 4}}}}},
        chain(lambda j: j.suite == "images"),
    ),
    "one strategy's p0": (
        {"strategies": {"coto": {"p0": 0.2}}},
        chain(lambda j: j.strategy == "coto" or j.rule in ("overhead", "geometry")),
    ),
    "two values swapped": (
        {"suites": {"glue": {"train": {"steps": 8, "batch_size": 6}}}},
        chain(lambda j: j.suite == "glue"),
    ),
    "the masking of the loss": (
        {"suites": {"commonsense": {"train": {"loss_on": "all"}}}},
        chain(lambda j: j.suite == "commonsense"),
    ),
    "the shots": (
        {"suites": {"images": {"rows": {"shots": 3}}}},
        chain(lambda j: j.suite == "images"),
    ),
    "how answers are found": (
        {"suites": {"commonsense": {"evaluation": {"batch_tokens": 64}}}},
        lambda j: report(j) or (j.suite == "commonsense" and j.rule != "prepare"),
    ),
    "one task's training": (
        {"suites": {"glue": {"train": {"per_task": {"same-source": {"steps": 7}}}}}},
        # The time is measured on the first task. What uses adapters uses every task's.
        chain(lambda j: j.suite == "glue" and (j.task == "same-source" or j.rule in USES_ADAPTERS)),
    ),
    "the reported rows": (
        {"suites": {"glue": {"rows": {"test": 24}}}},
        lambda j: report(j) or j.suite == "glue",
    ),
    "a number written otherwise": (
        {"strategies": {"coto": {"p1": 1}}, "adapters": {"lora": {"alpha": 16}}},
        nothing,
    ),
    "a definition that nothing uses": (
        {"adapters": {"wide": {"kind": "lora", "rank": 64}}},
        nothing,
    ),
    "a study that nobody asks for": (
        {"studies": {"deeper": {"suite": "images", "strategies": ["vanilla", "coto-high"]}}},
        nothing,
    ),
    "a seed taken away": (
        {"suites": {"glue": {"seeds": [0]}}},
        rules("geometry", suite="glue"),
    ),
    "a strategy taken away": (
        {"suites": {"glue": {"strategies": ["vanilla"]}}},
        rules("overhead", "geometry", suite="glue"),
    ),
}

SOURCE_EDITS: dict[str, tuple[str, str | None, Expected]] = {
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
        rules(*MERGES),
    ),
    "a statement in one operator": ("coto/operators/lego.py", "EDIT = 1\n", rules(*MERGES)),
    "a statement in an operator that only tasks are merged by": (
        "coto/operators/knots.py",
        "EDIT = 1\n",
        rules("merge"),
    ),
    "a new entry among the operators": (
        "coto/operators/registry.py",
        'OPERATORS["again"] = OPERATORS["fusion"]\n',
        nothing,
    ),
    "a statement in the Shapley values": (
        "coto/analysis/shapley.py",
        "EDIT = 1\n",
        rules("subnetworks"),
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
    "a statement in the encoders' bench": (
        "coto/workbench/encoder.py",
        "EDIT = 1\n",
        rules("baseline", *USES_MODEL, suite="glue"),
    ),
    "a statement in the language models' bench": (
        "coto/workbench/causal.py",
        "EDIT = 1\n",
        rules("baseline", *USES_MODEL, suite="commonsense"),
    ),
    "a statement in the image models' bench": (
        "coto/workbench/image.py",
        "EDIT = 1\n",
        rules("baseline", *USES_MODEL, suite="images"),
    ),
    "a statement in one task's builder": (
        "coto/tasks/offline/same_source.py",
        "EDIT = 1\n",
        lambda j: (
            j.task == "same-source"  # prepare and train
            or (j.suite == "glue" and j.rule in {"baseline", *USES_ADAPTERS})
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
