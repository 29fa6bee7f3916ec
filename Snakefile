"""CoTo, reproduced: trains, merges, prunes and evaluates adapters, and reports on the paper's claims.

snakemake                    everything, with the laptop's config.yaml
snakemake tables             only the tables; likewise figures, claims, or a suite by its name
snakemake --configfile configs/smoke.yaml
snakemake learning_rates --configfile configs/lr-search.yaml
"""

import sys

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.utils import min_version

sys.path.insert(0, workflow.basedir)

from coto.findings.jobs import REPORTS
from coto.findings.possible import messages
from coto.measurements import MEASUREMENTS
from coto.workflow.load import ConfigError, validate
from coto.workflow.rules import Rules, let_jobs_run

min_version("9.0")


configfile: f"{workflow.basedir}/config.yaml"


try:
    ask = Rules(plan := validate(config))
except ConfigError as error:
    raise WorkflowError(f"the configuration cannot be used:\n{error}")

for message in messages(plan):
    logger.warning(message)

# The report's captions quote the complete configuration.
config.update(plan.config.model_dump())
config["captions"] = ask.captions()

let_jobs_run(workflow.basedir, plan.config.plugins)


wildcard_constraints:
    backbone="[a-z0-9_.-]+",
    suite="[a-z0-9._-]+",
    task="[a-z0-9_-]+",
    adapter="[a-z0-9_]+",
    strategy="[a-z0-9-]+",
    lr="[0-9.e+-]+",
    seed="[0-9]+",
    seeds="[0-9]+(-[0-9]+)+",
    table="[a-z0-9_]+",
    figure="[a-z0-9_]+",
    study="[a-z0-9_]+",


localrules:
    all,
    tables,
    figures,


report: "rules/captions/workflow.rst"


include: "rules/measurements.smk"
include: "rules/report.smk"


rule all:
    default_target: True
    input:
        tables=rules.tables.input,
        figures=rules.figures.input,
        claims=rules.claims.output,
        rates=ask.refused(),
