"""Small jobs of single measurements: real backbone, few rows."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from coto.config import paths
from coto.config.plan import Plan
from coto.measurements import MEASUREMENTS
from coto.measurements.base import Cell, Job
from coto.operators.operator import OPERATORS
from coto.workflow.load import overlay, validate

QKV = ("query", "key", "value")
ROOT = Path(__file__).resolve().parents[2]
TINY = {
    "precision": "fp32",
    "device": "cpu",
    "suites": {
        "glue": {
            "tasks": ["movies"],
            "adapters": ["lora", "dora", "hira"],
            "learning_rates": {
                "lora": [4.0e-3],
                "lora-coto": [4.0e-3],
                "dora": [4.0e-3],
                "hira": [1.0e-2],
            },
            "train": {"steps": 4, "batch_size": 4, "max_length": 16, "backbone_dropout": 0.1},
            # Tests say what they need of these.
            "seeds": [0, 1],
            "interpolate": {"operators": ["fusion", "ensemble"], "halfway": []},
            "merge": {"operators": list(OPERATORS)},
            "prune": {"keep": [*("all", "odd", "even", "low", "middle", "high"), *QKV]},
            "subnetworks": {"rows": None, "early_stop": None, "groups": None},
        }
    },
}
AT = ("glue", "movies")


def plan_of(**over: Any) -> Plan:
    """The default configuration made tiny, with changes."""
    default = yaml.safe_load((ROOT / "config.yaml").read_text())
    return validate(overlay(overlay(default, TINY), over))


def cell_of(**at: Any) -> Cell:
    """A place in the grid; the suite is the tiny one."""
    return Cell(**{"suite": "glue", **{name: str(value) for name, value in at.items()}})


def job_of(root: Path, plan: Plan, name: str, **at: Any) -> Job[Any]:
    """A measurement's job in a results folder, as the workflow would start it."""
    measurement, cell = MEASUREMENTS[name], cell_of(**at)
    settings = measurement.build(plan, cell)
    # Through JSON, as on the command line.
    settings = measurement.settings.model_validate_json(settings.model_dump_json())
    outputs = {output: root / measurement.path(cell, output) for output in measurement.outputs}
    return Job(settings, root, outputs)


def run_job(root: Path, plan: Plan, name: str, **at: Any) -> Path:
    """Run a measurement's job; returns the path of its record."""
    job = job_of(root, plan, name, **at)
    MEASUREMENTS[name].run(job)
    return job.outputs[name]


def write_rows(folder: Path) -> Path:
    """Leave rows that need no corpus in a results folder."""
    words = ["fine", "dull", "great", "poor", "superb", "weak", "lovely", "bad", "rich", "awful"]
    for split, count in {"train": 48, "validation": 8, "test": 12}.items():
        frame = pd.DataFrame(
            {
                "text": [
                    f"a {words[i % 10]} film {'indeed ' * (i % 5)}no {i}" for i in range(count)
                ],
                "label": [(i + 1) % 2 for i in range(count)],
                "idx": range(count),
            }
        )
        path = folder / paths.data(*AT, split)
        path.parent.mkdir(parents=True, exist_ok=True)
        frame.to_parquet(path)
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A results folder with rows that need no corpus."""
    return write_rows(tmp_path)
