"""Merging of seeds and of tasks: quantities, tables and figures."""

from collections.abc import Callable
from statistics import mean
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from coto.findings.merging.alignment import alignment
from coto.findings.merging.quantities import merged_scores, midpoints
from coto.report.comparison import AVERAGE, paired
from coto.report.drawing import LIGHT
from coto.report.paper import paper_value
from coto.report.quantities import over_repeats
from coto.report.settings import Settings
from coto.report.statistics import estimate
from coto.report.writing import Table
from tests.findings.analyses import TASKS, Frames, build, has_note
from tests.report.factory_analysis import MORE_OPERATORS
from tests.report.figure_reading import (
    Records,
    all_heights,
    dots,
    intervals,
    levels,
    line,
    panel,
    rows,
    texts,
    ticks,
)
from tests.report.making import draw_figure

Draw = Callable[..., Figure]


def test_repeats_are_averaged_with_their_deviation(analyses: Frames) -> None:
    place = {"operator": "lora-lego", "task": "news", "strategy": "vanilla", "seeds": "0-2"}
    rows = analyses["interpolate"]
    for column, value in place.items():
        rows = rows[rows[column] == value]
    assert sorted(rows["repeat"]) == [0, 1, 2]
    merged = midpoints(analyses["interpolate"])
    line = merged.query("operator == 'lora-lego' and task == 'news' and strategy == 'vanilla'")
    line = line[line["seed"] == (0, 2)].iloc[0]
    assert line["value"] == pytest.approx(np.mean(rows["value"]))
    assert line["repeat_sd"] == pytest.approx(np.std(rows["value"], ddof=1))
    assert line["repeats"] == 3
    single = merged[merged["operator"] == "ties"]
    assert single["repeat_sd"].isna().all()
    assert set(single["repeats"]) == {1}


def test_over_repeats_without_any_draw_keeps_the_rows(analyses: Frames) -> None:
    rows = analyses["merge"].query("operator == 'ties'")
    found = over_repeats(rows)
    assert found["value"].tolist() == rows["value"].tolist()
    assert found["repeat_sd"].isna().all()


def test_alignment_takes_means_over_thirds_and_pairs_only() -> None:
    place = {"suite": "s", "adapter": "lora", "strategy": "coto", "repeat": 0}
    place |= {"operator": "lora-align", "stage": "interpolate", "task": "t", "stack": "blocks"}

    def rows(seeds: str, scale: float) -> list[dict[str, Any]]:
        return [
            {**place, "seeds": seeds, "layer": layer, "measure": measure}
            | {"module": f"blocks.{layer}.{part}", "value": scale * value * (layer + 1)}
            for layer in range(3)
            for part in ("query", "key")
            for measure, value in (
                ("gap_before", 4.0 if part == "query" else 2.0),
                ("gap_after", 1.0),
            )
        ]

    whole = {**place, "seeds": "0-1", "module": "", "stack": "", "layer": -1}
    whole |= {"measure": "gap_before", "value": 1e9}
    measured = pd.DataFrame([*rows("0-1", 1.0), *rows("0-1-2", 100.0), whole])
    found = alignment(measured)
    assert set(found["seed"]) == {(0, 1)}
    values = found.set_index(["third", "measure"])["value"].to_dict()
    assert values[("higher", "gap_before")] == pytest.approx(3 * 3.0)
    assert values[("middle", "gap_after")] == pytest.approx(2.0)
    assert values[("lower", "reduction")] == pytest.approx(1 - 1 / 3)


