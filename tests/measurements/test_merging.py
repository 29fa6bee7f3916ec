"""Merging: every operator by name, its draws, what it measures, refuses and leaves."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from peft import PeftModel

from coto import record
from coto.adapters.delta import deltas
from coto.adapters.store import read_adapter
from coto.config.plan import Plan
from coto.models import encoder
from coto.models.encoder import encode, predict
from coto.models.weights import base_weights, changed
from coto.operators.operator import OPERATORS
from tests.measurements.conftest import job_of, plan_of, run_job
from tests.measurements.random_runs import CPU, copy_rows, leave_run

TASKS = ["movies", "news"]


def plan_with(**glue: Any) -> Plan:
    return plan_of(suites={"glue": {"tasks": TASKS, "merging": {"repeats": 2}, **glue}})


@pytest.fixture
def two_tasks(root: Path) -> Path:
    copy_rows(root, "movies", "news")
    for task in TASKS:
        leave_run(root, plan_with(), task, "lora", "coto", 0)
    return root


def merged(root: Path, plan: Plan) -> dict[str, Any]:
    return record.read(run_job(root, plan, "merge", adapter="lora", strategy="coto", seed=0))


def test_every_operator_is_scored_on_every_task_once_per_draw(two_tasks):
    found = merged(two_tasks, plan_with())
    count = {
        name: sum(row["operator"] == name for row in found["rows"]) / len(TASKS)
        for name in OPERATORS
    }
    drawn = {"lora-lego", "dare", "dare-ties"}
    assert count == {name: 2 if name in drawn else 1 for name in OPERATORS}
    assert found["gaps"] == []
    align = [row for row in found["measured"] if row["operator"] == "lora-align"]
    gaps = {row["module"]: row["value"] for row in align if row["measure"] == "gap_before"}
    after = {row["module"]: row["value"] for row in align if row["measure"] == "gap_after"}
    assert len(gaps) == 19  # the whole adapter, and 18 modules
    assert all(after[module] <= gaps[module] for module in gaps)


def test_task_arithmetic_of_one_half_is_the_ensemble(two_tasks):
    settings = {"task-arithmetic": {"scale": 0.5}}
    plan = plan_with(merging={"settings": settings})
    rows = merged(two_tasks, plan)["rows"]
    value = {(row["operator"], row["task"]): row["value"] for row in rows}
    for task in TASKS:
        assert value["task-arithmetic", task] == value["ensemble", task]


def test_what_is_not_defined_is_a_gap_with_its_reason(two_tasks):
    weights = {"movies": 0.7, "news": 0.3}
    operators = ["fusion", "lora-lego"]
    found = merged(two_tasks, plan_with(merge={"weights": weights, "operators": operators}))
    assert {row["operator"] for row in found["rows"]} == {"fusion"}
    (gap,) = found["gaps"]
    assert gap["operator"] == "lora-lego"
    assert gap["reason"].startswith("lora-lego: weights 0.7, 0.3: expected equal ones")


def test_kept_merges_are_plain_peft_adapters(root):
    plan = plan_of(
        suites={
            "glue": {
                "merging": {"repeats": 1},
                "interpolate": {
                    "weights": [0.0, 0.5, 1.0],
                    "operators": ["fusion", "ensemble"],
                    "halfway": ["lora-lego", "ties"],
                },
            }
        }
    )
    for seed in (0, 1):
        leave_run(root, plan, "movies", "lora", "coto", seed)
    at = {"adapter": "lora", "strategy": "coto", "seeds": "0-1"}
    job, out = job_of(root, plan, "interpolate", **at), run_job(root, plan, "interpolate", **at)
    folder = out.with_suffix("") / "movies"
    assert {path.name for path in folder.iterdir()} == {"fusion", "ensemble", "lora-lego"}
    base = encoder.load(job.settings.loading.backbone, CPU.device, num_labels=2, seed=3)
    rows = encode(job.rows("glue", "movies", "test"), base.tokenizer, 16).inputs
    for name in ("fusion", "ensemble", "lora-lego"):
        adapter = read_adapter(folder / name)
        change = deltas(adapter, base_weights(base.model, list(adapter.modules)))
        with changed(base.model, change, adapter.heads) as model:
            ours = predict(model, rows, base.tokenizer, CPU, 256)
        plain = PeftModel.from_pretrained(base.model, folder / name)
        theirs = predict(plain, rows, base.tokenizer, CPU, 256)
        plain.unload()  # the base model again, with its own head
        np.testing.assert_allclose(ours, theirs, atol=2e-5)
    points = {(row["operator"], row["weight"]) for row in record.read(out)["rows"]}
    assert ("ties", 0.5) in points
    assert ("ties", 0.0) not in points
    assert ("ensemble", 1.0) in points


def test_three_seeds_are_merged_by_every_operator_at_their_centre(root):
    halfway = ["lora-align", "ties"]
    plan = plan_of(suites={"glue": {"seeds": [0, 1, 2], "interpolate": {"halfway": halfway}}})
    for seed in range(3):
        leave_run(root, plan, "movies", "hira", "coto", seed)
    out = run_job(root, plan, "interpolate", adapter="hira", strategy="coto", seeds="0-1-2")
    rows = record.read(out)["rows"]
    assert {row["operator"] for row in rows} == {"fusion", "ensemble", *halfway}
    assert all(row["weight"] == pytest.approx(1 / 3) for row in rows)


def test_tasks_are_merged_with_a_seed_of_their_own_each_on_request(two_tasks):
    operators = ["fusion", "lora-align"]
    plan = plan_with(merge={"operators": operators, "different_seeds": True})
    for task in TASKS:
        leave_run(two_tasks, plan, task, "lora", "coto", 1)
    found = merged(two_tasks, plan)
    kinds = [(row["operator"], row["seeds"]) for row in found["rows"]]
    assert sorted(set(kinds)) == [(o, s) for o in operators for s in ("different", "same")]
    assert len(kinds) == 2 * len(operators) * len(TASKS)
    # Runs of one seed begin with the same A, which makes the gap to the ensemble smaller.
    gaps = {
        row["task"]: row["value"]
        for row in found["measured"]
        if row["measure"] == "gap_before" and not row["module"]
    }
    assert set(gaps) == {"all", "all, different seeds"}
