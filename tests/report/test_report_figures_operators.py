"""Figures of merging, pruning and time: what they show is computed again from the records."""

from collections.abc import Callable
from statistics import mean

import numpy as np
import pandas as pd
import pytest
from figure_reading import Records, all_heights, heights, line, panel, rows, texts, ticks
from matplotlib.container import BarContainer
from matplotlib.figure import Figure

from coto.report.drawing import LIGHT
from coto.report.figures import FIGURES
from coto.report.paper import paper_value
from coto.report.settings import Settings

Draw = Callable[..., Figure]


def test_merging_bars_are_means_over_tasks_seeds_and_repeats(draw: Draw, suites: Records) -> None:
    axes = panel(draw("merging"), "glue, lora: all tasks")
    at = ticks(axes).index("lora-lego")
    values = rows(
        *(suites, "merge"), suite="glue", adapter="lora", strategy="coto", operator="lora-lego"
    )
    assert len(values) == 2 * 2 * 3  # tasks, seeds, repeats
    expected = 100 * mean(row["value"] for row in values)
    assert heights(axes, "coto")[at] == pytest.approx(expected)

    axes = panel(draw("merging"), "images, hira: two seeds")
    at = ticks(axes).index("ties")
    where = {"suite": "images", "adapter": "hira", "strategy": "vanilla", "operator": "ties"}
    values = rows(suites, "interpolate", weight=0.5, **where)
    expected = 100 * mean(row["value"] for row in values)
    assert heights(axes, "vanilla")[at] == pytest.approx(expected)


def test_merging_marks_what_is_not_defined(draw: Draw) -> None:
    axes = panel(draw("merging"), "glue, lora: all tasks")
    (mark,) = axes.texts
    assert mark.get_text() == "not defined"
    assert mark.get_position()[0] == ticks(axes).index("knots")
    assert ticks(axes).index("knots") not in heights(axes, "vanilla")


def test_merging_shows_the_papers_averages_lighter(draw: Draw) -> None:
    axes = panel(draw("merging"), "lr 1e-3")
    experiment = "glue_merge_deberta_v3_lr1e-3"
    value = paper_value(experiment, "Average", "LoRA-LEGO +CoTo", "accuracy(%) GLUE dev")
    at = ticks(axes).index("lora-lego")
    assert heights(axes, "coto, paper")[at] == pytest.approx(value.value)
    assert {bar.get_alpha() for bar in axes.patches} == {LIGHT}
    (whiskers,) = [
        segment
        for bars in axes.containers
        if isinstance(bars, BarContainer) and bars.get_label() == "coto, paper"
        for segment in bars.errorbar.lines[2][0].get_segments()
        if segment.size and np.isfinite(segment).all()
    ]
    assert value.std is not None
    assert np.ptp(whiskers[:, 1]) == pytest.approx(2 * value.std)


def test_alignment_shows_gaps_and_rotations_by_third(draw: Draw, suites: Records) -> None:
    figure = draw("alignment")
    gap, rotation = (panel(figure, "images, hira: two seeds", place) for place in (0, 1))
    where = {"suite": "images", "adapter": "hira", "strategy": "coto", "operator": "lora-align"}
    measured = rows(suites, "interpolate", "measured", **where)
    for measure, axes in (("gap_before", gap), ("gap_after", gap), ("p_norm", rotation)):
        values = [r["value"] for r in measured if r["measure"] == measure and r["layer"] >= 0]
        shown = [h for h in all_heights(axes, "coto") if h == pytest.approx(mean(values))]
        assert len(shown) == 3, measure
    # A suite of one seed has no pairs: what is shown is the merge of its tasks.
    assert "questions, lora: all tasks merged" in texts(figure)
    value = paper_value("alignment_P", "text:higher", "LoRA-CoTo*", "before_diff ||dWf-dWm||2")
    assert value.value in all_heights(panel(figure, "text encoder"), "coto, paper")


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


def test_interpolation_draws_paths_only_and_the_papers_middle(
    suite_frames: dict[str, pd.DataFrame], suites: Records
) -> None:
    table = suite_frames["interpolate"]
    asked = table[table["suite"].isin(["glue", "images"])]
    spoken = Settings(facts={"glue": {"kind": "language"}})
    figure = FIGURES["interpolation"](suite_frames | {"interpolate": asked}, {}, spoken)
    axes = figure.axes[0]
    weights, score = line(axes, "coto, fusion")
    where = {"suite": "glue", "strategy": "coto", "operator": "fusion"}
    expected = [
        100 * mean(row["value"] for row in rows(suites, "interpolate", weight=w, **where))
        for w in weights
    ]
    assert score == pytest.approx(expected)
    assert not any("ties" in drawn.get_label() for drawn in axes.lines)
    marks = {drawn.get_ydata()[0]: drawn for drawn in axes.lines if drawn.get_alpha() == LIGHT}
    for method in ("LoRA", "LoRA-CoTo"):
        value = paper_value("lmc_commonsense_lambda0.5", "Average", method, "accuracy(%)")
        assert marks[value.value].get_xdata()[0] == 0.5
        assert axes.get_ylim()[0] < value.value < axes.get_ylim()[1]
    others = [line for a in figure.axes[1:] for line in a.lines if line.get_alpha() == LIGHT]
    assert others == []


def test_training_time_marks_where_the_paper_would_be(draw: Draw, suites: Records) -> None:
    axes = panel(draw("training_time"), "images")
    marks = [float(line.get_xdata()[0]) for line in axes.lines if line.get_marker() == "s"]
    for adapter, mark in zip(("lora", "hira"), marks, strict=True):
        where = {"suite": "images", "adapter": adapter, "strategy": "vanilla"}
        base = mean(row["seconds_per_step"] for row in rows(suites, "overhead", **where))
        method = {"lora": "LoRA-CoTo", "hira": "HiRA-CoTo"}[adapter]
        saved = paper_value("training_time_math_1xA6000", "speedup", method, "percent").value
        assert mark == pytest.approx(1000 * base * (1 - saved / 100))
