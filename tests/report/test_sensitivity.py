"""What a suite must show before its verdict on a claim means anything."""

from pathlib import Path

import pandas as pd
import pytest

from coto.findings import load_all
from coto.report.claim import CLAIMS
from coto.report.records import load_frames
from coto.report.sensitivity import worth
from coto.report.settings import Settings
from coto.report.statistics import CANNOT
from coto.report.verdicts import Result, evaluate
from tests.report.factory import make_records
from tests.report.factory_analysis import make_analyses

load_all()
NAMES = ("pruning", "merging-fusion", "lmc-midpoint", "single-task")
SOME = {name: CLAIMS[name] for name in NAMES}


def verdicts(
    frames: dict[str, pd.DataFrame], settings: Settings | None = None
) -> dict[str, Result]:
    results = evaluate(frames, settings or Settings(resamples=50), SOME)
    return {r.claim + f"/{r.task}" * bool(r.task): r for r in results}


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pd.DataFrame]:
    """Adapters that are worth 30 points, and a barrier of 18 points."""
    root: Path = tmp_path_factory.mktemp("sensitive")
    return load_frames(make_records(root, tasks=("movies", "news"), adapters=("lora",)))


def test_a_suite_whose_adapters_are_worth_little_cannot_test_pruning(
    frames: dict[str, pd.DataFrame],
) -> None:
    sensitive = verdicts(frames)
    assert {sensitive[name].verdict for name in NAMES[:3]} == {"supported"}
    assert sensitive["pruning"].sensitivity == pytest.approx(30, abs=1)
    none = frames["none"].assign(value=frames["none"]["value"] + 0.26)
    found = verdicts({**frames, "none": none})
    for name in ("pruning", "merging-fusion", "merging-fusion/news"):
        assert found[name].verdict == CANNOT
        assert "all adapters minus with none: +" in found[name].reason
        assert "expected at least 5, with the interval above 0" in found[name].reason
        assert found[name].effect == sensitive[name].effect
    # It stays in its family, and connectivity has another measure.
    assert found["merging-fusion"].tests == sensitive["merging-fusion"].tests == 2
    assert found["lmc-midpoint"].verdict == "supported"
    lower = Settings(resamples=50, sensitivity=2.0)
    assert verdicts({**frames, "none": none}, lower)["pruning"].verdict == "supported"


def test_an_interval_that_reaches_0_is_not_enough(frames: dict[str, pd.DataFrame]) -> None:
    none = frames["none"].copy()
    none.loc[none["seed"] == 0, "value"] -= 0.5
    found = verdicts({**frames, "none": none})["pruning"]
    assert found.sensitivity is not None
    assert found.sensitivity > 40
    assert (found.sensitivity_low or 0) < 0
    assert found.verdict == CANNOT


def test_without_a_barrier_connectivity_cannot_be_tested(
    frames: dict[str, pd.DataFrame],
) -> None:
    paths = frames["interpolate"].copy()
    middle = (paths["strategy"] == "vanilla") & (paths["weight"] == 0.5)
    paths.loc[middle & (paths["operator"] == "fusion"), "value"] += 0.17
    found = verdicts({**frames, "interpolate": paths})
    assert found["lmc-midpoint"].verdict == CANNOT
    assert "half-way between two seeds" in found["lmc-midpoint"].reason
    assert (found["pruning"].verdict, found["single-task"].sensitivity) == ("supported", None)
    # Without its ends, a path has no barrier that is known of.
    ends = frames["interpolate"][frames["interpolate"]["weight"] == 0.5]
    found = verdicts({**frames, "interpolate": ends})
    assert (found["lmc-midpoint"].verdict, found["lmc-midpoint"].sensitivity) == (CANNOT, None)
    assert "interpolate.weights" in found["lmc-midpoint"].reason


def test_what_no_record_tells_is_said(frames: dict[str, pd.DataFrame], tmp_path: Path) -> None:
    without = {**frames, "none": frames["none"].iloc[:0]}
    found = verdicts(without)["pruning"]
    assert (found.verdict, found.sensitivity) == (CANNOT, None)
    assert "none.json beside train.json, or subnetworks" in found.reason
    # Sub-networks know it, too.
    more = load_frames(make_analyses(tmp_path, tasks=("movies", "news"), adapters=("lora",)))
    both = {**without, "subnetworks": more["subnetworks"]}
    assert verdicts(both)["pruning"].sensitivity == pytest.approx(30)
    # The runs score all test rows: where both know it, they have their say.
    on_all = {**both, "none": frames["none"]}
    assert len(worth(on_all)) == len(worth(both))
    assert (worth(on_all).query("strategy == 'vanilla'")["value"] != 0.3).all()


def test_too_few_seeds_are_named_before_a_missing_interval(tmp_path: Path) -> None:
    made = make_records(tmp_path, tasks=("movies", "news"), adapters=("lora",), seeds=(0, 1))
    found = verdicts(load_frames(made))
    for name in NAMES:
        assert (found[name].verdict, found[name].low) == ("inconclusive", None)
        assert found[name].reason == "needs at least 3 seeds, has 2"


def test_tasks_of_different_seeds_are_merged_beside_those_of_one(
    frames: dict[str, pd.DataFrame],
) -> None:
    merge = frames["merge"]
    gain = 0.02 * (merge["strategy"] == "coto") - 0.1
    both = pd.concat([merge, merge.assign(seeds="different", value=merge["value"] + gain)])
    claims = {name: CLAIMS[name] for name in ("merging-fusion", "merging-fusion-seeds")}
    results = evaluate({**frames, "merge": both}, Settings(resamples=50), claims)
    effects = {(r.claim, r.task): r.effect for r in results if r.effect is not None}
    assert len(effects) == 2 * 3  # on average and for each of two tasks
    for task in ("", "movies", "news"):
        gap = effects["merging-fusion-seeds", task] - effects["merging-fusion", task]
        assert gap == pytest.approx(2)
    assert {r.role for r in results if r.claim == "merging-fusion-seeds"} == {"secondary"}
