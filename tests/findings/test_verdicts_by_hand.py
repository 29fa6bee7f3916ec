"""Every main test computed again from the rows of the records, with numpy and scipy alone."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from coto.findings import load_all
from coto.findings.make import make_claims
from coto.report.claim import CLAIMS
from coto.report.settings import Settings
from tests.report.factory import make_records
from tests.report.factory_analysis import LAYERS, make_analyses

load_all()
SEEDS = (0, 1, 2, 3)
SETTINGS = Settings(margin=1.0, sensitivity=5.0, barrier=2.0, confidence=0.95)
Row = dict[str, Any]
Records = dict[str, list[Path]]
# Values by what is averaged over, strategy, and seed or pair of seeds.
Cells = dict[tuple[Any, str, Any], float]


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Records:
    """Four seeds of two tasks, two adapter kinds and three strategies."""
    root = tmp_path_factory.mktemp("by_hand")
    tasks = ("movies", "news")
    found = make_records(
        *(root,),
        tasks=tasks,
        seeds=SEEDS,
        strategies=("vanilla", "coto", "dropout"),
        share_of_gain={"vanilla": 0.0, "coto": 1.0, "dropout": 0.4},
        noise=0.02,
    )
    for stage, paths in make_analyses(root, tasks=tasks, seeds=SEEDS, uneven=0.004).items():
        found[stage] = [*found.get(stage, []), *paths]
    return found


@pytest.fixture(scope="module")
def claims(records: Records, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    folder = tmp_path_factory.mktemp("claims")
    make_claims(records, folder, SETTINGS, answers=False)
    return pd.read_csv(folder / "claims.csv", keep_default_na=False, na_values=[""])


def rows_of(records: Records, stage: str, **where: Any) -> Iterator[Row]:
    for path in records[stage]:
        for row in json.loads(path.read_text())["rows"]:
            if all(row.get(name) == value for name, value in where.items()):
                yield row


def pair_of(row: Row) -> tuple[int, ...]:
    return tuple(map(int, row["seeds"].split("-")))


def plain(rows: Iterator[Row]) -> Cells:
    """The value of each run, or pair of runs."""
    return {
        (
            (row["task"], row["adapter"]),
            row["strategy"],
            pair_of(row) if "-" in str(row.get("seeds", "")) else row["seed"],
        ): row["value"]
        for row in rows
    }


def curves(rows: Iterator[Row], x: str) -> Cells:
    """The mean height of each run's curve."""
    points: dict[Any, list[tuple[float, float]]] = defaultdict(list)
    for row in rows:
        key = (row["task"], row["adapter"]), row["strategy"], row["seed"]
        points[key].append((row[x], row["value"]))
    cells = {}
    for key, curve in points.items():
        at, height = np.array(sorted(curve)).T
        steps = (height[1:] + height[:-1]) / 2 * np.diff(at)
        cells[key] = float(steps.sum() / (at[-1] - at[0]))
    return cells


def single_task(records: Records) -> Cells:
    return plain(rows_of(records, "train", split="test", metric="accuracy"))


def variants(records: Records) -> Cells:
    return {key: value for key, value in single_task(records).items() if key[0][1] == "dora"}


def training_time(records: Records) -> Cells:
    times: dict[Any, list[float]] = defaultdict(list)
    for row in rows_of(records, "overhead"):
        times[row["adapter"], row["strategy"]].append(row["seconds_per_step"])
    return {
        (adapter, strategy, repeat): 1 - seconds / times[adapter, "vanilla"][repeat]
        for (adapter, strategy), all_of_them in times.items()
        for repeat, seconds in enumerate(all_of_them)
    }


def midpoint(records: Records) -> Cells:
    return plain(rows_of(records, "interpolate", operator="fusion", weight=0.5))


def merging(records: Records) -> Cells:
    return plain(rows_of(records, "merge", operator="fusion"))


