"""Small jobs for single stages: real backbone, few rows."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from coto.config import paths
from coto.config.load import overlay, validate
from coto.config.plan import Plan
from coto.stages.job import Job

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
            "interpolate": {"halfway": []},
            "subnetworks": {"rows": None, "early_stop": None, "groups": None},
        }
    },
}
AT = ("glue", "movies")


def plan_of(**over: Any) -> Plan:
    """The default configuration made tiny, with changes."""
    default = yaml.safe_load((ROOT / "config.yaml").read_text())
    return Plan(validate(overlay(overlay(default, TINY), over)))


def job_of(root: Path, settings: str, **more: Any) -> Job:
    """A job in a results folder."""
    return Job(json.loads(settings), root, **more)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A results folder with rows that need no corpus."""
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
        path = tmp_path / paths.data(*AT, split)
        path.parent.mkdir(parents=True, exist_ok=True)
        frame.to_parquet(path)
    return tmp_path
