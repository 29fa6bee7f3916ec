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
from tests.report.figure_reading import Records, heights, line, panel, rows

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


def test_pruning_shows_the_papers_bars_for_both_parities(draw: Draw) -> None:
    axes = panel(draw("pruning"), "paper")
    bars = heights(axes, "coto, paper")
    every = paper_value("clip11_pruning", "Average:everyother", "LoRA-CoTo", "accuracy(%)").value
    assert [bars[i] for i in (1, 2)] == pytest.approx([every, every])
    assert {bar.get_alpha() for bar in axes.patches} == {LIGHT}