def pruning(records: Records) -> Cells:
    kept: dict[Any, dict[str, float]] = defaultdict(dict)
    for row in rows_of(records, "prune", method="structured"):
        key = (row["task"], row["adapter"]), row["strategy"], row["seed"]
        kept[key][row["keep"]] = row["value"]
    ways = ("low", "middle", "high", "query", "key", "value")
    return {
        key: float(np.mean([(of["odd"] + of["even"]) / 2, *(of[way] for way in ways)]))
        for key, of in kept.items()
    }


def unstructured(records: Records) -> Cells:
    return curves(rows_of(records, "prune", method="magnitude-factors-global"), "sparsity")


def stability(records: Records) -> Cells:
    return curves(rows_of(records, "subnetworks", analysis="stability", measure="score"), "x")


def balance(records: Records) -> Cells:
    shares: dict[Any, np.ndarray] = defaultdict(lambda: np.zeros(LAYERS))
    for row in rows_of(records, "subnetworks", analysis="shapley", measure="loss"):
        if row["player"] != "total":
            key = (row["task"], row["adapter"]), row["strategy"], row["seed"]
            shares[key][row["layer"]] = row["value"]
    top = LAYERS // 3
    return {key: abs(phi[-top:].sum() / phi.sum() - 1 / 3) for key, phi in shares.items()}


def rivals(records: Records) -> Cells:
    """Dropout, the only other strategy, stands where vanilla did."""
    return {
        (unit, strategy.replace("dropout", "vanilla"), seed): value
        for (unit, strategy, seed), value in midpoint(records).items()
        if strategy != "vanilla"
    }


# Cells, the sign that is claimed, and the margin in points.
BY_HAND: dict[str, tuple[Callable[[Records], Cells], int, float]] = {
    "single-task": (single_task, 1, 0.5),
    "variants": (variants, 1, 0.5),
    "training-time": (training_time, 1, 2.0),
    "lmc-midpoint": (midpoint, 1, 1.0),
    "merging-fusion": (merging, 1, 1.0),
    "pruning": (pruning, 1, 1.0),
    "unstructured-pruning": (unstructured, 1, 1.0),
    "dropout-stability": (stability, 1, 1.0),
    "balanced-contribution": (balance, -1, 5.0),
    "strategies": (rivals, 1, 1.0),
}
WORTH = ("merging-fusion", "pruning", "unstructured-pruning", "dropout-stability")
WORTH += ("balanced-contribution",)
PATHS = ("lmc-midpoint", "strategies")


def jackknifed(values: dict[Any, float]) -> list[float]:
    """One value per seed, of values by seed or by pair of seeds."""
    if not isinstance(next(iter(values)), tuple):
        return [values[seed] for seed in sorted(values)]
    seeds = sorted({seed for pair in values for seed in pair})
    assert set(values) == set(combinations(seeds, 2))
    whole, n = np.mean(list(values.values())), len(seeds)
    return [
        float(n * whole - (n - 1) * np.mean([v for pair, v in values.items() if seed not in pair]))
        for seed in seeds
    ]


def per_seed(cells: Cells) -> np.ndarray:
    """CoTo minus vanilla in points, averaged over tasks and adapter kinds, one value per seed."""
    gaps: dict[Any, list[float]] = defaultdict(list)
    for (unit, strategy, seed), value in cells.items():
        if strategy == "coto":
            gaps[seed].append(100 * (value - cells[unit, "vanilla", seed]))
    assert len({len(of_seed) for of_seed in gaps.values()}) == 1
    return np.array(jackknifed({seed: float(np.mean(gap)) for seed, gap in gaps.items()}))


def step_down(p: dict[str, float]) -> dict[str, float]:
    """Holm's procedure, from the smallest p on."""
    adjusted: dict[str, float] = {}
    for rank, name in enumerate(sorted(p, key=p.__getitem__)):
        adjusted[name] = min(1.0, max([*adjusted.values(), (len(p) - rank) * p[name]]))
    return adjusted


