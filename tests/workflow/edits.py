"""The rerun matrix as data: edits of a configuration, and which jobs each of them reruns."""

from collections.abc import Callable, Iterable

from coto.findings import FIGURES, TABLES
from tests.workflow.planned import RECORDS, REPORT, Planned

MERGES = {"interpolate", "merge"}
# Figures of the method, which show no run.
METHOD = {"masks", "schedule"}
# Measurements of single arms; ``geometry`` compares those of all arms.
USES_ARMS = {*MERGES, "prune", "subnetworks"}
USES_ADAPTERS = {*USES_ARMS, "geometry"}
USES_MODEL = {"train", "overhead", *USES_ADAPTERS}
Expected = Callable[[Planned], bool]


def nothing(job: Planned) -> bool:
    return False


def report(job: Planned) -> bool:
    return job.rule in REPORT


def with_report(matches: Expected, but: Iterable[str] = ()) -> Expected:
    """And the report, without some of it: every table's notes say what the suites are."""
    return lambda job: matches(job) or (report(job) and (job.table or job.figure) not in but)


def rules(*names: str, suite: str | None = None) -> Expected:
    """These rules, in one suite or all."""
    return lambda job: job.rule in names and suite in (None, job.suite)


def chain(matches: Expected) -> Expected:
    """Training and all that follows from it, for the jobs that match."""
    return lambda job: job.rule in USES_MODEL and matches(job)


def expected(jobs: Iterable[Planned], matches: Expected) -> set[Planned]:
    """The jobs that match, and of the report those that read a record of one of them."""
    jobs = set(jobs)
    chosen = {job for job in jobs if matches(job)}
    ran = {job.rule for job in chosen}
    chosen |= {job for job in jobs if job.rule in REPORT and reads(job, ran)}
    judged = any(job.rule == "claims" for job in chosen)
    return chosen | {job for job in jobs if judged and shows_verdicts(job)}


def shows_verdicts(job: Planned) -> bool:
    """Whether a job draws what the claims job found."""
    return job.rule == "figure" and "claims" in FIGURES[str(job.figure)].needs


def reads(job: Planned, measurements: set[str]) -> bool:
    """Whether a job of the report reads a record that one of these measurements makes."""
    if job.rule == "claims":
        return bool(measurements & set(RECORDS.values()))
    finding = TABLES[str(job.table)] if job.rule == "table" else FIGURES[str(job.figure)]
    needs = {RECORDS[name] for name in finding.needs if name != "claims"}
    return bool(needs & measurements)


CONFIG_EDITS: dict[str, tuple[dict, Expected]] = {
    "nothing": ({}, nothing),
    "the decimals of tables": (
        {"report": {"tables": {"decimals": 2}}},
        rules("table"),
    ),
    "the resolution of figures": (
        {"report": {"figures": {"dpi": 90}}},
        rules("figure"),
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
    "what makes classes of features": (
        {"suites": {"images": {"head": "frozen"}}},
        with_report(rules("baseline", *USES_MODEL, suite="images")),
    ),
    "the scale of the cosines": (
        {"suites": {"images": {"logit_scale": 20.0}}},
        rules("baseline", *USES_MODEL, suite="images"),
    ),
    "the scale of cosines that there are none of": (
        {"suites": {"glue": {"logit_scale": 20.0}}},
        nothing,
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
        lambda job: (
            job.figure in METHOD
            or chain(lambda j: j.strategy == "coto" or j.rule in ("overhead", "geometry"))(job)
        ),
    ),
    "two values swapped": (
        {"suites": {"glue": {"train": {"steps": 8, "batch_size": 6}}}},
        chain(lambda j: j.suite == "glue"),
    ),
    "the masking of the loss": (
        {"suites": {"commonsense": {"train": {"loss_on": "all"}}}},
        with_report(chain(lambda j: j.suite == "commonsense")),
    ),
    "long rows left out": (
        {"suites": {"glue": {"train": {"too_long": "leave_out"}}}},
        lambda j: j.suite == "glue",
    ),
    "the length that rows must fit": (
        {"suites": {"glue-frozen": {"train": {"max_length": 24}}}},
        lambda j: j.suite == "glue-frozen",
    ),
    "a frozen head": (
        {"suites": {"glue": {"head": "frozen"}}},
        with_report(lambda j: j.suite == "glue" and j.rule != "prepare"),
    ),
    "the blocks of a backbone": (
        {"backbones": {"smollm2-6": {"blocks": 4}}},
        lambda j: j.suite == "commonsense" and j.rule != "prepare",
    ),
    "the shots": (
        {"suites": {"images": {"rows": {"shots": 3}}}},
        # The probe is fitted on as many.
        with_report(rules("baseline", *USES_MODEL, suite="images")),
    ),
    "how answers are found": (
        {"suites": {"commonsense": {"evaluation": {"batch_tokens": 64}}}},
        lambda j: j.suite == "commonsense" and j.rule != "prepare",
    ),
    "one task's training": (
        {"suites": {"glue": {"train": {"per_task": {"same-source": {"steps": 7}}}}}},
        # The time is measured on the first task. What uses adapters uses every task's.
        chain(lambda j: j.suite == "glue" and (j.task == "same-source" or j.rule in USES_ADAPTERS)),
    ),
    "the reported rows": (
        {"suites": {"glue": {"rows": {"test": 24}}}},
        with_report(lambda j: j.suite == "glue"),
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
        with_report(rules("geometry", suite="glue"), METHOD | {"training_time"}),
    ),
    "a strategy taken away": (
        {"suites": {"glue": {"strategies": ["vanilla"]}}},
        with_report(rules("overhead", "geometry", suite="glue"), METHOD),
    ),
}
