"""CoTo, reproduced: trains, merges, prunes and evaluates adapters, and reports on the paper's claims.

snakemake                    everything, with the laptop's config.yaml
snakemake tables             only the tables; likewise figures, claims, or a suite by its name
snakemake --configfile configs/smoke.yaml
"""

import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import min_version

sys.path.insert(0, workflow.basedir)

from coto.cli import module_of
from coto.config import paths
from coto.config.fingerprint import fingerprint
from coto.config.load import ConfigError, validate
from coto.config.plan import Plan
from coto.config.wiring import Wiring, let_jobs_run

min_version("9.0")


configfile: f"{workflow.basedir}/config.yaml"


try:
    wire = Wiring(plan := Plan(validate(config)))
except ConfigError as error:
    raise WorkflowError(f"the configuration cannot be used:\n{error}")

# The report's captions quote the complete configuration.
config.update(plan.config.model_dump())

let_jobs_run(workflow.basedir)


wildcard_constraints:
    backbone="[a-z0-9_.-]+",
    suite="[a-z0-9._-]+",
    task="[a-z0-9_-]+",
    adapter="[a-z0-9_]+",
    strategy="[a-z0-9-]+",
    lr="[0-9.e+-]+",
    seed="[0-9]+",
    seeds="[0-9]+(-[0-9]+)+",


localrules:
    all,


report: "rules/captions/workflow.rst"


include: "rules/data.smk"
include: "rules/baseline.smk"
include: "rules/train.smk"
include: "rules/merge.smk"
include: "rules/prune.smk"
include: "rules/analyse.smk"
include: "rules/studies.smk"
include: "rules/overhead.smk"
include: "rules/report.smk"


rule all:
    default_target: True
    input:
        tables=rules.tables.output,
        figures=rules.figures.output,
        claims=rules.claims.output,
