"""Real data of a mirror of the hub, through the same rules as the offline tasks."""

import json
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from tests.workflow.conftest import ROOT, Checkout


def mirror() -> Path | None:
    folder = Path(os.environ.get("COTO_MIRROR", ROOT.parent / "shared" / "hub"))
    return folder if (folder / "nyu-mll/glue/rte").is_dir() else None


pytestmark = pytest.mark.skipif(mirror() is None, reason="no mirror of the hub: set COTO_MIRROR")
WHOLE = {"too_long": "cut", "loss_on": "answer"}
ROWS = {"train": 96, "validation": 32, "test": 64}


def made(checkout: Checkout, suite: str, settings: dict[str, Any], *targets: str) -> pd.DataFrame:
    """Rows of the records that a run of one suite on the mirror makes."""
    overlay = {
        "results": f"results/real-{suite}",
        "data": {"mirror": str(mirror())},
        "suites": {suite: {"seeds": [0], **settings}},
    }
    (checkout.root / f"{suite}.yaml").write_text(yaml.safe_dump(overlay))
    files = [f"results/real-{suite}/{suite}/{target}" for target in targets]
    done = checkout.snakemake(*files, "--cores", "1", configs=[f"{suite}.yaml"])
    assert done.returncode == 0, done.stdout + done.stderr
    records = [json.loads((checkout.root / file).read_text()) for file in files]
    return pd.concat([pd.DataFrame(r["rows"]).assign(stage=r["stage"]) for r in records])


def test_glue_trains_and_merges(checkout: Checkout):
    settings = {"tasks": ["rte", "cola"], "adapters": ["lora"], "rows": ROWS}
    rows = made(checkout, "glue", settings, "merge/lora-coto/seed0.json")
    assert set(rows["task"]) == {"rte", "cola"}
    assert set(rows.loc[rows["task"] == "cola", "metric"]) == {"accuracy", "matthews_correlation"}
    assert set(rows["n"]) == {64}


def test_commonsense_is_scored_by_both_protocols_beside_its_baselines(checkout: Checkout):
    settings = {
        "tasks": ["commonsense-18k"],
        "rows": {"train": 16, "validation": 2, "test": 2},
        "train": {"steps": 2, "batch_size": 2, "max_length": 192} | WHOLE,
        "evaluation": {"protocols": ["generate", "ranking"], "max_new_tokens": 6},
    }
    run = "commonsense-18k/dora-coto/lr0.002/seed0"
    rows = made(checkout, "commonsense", settings, f"{run}/train.json", "baseline.json")
    sets = {"boolq", "piqa", "arc_easy", "arc_challenge", "openbookqa"}
    trained = rows[(rows["stage"] == "train") & (rows["split"] == "test")]
    assert set(trained["task"]) == sets
    ranked = {"accuracy", "accuracy_norm"}
    assert set(trained["metric"]) == {*ranked, "accuracy_calibrated", "generated"}
    own = {"boolq"}  # the only set here whose items all have the same answers
    assert own <= set(trained.loc[trained["metric"] == "accuracy_calibrated", "task"])
    assert set(trained.loc[trained["headline"], "metric"]) == {"generated"}
    assert set(trained["n"]) == {2}
    bare = rows[rows["stage"] == "baseline"]
    assert set(bare["method"]) == {"zero-shot", "majority", "random", "probe"}
    assert set(bare.loc[bare["method"] == "zero-shot", "task"]) == sets
    answers = pd.read_parquet(
        checkout.root / f"results/real-commonsense/commonsense/{run}/answers.parquet"
    )
    assert answers.groupby(["task", "protocol"]).size().to_dict() == {
        (name, protocol): 2 for name in sets for protocol in ("generate", "ranking")
    }


def test_alphabets_are_learned_from_few_drawings_and_pruned(checkout: Checkout):
    settings = {
        "tasks": ["omniglot-latin", "omniglot-early-aramaic"],
        "rows": {"shots": 5, "validation": None, "test": None},
        "train": {"steps": 30, "batch_size": 16},
    }
    rows = made(checkout, "images", settings, "prune/hira-coto/seed0.json")
    whole = rows[rows["keep"] == "all"].set_index("task")
    assert whole["n"].to_dict() == {"omniglot-latin": 156, "omniglot-early-aramaic": 132}
    assert (whole["value"] > 0.2).all()  # guessing gives 4 %
