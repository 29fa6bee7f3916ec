"""Pruned adapters: quantities, tables and figures."""

from collections.abc import Callable
from statistics import mean

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from coto.findings.pruning import sparsity_area, unstructured
from coto.report.comparison import compare, paired, points
from coto.report.drawing import LIGHT
from coto.report.paper import paper_value
from coto.report.statistics import estimate
from coto.report.writing import Table
from tests.findings.analyses import FAST, Frames
from tests.report.factory_analysis import SPARSITIES
from tests.report.figure_reading import (
    Records,
    dots,
    intervals,
    levels,
    line,
    panel,
    rows,
    ticks,
)

Draw = Callable[..., Figure]


def test_sparsity_area_is_the_trapezoid_over_the_width(analyses: Frames) -> None:
    rows = analyses["prune"].query("method == 'random-factors-global' and seed == 1")
    rows = rows.query("task == 'news' and strategy == 'coto'")
    curve = rows.groupby("sparsity")["value"].mean()
    a, b, c = (curve[s] for s in SPARSITIES)
    expected = ((a + b) / 2 * 0.5 + (b + c) / 2 * 0.4) / 0.9
    area = sparsity_area(analyses["prune"]).set_index(["method", "task", "strategy", "seed"])
    found = area.loc[("random-factors-global", "news", "coto", 1), "value"]
    assert found == pytest.approx(expected)
    flat = analyses["prune"].assign(value=0.7)
    assert np.ptp(sparsity_area(flat)["value"]) < 1e-12
    one = analyses["prune"].query("sparsity == 0.5")
    assert sparsity_area(one).empty  # a point has no width


def test_structured_rows_are_no_unstructured_ones(analyses: Frames) -> None:
    structured = analyses["prune"].assign(method="structured")
    both = pd.concat([analyses["prune"], structured])
    pd.testing.assert_frame_equal(unstructured(both), unstructured(analyses["prune"]))


def test_points_are_the_lines_of_single_tasks(frames: Frames) -> None:
    rows = unstructured(frames["prune"])
    split = ["method", "sparsity"]
    lines = compare(rows, FAST, split, average=False)
    place = ["suite", "adapter", *split, "task", "strategy"]
    numbers = ["mean", "low", "high", "difference", "difference_low", "difference_high"]
    numbers += ["n_seeds", "n_pairs"]
    found = points(rows, FAST, split).set_index(place).sort_index()[numbers]
    expected = lines.set_index(place).sort_index()[numbers]
    pd.testing.assert_frame_equal(found, expected, check_dtype=False)
    single = points(rows[rows["seed"] == 0], FAST, split)
    assert single["low"].isna().all()
    assert single["mean"].notna().all()


def test_pruned_half_is_compared_and_the_paper_gives_a_difference_only(
    frames: Frames, tables: dict[str, Table]
) -> None:
    table = tables["unstructured_pruning"]
    rows = unstructured(frames["prune"]).query("sparsity == 0.5")
    rows = rows.query("method == 'magnitude-factors-global'")
    expected = estimate(paired(rows).query("strategy == 'coto'"))
    line = table.data.query(
        "method == 'magnitude-factors-global' and task == 'Average' and strategy == 'coto'"
    ).set_index("quantity")
    assert line.loc["score at 50 % sparsity", "difference"] == pytest.approx(expected.mean)
    paper = table.display[table.display["task"].str.startswith("paper")].iloc[0]
    assert (paper["coto"], paper["coto − vanilla"]) == ("", "+10.0")
    assert paper["source"].startswith("second-hand, rounded")
    curve = table.data[table.data["sparsity"].notna()]
    assert len(curve) == 2 * 2 * 2 * 3  # methods, tasks, strategies, sparsities


def test_unstructured_lines_are_means_and_carry_the_papers_gap(draw: Draw, suites: Records) -> None:
    figure = draw("unstructured_pruning")
    first, second = figure.axes[:2]  # of glue: magnitude, random
    for axes, method in ((first, "magnitude-factors-global"), (second, "random-factors-global")):
        sparsity, score = line(axes, "coto")
        where = {"suite": "glue", "strategy": "coto", "method": method}
        expected = [
            100 * mean(row["value"] for row in rows(suites, "prune", sparsity=s / 100, **where))
            for s in sparsity
        ]
        assert sparsity.tolist() == [0, 50, 90]
        assert score == pytest.approx(expected)
    (gap,) = [drawn for drawn in first.lines if drawn.get_alpha() == LIGHT]
    assert np.ptp(np.asarray(gap.get_ydata())) == pytest.approx(10)
    assert gap.get_ydata()[0] == pytest.approx(line(first, "vanilla")[1][1])
    assert first.get_ylim()[1] > max(gap.get_ydata())


def test_pruning_shows_the_papers_marks_for_both_parities(draw: Draw) -> None:
    axes = panel(draw("pruning"), "paper")
    marks = dots(axes, "coto, paper")
    every = paper_value("clip11_pruning", "Average:everyother", "LoRA-CoTo", "accuracy(%)").value
    assert [marks[i] for i in (0, 1)] == pytest.approx([every, every])
    assert {line.get_alpha() for line in axes.lines} == {LIGHT}


def test_pruned_scores_stand_between_all_and_none(draw: Draw, suites: Records) -> None:
    figure = draw("pruning")
    axes = panel(figure, "images, hira")
    where = {"suite": "images", "adapter": "hira", "strategy": "coto"}
    pruned = [row["value"] for row in rows(suites, "prune", keep="odd", **where)]
    assert dots(axes, "coto")[0] == pytest.approx(100 * mean(pruned))
    whole = rows(suites, "prune", keep="all", method="structured", **where)
    bare = rows(suites, "none", **where)
    for label, values in (("coto, all", whole), ("coto, none", bare)):
        expected = 100 * mean(row["value"] for row in values)
        assert levels(axes, label) == pytest.approx([expected]), label
    low, high = axes.get_ylim()
    assert low < levels(axes, "coto, none")[0]
    assert levels(axes, "coto, all")[0] < high
    assert high - low < 60  # begins where the data do
    assert "all" not in "".join(ticks(figure.axes[-1]))


def test_a_probe_is_a_line_without_a_strategy(
    draw: Draw, suite_frames: dict[str, pd.DataFrame]
) -> None:
    line = {"suite": "images", "method": "probe", "trained_on": "digits", "task": "digits"}
    line |= {"metric": "accuracy", "value": 0.55, "headline": True, "n": 400, "truncated": 0}
    figure = draw("pruning", baseline=pd.DataFrame([line | {"flag": ""}]))
    assert levels(panel(figure, "images, hira"), "probe") == pytest.approx([55])
    assert levels(panel(figure, "glue"), "probe") == []


def test_intervals_need_three_seeds_and_end_where_scores_do(
    draw: Draw, suite_frames: dict[str, pd.DataFrame]
) -> None:
    assert intervals(panel(draw("pruning"), "glue")) == []  # two seeds
    prune = suite_frames["prune"]
    apart = prune["seed"].map({0: 0.2, 1: 0.98, 2: 0.97})
    wide = prune.assign(value=apart.where(prune["suite"] == "images", prune["value"]))
    axes = panel(draw("pruning", prune=wide), "images, hira")
    ends = intervals(axes)
    assert len(ends) == 2 * 8  # arms, prunings
    assert {end for pair in ends for end in pair} == {0.0, 100.0}
    assert axes.get_ylim()[0] > -15