def test_every_main_claim_is_computed_by_hand() -> None:
    assert {name for name, claim in CLAIMS.items() if claim.role == "main"} == set(BY_HAND)


def test_every_main_test_against_scipy(records: Records, claims: pd.DataFrame) -> None:
    lines = claims[(claims["adapter"] == "all") & claims["task"].isna()].set_index("claim")
    against_0, against_margin = {}, {}
    for name, (cells, sign, margin) in BY_HAND.items():
        values, line = per_seed(cells(records)), lines.loc[name]
        test = stats.ttest_1samp(values, 0)
        at_margin = stats.ttest_1samp(values, sign * margin)
        interval = test.confidence_interval(0.95)
        expected = [values.mean(), interval.low, interval.high, margin]
        found = line[["effect", "low", "high", "margin"]].to_list()
        assert found == pytest.approx(expected, abs=1e-8), name
        found = line[["p", "p_margin"]].to_list()
        assert found == pytest.approx([test.pvalue, at_margin.pvalue], abs=1e-8), name
        signs = np.array(np.meshgrid(*[[-1, 1]] * len(values))).reshape(len(values), -1).T
        flips = np.mean(np.abs(signs @ values) >= abs(values.sum()) - 1e-9)
        assert line["p_flip"] == pytest.approx(flips), name
        assert line["n_seeds"] == len(values) == 4, name
        against_0[name], against_margin[name] = test.pvalue, at_margin.pvalue
    for family, of in lines.loc[list(BY_HAND)].groupby("family"):
        for column, p in (("p_holm", against_0), ("p_margin_holm", against_margin)):
            expected = step_down({name: p[name] for name in of.index})
            assert of[column].to_dict() == pytest.approx(expected, abs=1e-8), family
    for name, (_, sign, margin) in BY_HAND.items():
        line = lines.loc[name]
        low = min(sign * line["low"], sign * line["high"])
        verdict = "inconclusive"
        if low > 0 and line["p_holm"] < 0.05:
            verdict = "supported"
        elif low <= 0 and sign * line["effect"] < margin and line["p_margin_holm"] < 0.05:
            verdict = "not supported"
        assert line["verdict"] == verdict, name
    assert {"supported", "inconclusive"} <= set(lines.loc[list(BY_HAND), "verdict"])


def test_sensitivities_against_scipy(records: Records, claims: pd.DataFrame) -> None:
    lines = claims[(claims["adapter"] == "all") & claims["task"].isna()].set_index("claim")
    ends: dict[Any, list[float]] = defaultdict(list)
    for stage, sign in (("train", 1), ("none", -1)):
        scored = {"strategy": "vanilla", "metric": "accuracy"}
        scored |= {"split": "test"} if stage == "train" else {}
        for row in rows_of(records, stage, **scored):
            ends[row["seed"]].append(100 * sign * row["value"])
    worth = np.array([2 * np.mean(ends[seed]) for seed in SEEDS])
    dips: dict[Any, list[float]] = defaultdict(list)
    for row in rows_of(records, "interpolate", operator="fusion", strategy="vanilla"):
        share = {0.0: 0.5, 1.0: 0.5, 0.5: -1.0}.get(row["weight"], 0.0)
        dips[pair_of(row)].append(100 * share * row["value"])
    units = 2 * 2  # tasks and adapter kinds
    dip = np.array(jackknifed({pair: sum(of) / units for pair, of in dips.items()}))
    for names, values, needed in ((WORTH, worth, 5.0), (PATHS, dip, 2.0)):
        interval = stats.ttest_1samp(values, 0).confidence_interval(0.95)
        for name in names:
            line = lines.loc[name]
            found = line[["sensitivity", "sensitivity_low", "sensitivity_high"]].to_list()
            assert found == pytest.approx([values.mean(), interval.low, interval.high]), name
            assert line["sensitivity_needed"] == needed, name
    assert lines.loc[["single-task", "variants", "training-time"], "sensitivity"].isna().all()
