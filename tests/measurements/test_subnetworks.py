"""Sub-networks of real runs: what the analyses say agrees with scores that are taken one by one."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from coto import record
from coto.adapters.delta import deltas
from coto.config import paths
from coto.config.plan import Plan
from coto.measurements.evaluation import Evaluator
from coto.measurements.select import trained as folder_of
from tests.measurements.conftest import job_of, plan_of, run_job
from tests.measurements.random_runs import describe, leave_run


def plan_with(**chosen: Any) -> Plan:
    return plan_of(suites={"glue": {"subnetworks": chosen}})


def rows_of(root: Path, plan: Plan, strategy: str = "coto") -> pd.DataFrame:
    out = run_job(root, plan, "subnetworks", adapter="lora", strategy=strategy, seed=0)
    return pd.DataFrame(record.read(out)["rows"])


@pytest.fixture
def trained(root: Path) -> Path:
    leave_run(root, plan_of(), "movies", "lora", "coto", 0)
    return root


def test_contributions_add_up_and_curves_end_at_the_model(trained):
    rows = rows_of(trained, plan_with())
    assert set(rows["evaluations"]) == {64}
    for measure, sign in (("score", 1), ("loss", -1)):
        ours = rows[rows["measure"] == measure]
        phi = ours[ours["analysis"] == "shapley"].set_index("player")["value"]
        assert len(phi) == 7
        assert phi.drop("total").sum() == pytest.approx(phi["total"])
        curve = ours[ours["analysis"] == "stability"].set_index("x")["value"]
        assert sign * (curve[1.0] - curve[0.0]) == pytest.approx(phi["total"])
    theorem = rows[rows["analysis"] == "theorem"].pivot(
        index="x", columns="measure", values="value"
    )
    assert (theorem["expected"] >= theorem["mean-outputs"] - 1e-9).all()
    assert (theorem["expected"] > theorem["mean-outputs"] + 1e-6).any()
    for end in (0.0, 1.0):
        assert theorem.loc[end, "mean-outputs"] == pytest.approx(theorem.loc[end, "expected"])
        assert theorem.loc[end, "mean-weights"] == pytest.approx(theorem.loc[end, "expected"])
    stability = rows[(rows["analysis"] == "stability") & (rows["measure"] == "loss")]
    assert stability["value"].to_numpy() == pytest.approx(theorem["expected"].to_numpy())


def test_two_players_by_hand(trained):
    plan = plan_with(groups=2)
    rows = rows_of(trained, plan)
    job = job_of(trained, plan, "subnetworks", adapter="lora", strategy="coto", seed=0)
    evaluator = Evaluator(job)
    adapter = job.adapter(folder_of(job, "movies", 0))
    change = deltas(adapter, evaluator.weights(list(adapter.modules)))
    low = {name: d for name, d in change.items() if int(name.split(".")[3]) < 3}
    high = {name: d for name, d in change.items() if name not in low}
    loss = {
        key: evaluator.score("movies", part, adapter.heads)[0].loss
        for key, part in {"none": {}, "low": low, "high": high, "all": change}.items()
    }
    phi = rows[(rows["analysis"] == "shapley") & (rows["measure"] == "loss")]
    phi = phi.set_index("player")["value"]
    by_hand = ((loss["none"] - loss["low"]) + (loss["high"] - loss["all"])) / 2
    assert phi["bert.encoder.layer.0-2"] == pytest.approx(by_hand, rel=1e-5)
    assert phi["bert.encoder.layer.3-5"] == pytest.approx(
        loss["none"] - loss["all"] - by_hand, rel=1e-5
    )
    half = rows[(rows["analysis"] == "stability") & (rows["measure"] == "loss")]
    assert half.set_index("x").loc[0.5, "value"] == pytest.approx(sum(loss.values()) / 4)


def test_single_adapters_are_players_of_their_own(trained):
    rows = rows_of(trained, plan_with(players="module", levels=2, pairs=2, samples=2, rows=6))
    phi = rows[(rows["analysis"] == "shapley") & (rows["player"] != "total")]
    assert phi.groupby("measure")["projection"].value_counts().eq(6).all()
    assert set(phi["projection"]) == {"query", "key", "value"}
    assert (phi["error"] > 0).any()


def test_early_stopped_coto_is_the_snapshot_of_the_same_run(trained):
    plan = plan_with(early_stop=0.5)
    at = {"adapter": "lora", "strategy": "coto", "seed": 0}
    run = job_of(trained, plan, "train", task="movies", lr="0.004", **at)
    assert run.settings.train.snapshots == (0.5,)
    folder = run.outputs["adapter"]
    # The "snapshot" is another run's adapter, to tell the two apart.
    other = leave_run(trained, plan_of(), "movies", "lora", "coto", 1)
    snapshot = Path(paths.snapshot(str(folder), 0.5))
    snapshot.parent.mkdir(parents=True)
    other.rename(snapshot)
    describe(folder)
    rows = rows_of(trained, plan)
    totals = rows[(rows["player"] == "total") & (rows["measure"] == "loss")]
    totals = totals.set_index("strategy")["value"]
    assert set(totals.index) == {"coto", "coto-early"}
    assert totals["coto"] != totals["coto-early"]
    leave_run(trained, plan_of(), "movies", "lora", "vanilla", 0)
    assert set(rows_of(trained, plan, "vanilla")["strategy"]) == {"vanilla"}


def test_runs_are_compared_with_each_other_and_with_their_start(root):
    plan = plan_of(suites={"glue": {"adapters": ["hira"], "seeds": [0, 1]}})
    for strategy in ("vanilla", "coto"):
        for seed in (0, 1):
            leave_run(root, plan, "movies", "hira", strategy, seed)
    out = run_job(root, plan, "geometry", adapter="hira")
    rows = pd.DataFrame(record.read(out)["rows"])
    assert len(rows) == 6 + 2 * 4
    start = rows[rows["other_strategy"] == "start"].set_index(["strategy", "seed"])
    job = job_of(root, plan, "prune", adapter="hira", strategy="coto", seed=1)
    evaluator = Evaluator(job)
    adapter = job.adapter(folder_of(job, "movies", 1))
    change = deltas(adapter, evaluator.weights(list(adapter.modules)))
    mean = sum(float(delta.norm()) for delta in change.values()) / len(change)
    assert start.loc[("coto", 1), "euclidean"] == pytest.approx(mean, rel=1e-5)