def test_draws_of_an_operator_are_averaged_and_their_spread_is_shown(
    frames: Frames, tables: dict[str, Table]
) -> None:
    rows = frames["merge"].query("operator == 'lora-lego' and strategy == 'coto'")
    by_run = rows.groupby(["task", "seed"])["value"]
    table = tables["multitask_merging"]
    ours = table.data.query("operator == 'lora-lego' and strategy == 'coto' and kind == 'measured'")
    line = ours.set_index("task").loc[AVERAGE]
    assert line["mean"] == pytest.approx(by_run.mean().mean())
    assert line["repeat_sd"] == pytest.approx(by_run.std().mean())
    assert (line["repeats"], line["n_seeds"]) == (3, 3)
    shown = table.display.query("operator == 'lora-lego' and task == 'Average'")["coto"].item()
    assert f"{100 * line['mean']:.1f} ± {100 * line['repeat_sd']:.1f} [" in shown
    ties = table.display.query("operator == 'ties' and task == 'Average'")["coto"].item()
    assert "±" not in ties
    assert has_note(table, "±: standard deviation over an operator's own draws")


def test_the_papers_lego_stands_with_its_deviation(tables: dict[str, Table]) -> None:
    paper = tables["multitask_merging"].display.query("operator == 'lora-lego'")
    paper = paper[paper["task"].str.startswith("paper")]
    assert paper["vanilla"].tolist() == ["65.4 ± 2.8", "67.9 ± 2.7"]
    assert paper["source"].str.startswith("exact").all()


def test_language_suites_have_the_papers_nine_tasks(frames: Frames) -> None:
    facts = {"glue": {"kind": "language", "backbone": "b"}}
    table = build("multitask_merging", frames, Settings(resamples=200, facts=facts))
    paper = table.data.query("kind == 'paper' and strategy == 'coto'").set_index("operator")
    assert set(paper.index) == {"fusion", "ensemble", "lora-lego"}
    assert paper.loc["lora-lego", "source"].startswith("second-hand")


def test_gaps_stand_in_the_table_with_their_reason(tables: dict[str, Table]) -> None:
    table = tables["multitask_merging"]
    gap = table.display.query("operator == 'knots'").iloc[0]
    assert (gap["vanilla"], gap["coto"], gap["seeds"]) == ("—", "—", "")
    assert has_note(table, "— knots: not defined for lora: a reason.")
    data = table.data.query("operator == 'knots'")
    assert set(data["kind"]) == {"gap"}
    assert data["mean"].isna().all()
    assert "knots" not in set(tables["seed_merging"].display["operator"])


def test_gaps_of_seed_merges_are_their_own_and_only_where_nothing_was_scored(
    frames: Frames,
) -> None:
    gap = {"stage": "interpolate", "suite": "glue", "adapter": "lora", "strategy": "coto"}
    reasons = [
        {"seeds": "0-1", "operator": "dare", "reason": "dare: a reason"},
        {"seeds": "0-2", "operator": "dare", "reason": "dare: a reason"},
        {"seeds": "0-1", "operator": "ties", "reason": "ties: of one pair"},
    ]
    more = frames | {"gaps": pd.DataFrame([gap | reason for reason in reasons])}
    table = build("seed_merging", more)
    lines = table.display.query("operator == 'dare'")
    assert lines[["seeds merged", "vanilla", "coto"]].to_numpy().tolist() == [["1:1", "", "—"]]
    assert "—" not in set(table.display.query("operator == 'ties'")["coto"])
    assert sum("dare: a reason" in note for note in table.notes) == 1


def test_measures_of_operators_are_in_the_csv(frames: Frames, tables: dict[str, Table]) -> None:
    whole = frames["measured"].query("module == '' and measure == 'svd_error'")
    assert len(whole)
    for name, stage in (("multitask_merging", "merge"), ("seed_merging", "interpolate")):
        means = whole[whole["stage"] == stage].groupby(["operator", "strategy"])["value"].mean()
        data = tables[name].data.dropna(subset="svd_error").query("task == 'Average'")
        found = data.set_index(["operator", "strategy"])["svd_error"]
        assert found.to_dict() == pytest.approx(means.to_dict())


