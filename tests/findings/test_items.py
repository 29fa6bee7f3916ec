"""The test over items, against plain numpy."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from coto.errors import CotoError
from coto.findings.items import ITEM_COLUMNS, load_items, over_items
from coto.report.quantities import single_scores
from coto.report.records import load_frames
from coto.report.settings import Settings
from tests.report.factory import make_records
from tests.report.factory_analysis import write_answers

Records = dict[str, list[Path]]
FAST = Settings(resamples=1000)


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> Records:
    """Two learning rates, of which the second is chosen; every run with its answers."""
    records = make_records(
        tmp_path_factory.mktemp("answered"),
        tasks=("movies", "news"),
        adapters=("lora",),
        seeds=(0, 1),
        lrs=(1e-3, 4e-3),
    )
    write_answers(records["train"], gain=0.2)
    return records


def loaded(records: Records) -> pd.DataFrame:
    return load_items(records["train"], single_scores(load_frames(records)))


def of_items(**tasks: list[float]) -> pd.DataFrame:
    rows = [
        {"suite": "s", "adapter": "lora", "task": task, "idx": i, "seeds": 2, "difference": x}
        for task, values in tasks.items()
        for i, x in enumerate(values)
    ]
    return pd.DataFrame(rows)[ITEM_COLUMNS]


def test_items_are_paired_within_seeds_of_the_chosen_runs(answered: Records) -> None:
    found = loaded(answered).set_index(["task", "idx"])["difference"]
    right: dict[Any, pd.Series] = {}
    for path in answered["train"]:
        row = json.loads(path.read_text())["rows"][0]
        if row["lr"] == 4e-3:
            answers = pd.read_parquet(path.with_name("answers.parquet")).set_index("idx")
            right[row["task"], row["strategy"], row["seed"]] = answers["correct"].astype(int)
    for task in ("movies", "news"):
        gaps = [right[task, "coto", seed] - right[task, "vanilla", seed] for seed in (0, 1)]
        expected = (gaps[0] + gaps[1]) / 2
        assert found[task].to_dict() == expected.to_dict()
    assert found.nunique() > 2


def test_runs_of_other_rates_and_strategies_are_not_read(answered: Records) -> None:
    frames = load_frames(answered)
    kept = [path for path in answered["train"] if "0.001" not in path.parent.name]
    assert len(kept) < len(answered["train"])
    expected = loaded(answered)
    pd.testing.assert_frame_equal(load_items(kept, single_scores(frames)), expected)


def test_missing_answers_are_one_line(tmp_path: Path) -> None:
    records = make_records(tmp_path, tasks=("movies",), adapters=("lora",), seeds=(0,))
    with pytest.raises(CotoError, match=r"answers\.parquet: cannot be read") as error:
        loaded(records)
    assert "\n" not in str(error.value)


def test_the_headline_protocol_counts(answered: Records, tmp_path: Path) -> None:
    records = make_records(tmp_path, tasks=("movies",), adapters=("lora",), seeds=(0,))
    for path in records["train"]:
        coto = json.loads(path.read_text())["rows"][0]["strategy"] == "coto"
        parts = [
            pd.DataFrame({"idx": range(4), "protocol": protocol, "correct": correct})
            for protocol, correct in (("generate", coto), ("ranking", not coto))
        ]
        both = pd.concat(parts).assign(task="movies")
        both.to_parquet(path.with_name("answers.parquet"))
    assert loaded(records)["difference"].tolist() == [1.0] * 4


def test_a_set_scored_after_two_trainings_is_two_sets(tmp_path: Path) -> None:
    records: Records = {}
    for name in ("mixture", "math"):
        made = make_records(
            tmp_path / name, tasks=("boolq",), trained_on=name, adapters=("lora",), seeds=(0,)
        )
        write_answers(made["train"], items=10 if name == "math" else 20)
        for stage, paths in made.items():
            records.setdefault(stage, []).extend(paths)
    counts = loaded(records).groupby("task").size().to_dict()
    assert counts == {"boolq after math": 10, "boolq after mixture": 20}


def test_regressions_have_no_right_answers(answered: Records) -> None:
    runs = single_scores(load_frames(answered))
    rows = runs.assign(metric=runs["metric"].where(runs["task"] == "news", "pearson"))
    assert set(load_items(answered["train"], rows)["task"]) == {"news"}


def test_effect_interval_and_p_against_numpy() -> None:
    rng = np.random.default_rng(1)
    tasks = {name: rng.choice([-1, 0, 0, 0.5, 1], n).tolist() for name, n in (("a", 40), ("b", 90))}
    found = over_items(of_items(**tasks), FAST)
    means = [np.mean(values) for values in tasks.values()]
    assert found.mean == pytest.approx(np.mean(means))
    assert (found.n_units, found.n_tasks, found.n_seeds) == (130, 2, 2)
    error = np.sqrt(sum(np.var(v, ddof=1) / len(v) for v in tasks.values())) / 2
    half = stats.t.ppf(0.975, 128) * error
    assert found.interval() == pytest.approx((found.mean - half, found.mean + half))
    assert found.p() == pytest.approx(2 * stats.t.sf(abs(found.mean) / error, 128))
    # Of one task, it is the plain test.
    one = over_items(of_items(a=tasks["a"]), FAST)
    assert one.p(0.2) == pytest.approx(stats.ttest_1samp(tasks["a"], 0.2).pvalue)


def test_the_interval_covers_the_mean_over_items() -> None:
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(150):
        items = of_items(
            a=rng.choice([-1, 0, 1], 60, p=[0.1, 0.6, 0.3]).tolist(),
            b=rng.choice([-1, 0, 1], 200, p=[0.2, 0.6, 0.2]).tolist(),
        )
        low, high = over_items(items, FAST).interval()
        covered += low <= 0.1 <= high
    assert 0.9 <= covered / 150 <= 0.99


def test_an_item_is_one_item_whatever_the_adapter_kinds() -> None:
    rng = np.random.default_rng(3)
    one = of_items(a=rng.choice([-1, 0, 1], 50, p=[0.1, 0.5, 0.4]).tolist())
    twice = pd.concat([one, one.assign(adapter="dora")])
    assert over_items(twice, FAST) == over_items(one, FAST)


def test_nothing_differs() -> None:
    found = over_items(of_items(a=[0.0, 0.0], b=[0.0]), FAST)
    assert (found.mean, found.p()) == (0, 1)