def test_seed_merges_show_averages_and_keep_tasks(frames: Frames, tables: dict[str, Table]) -> None:
    table = tables["seed_merging"]
    assert set(table.display["task"]) == {AVERAGE}
    assert {*TASKS, AVERAGE} <= set(table.data["task"])
    assert {"fusion", "ensemble", *MORE_OPERATORS} == set(table.display["operator"])
    three = table.display.query("`seeds merged` == '1:1:1'")
    assert set(three["operator"]) == {"fusion", "ensemble"}
    rows = midpoints(frames["interpolate"]).query("operator == 'ties'")
    expected = estimate(paired(rows).query("strategy == 'coto'"))
    line = table.data.query("operator == 'ties' and task == 'Average' and strategy == 'coto'")
    assert line["difference"].item() == pytest.approx(expected.mean)
    assert line["difference_low"].item() == pytest.approx(expected.interval()[0])


def test_half_way_is_no_path(frames: Frames, tables: dict[str, Table]) -> None:
    assert set(tables["interpolation"].data["operator"]) == {"fusion", "ensemble"}
    half = frames["interpolate"].query("operator in @MORE_OPERATORS")
    assert build("interpolation", frames | {"interpolate": half}).data.empty


def test_alignment_stands_beside_figure_r8(tables: dict[str, Table]) -> None:
    table = tables["alignment"]
    place = ["merged", "third", "quantity", "task"]
    lines = table.display.set_index(place)
    ours = lines.loc[("two seeds", "lower", "share of the gap that is gone", AVERAGE)]
    assert ours["vanilla"].startswith("75.0 [")
    label = "paper, Figure r8, text encoder"
    before = lines.loc[("two seeds", "lower", "‖ΔW_f − ΔW_m‖ before", label)]
    assert (before["vanilla"], before["coto"]) == ("0.800", "1.940")
    assert before["source"].startswith("by eye")
    gone = lines.loc[("two seeds", "lower", "share of the gap that is gone", label), "coto"]
    assert gone == f"{100 * (1 - 0.98 / 1.94):.1f}"
    assert "layers of" not in table.display
    assert {"two seeds", "all tasks"} == set(table.display["merged"])


def test_two_stacks_are_named_and_have_their_own_encoder_of_the_paper(frames: Frames) -> None:
    text = frames["measured"].replace({"stack": {"bert.encoder.layer": "text_model.layers"}})
    image = frames["measured"].replace({"stack": {"bert.encoder.layer": "vision_model.layers"}})
    facts = {"glue": {"kind": "image", "backbone": "clip"}}
    table = build(
        "alignment",
        frames | {"measured": pd.concat([text, image])},
        Settings(resamples=200, facts=facts),
    )
    shown = table.display[table.display["task"].str.startswith("paper")]
    beside = shown.groupby("layers of")["task"].unique().map(list).to_dict()
    assert beside == {
        "text_model.layers": ["paper, Figure r8, text encoder"],
        "vision_model.layers": ["paper, Figure r8, image encoder"],
    }


def test_merging_marks_are_means_over_tasks_seeds_and_repeats(draw: Draw, suites: Records) -> None:
    axes = panel(draw("merging"), "glue, lora: all tasks")
    at = ticks(axes).index("lora-lego")
    values = rows(
        *(suites, "merge"), suite="glue", adapter="lora", strategy="coto", operator="lora-lego"
    )
    assert len(values) == 2 * 2 * 3  # tasks, seeds, repeats
    expected = 100 * mean(row["value"] for row in values)
    assert dots(axes, "coto")[at] == pytest.approx(expected)

    axes = panel(draw("merging"), "images, hira: two seeds")
    at = ticks(axes).index("ties")
    where = {"suite": "images", "adapter": "hira", "strategy": "vanilla", "operator": "ties"}
    values = rows(suites, "interpolate", weight=0.5, **where)
    expected = 100 * mean(row["value"] for row in values)
    assert dots(axes, "vanilla")[at] == pytest.approx(expected)


def test_merging_marks_what_is_not_defined(draw: Draw) -> None:
    axes = panel(draw("merging"), "glue, lora: all tasks")
    (mark,) = axes.texts
    assert mark.get_text() == "not defined"
    assert mark.get_position()[0] == ticks(axes).index("knots")
    assert ticks(axes).index("knots") not in dots(axes, "vanilla")


def test_merging_shows_the_papers_averages_lighter(draw: Draw) -> None:
    axes = panel(draw("merging"), "lr 1e-3")
    experiment = "glue_merge_deberta_v3_lr1e-3"
    value = paper_value(experiment, "Average", "LoRA-LEGO +CoTo", "accuracy(%) GLUE dev")
    at = ticks(axes).index("lora-lego")
    assert dots(axes, "coto, paper")[at] == pytest.approx(value.value)
    assert {line.get_alpha() for line in axes.lines} == {LIGHT}
    assert value.std is not None
    spread = value.value - value.std, value.value + value.std
    assert any(ends == pytest.approx(spread) for ends in intervals(axes))


def test_merges_stand_between_all_and_none(draw: Draw, suites: Records) -> None:
    axes = panel(draw("merging"), "images, hira: two seeds")
    where = {"suite": "images", "adapter": "hira", "strategy": "vanilla"}
    whole = rows(suites, "train", split="test", headline=True, **where)
    bare = rows(suites, "none", **where)
    for label, values in (("vanilla, all", whole), ("vanilla, none", bare)):
        expected = 100 * mean(row["value"] for row in values)
        assert levels(axes, label) == pytest.approx([expected]), label


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


def test_interpolation_draws_paths_only_and_the_papers_middle(
    suite_frames: dict[str, pd.DataFrame], suites: Records
) -> None:
    table = suite_frames["interpolate"]
    asked = table[table["suite"].isin(["glue", "images"])]
    spoken = Settings(facts={"glue": {"kind": "language"}})
    figure = draw_figure("interpolation", suite_frames | {"interpolate": asked}, spoken)
    axes = figure.axes[1]  # beside the middles by task
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
    others = [
        line for a in figure.axes if a is not axes for line in a.lines if line.get_alpha() == LIGHT
    ]
    assert others == []


def test_middles_stand_by_task_between_all_and_none(draw: Draw, suites: Records) -> None:
    axes = panel(draw("interpolation"), "glue, lora: half-way")
    tasks = [AVERAGE, "movies", "news"]
    assert ticks(axes) == tasks
    where = {"suite": "glue", "strategy": "coto"}
    for operator in ("fusion", "ensemble"):
        found = rows(suites, "interpolate", weight=0.5, operator=operator, task="news", **where)
        expected = 100 * mean(row["value"] for row in found)
        assert dots(axes, f"coto, {operator}")[2] == pytest.approx(expected)
    bare = [mean(r["value"] for r in rows(suites, "none", task=t, **where)) for t in tasks[1:]]
    expected_levels = [100 * mean(bare), *(100 * value for value in bare)]
    assert sorted(levels(axes, "coto, none")) == pytest.approx(sorted(expected_levels))
    assert intervals(axes) == []  # two seeds are one pair


def test_merges_with_a_seed_of_their_own_per_task_stand_apart(frames: Frames) -> None:
    merge = frames["merge"]
    other = merge[merge["operator"] == "fusion"].assign(seeds="different", value=0.25)
    mixed = pd.concat([merge, other], ignore_index=True)
    scores = merged_scores(mixed)
    apart = scores["operator"] == "fusion, different seeds"
    assert set(scores[apart]["value"]) == {0.25}
    # What the claims rest on does not change.
    plain = merged_scores(merge).reset_index(drop=True)
    pd.testing.assert_frame_equal(scores[~apart].reset_index(drop=True), plain, check_like=True)
    table = build("multitask_merging", {**frames, "merge": mixed})
    assert "fusion, different seeds" in set(table.data["operator"])
