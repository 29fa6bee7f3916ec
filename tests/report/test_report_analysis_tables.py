"""The tables of merging operators, sub-networks, gradients and weights."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from factory import make_records
from factory_analysis import LAYERS, MORE_OPERATORS, make_analyses

from coto.report.comparison import AVERAGE, compare, paired
from coto.report.points import points
from coto.report.quantities_analysis import (
    contributions,
    seed_merges,
    stability_curve,
    unstructured,
)
from coto.report.records import load_frames
from coto.report.settings import Settings, Style
from coto.report.statistics import mean_interval, paired_effect
from coto.report.tables import TABLES
from coto.report.writing import Table, latex, markdown

Frames = dict[str, pd.DataFrame]
FAST = Settings(resamples=200)
TASKS = ("acceptability", "movies")
NEW = ("seed_merging", "alignment", "unstructured_pruning", "shapley", "dropout_stability")
NEW += ("theorem", "gradients", "geometry")


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Frames:
    root = tmp_path_factory.mktemp("both")
    plain = make_records(root, tasks=TASKS, adapters=("lora",))
    more = make_analyses(root, tasks=TASKS, adapters=("lora",))
    return load_frames({stage: plain.get(stage, []) + more.get(stage, []) for stage in plain})


@pytest.fixture(scope="module")
def tables(frames: Frames) -> dict[str, Table]:
    return {name: build(name, frames) for name in TABLES}


def build(name: str, frames: Frames, settings: Settings = FAST) -> Table:
    return TABLES[name](frames, settings, Style())


def told(table: Table, part: str) -> bool:
    return any(part in note for note in table.notes)


@pytest.mark.parametrize("name", NEW)
def test_latex_is_ascii_and_balanced(name: str, tables: dict[str, Table]) -> None:
    text = latex(tables[name], name)
    assert text.isascii()
    assert text.count("{") == text.count("}")
    assert text.count("$") % 2 == 0
    assert markdown(tables[name]).count("\n|") > 2


@pytest.mark.parametrize("name", NEW)
def test_a_table_without_measurements_says_why(name: str) -> None:
    table = build(name, load_frames({}))
    assert table.data.empty
    assert "No measurements." in markdown(table)
    assert len(table.notes) == 1


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
    assert told(table, "±: standard deviation over an operator's own draws")


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
    assert told(table, "— knots: not defined for lora: a reason.")
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
    rows = seed_merges(frames["interpolate"]).query("operator == 'ties'")
    expected = paired_effect(paired(rows).query("strategy == 'coto'"), resamples=200)
    line = table.data.query("operator == 'ties' and task == 'Average' and strategy == 'coto'")
    assert line["difference"].item() == pytest.approx(expected.mean)
    assert line["difference_low"].item() == pytest.approx(expected.low)


def test_half_way_is_no_path(frames: Frames, tables: dict[str, Table]) -> None:
    assert set(tables["interpolation"].data["operator"]) == {"fusion", "ensemble"}
    half = frames["interpolate"].query("operator in @MORE_OPERATORS")
    assert build("interpolation", frames | {"interpolate": half}).data.empty


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
    expected = paired_effect(paired(rows).query("strategy == 'coto'"), resamples=200)
    line = table.data.query(
        "method == 'magnitude-factors-global' and task == 'Average' and strategy == 'coto'"
    ).set_index("quantity")
    assert line.loc["score at 50 % sparsity", "difference"] == pytest.approx(expected.mean)
    paper = table.display[table.display["task"].str.startswith("paper")].iloc[0]
    assert (paper["coto"], paper["coto − vanilla"]) == ("", "+10.0")
    assert paper["source"].startswith("second-hand, rounded")
    curve = table.data[table.data["sparsity"].notna()]
    assert len(curve) == 2 * 2 * 2 * 3  # methods, tasks, strategies, sparsities


def test_shapley_shares_stand_beside_the_papers(tables: dict[str, Table]) -> None:
    display = tables["shapley"].display.set_index(["quantity", "task"])
    share = display.loc[("share of the highest third, score", AVERAGE)]
    assert share["vanilla"].startswith("80.0 [")
    assert share["coto-early"].startswith("33.3 [")
    assert share["coto − vanilla"].startswith("-46.7 [")
    paper = display[display.index.get_level_values("task").str.startswith("paper")]
    assert paper.loc[("share of the highest third, score")]["vanilla"].tolist() == ["69.0"]
    away = paper.loc[("deviation from balance, score")].iloc[0]
    assert (away["coto"], away["coto-early"]) == ("8.0", "3.0")
    assert paper["source"].str.startswith("second-hand").all()


def test_losses_are_numbers_not_percent(tables: dict[str, Table]) -> None:
    display = tables["shapley"].display.set_index(["quantity", "task"])
    assert display.loc[("Σφ, loss (nats)", AVERAGE), "coto"].startswith("0.600 [")
    assert display.loc[("Σφ, score", AVERAGE), "coto"].startswith("30.0 [")


def test_residual_is_the_distance_in_standard_errors(frames: Frames) -> None:
    rows = frames["subnetworks"].copy()
    total = (rows["player"] == "total") & (rows["measure"] == "score")
    rows.loc[total, "value"] += 0.003  # of a standard error of 0.002
    display = build("shapley", frames | {"subnetworks": rows}).display.set_index("quantity")
    residual = display.loc["residual, score (standard errors)"]
    assert residual["vanilla"].startswith("1.500 [")
    exact = build("shapley", frames | {"subnetworks": rows.assign(error=0.0)})
    assert not exact.display["quantity"].str.startswith("residual").any()
    assert told(exact, f"{LAYERS} players, 64 subsets evaluated, φ from all subsets")


def test_contributions_of_nothing_have_sums_but_no_share(frames: Frames) -> None:
    rows = frames["subnetworks"].query("analysis == 'shapley'").assign(value=0.0)
    shown = build("shapley", frames | {"subnetworks": rows}).display
    ours = shown[~shown["task"].str.startswith("paper")]["quantity"]
    assert not ours.str.contains("share|deviation").any()
    assert ours.str.startswith("Σφ").any()


def test_every_player_is_in_the_csv(frames: Frames, tables: dict[str, Table]) -> None:
    data = tables["shapley"].data
    players = data[data["quantity"] == "φ"]
    assert len(players) == LAYERS * 2 * 2 * 3  # measures, tasks, strategies
    assert players["error"].tolist() == pytest.approx([0.002 / np.sqrt(3)] * len(players))
    one = "strategy == 'vanilla' and task == 'movies' and player == 'encoder.layer.5'"
    values = contributions(frames["subnetworks"], "score").query(one)["value"]
    line = players.query(one + " and measure == 'score'")
    assert line["mean"].tolist() == pytest.approx([values.mean()])


def test_stability_shows_the_nearest_chances(frames: Frames, tables: dict[str, Table]) -> None:
    table = tables["dropout_stability"]
    quantities = list(dict.fromkeys(table.display["quantity"]))
    assert quantities[:4] == [*(f"score at q = {q}" for q in ("0", "0.5", "1")), "mean over q"]
    curve = stability_curve(frames["subnetworks"], "score").query("strategy == 'coto' and x == 0.5")
    per_seed = curve.groupby("seed")["value"].mean()
    expected = mean_interval(per_seed)
    line = table.data.query("quantity == 'score at q = 0.5' and task == 'Average'")
    line = line.query("strategy == 'coto'").iloc[0]
    assert (line["mean"], line["low"]) == pytest.approx((expected.mean, expected.low))
    loss = table.data[table.data["quantity"] == "expected loss"]
    assert set(loss["unit"]) == {"nats"}
    assert sorted(set(loss["x"])) == [0.0, 0.5, 1.0]


def test_a_broken_bound_is_told(frames: Frames) -> None:
    rows = frames["subnetworks"].copy()
    broken = (rows["measure"] == "mean-weights") & (rows["x"] == 0.5) & (rows["seed"] == 1)
    broken &= (rows["task"] == "movies") & (rows["strategy"] == "coto")
    rows.loc[broken, "value"] += 0.3  # above the expected loss, by 0.3 minus a slack of 0.05
    display = build("theorem", frames | {"subnetworks": rows}).display
    lines = display.set_index(["bound by", "quantity"])
    weights = lines.loc["averaged weights"]
    assert weights.loc["runs in which it holds for every p", "coto"] == "5 of 6"
    assert weights.loc["runs in which it holds for every p", "vanilla"] == "6 of 6"
    assert weights.loc["smallest slack (nats)", "coto"] == "-0.250"
    assert weights.loc["p of the smallest slack", "coto"] == "0.500"
    outputs = lines.loc["averaged outputs"]
    assert outputs.loc["runs in which it holds for every p", "coto"] == "6 of 6"
    language = frames["subnetworks"].query("measure != 'mean-outputs'")
    table = build("theorem", frames | {"subnetworks": language})
    assert set(table.display["bound by"]) == {"averaged weights"}
    assert told(table, "not convex in its weights")


def test_gradients_by_third_and_half(tables: dict[str, Table]) -> None:
    display = tables["gradients"].display.set_index(["training", "quantity"])
    assert list(dict.fromkeys(display.index.get_level_values(0))) == [
        *("whole", "first half", "second half"),
    ]
    for period in ("whole", "first half", "second half"):
        assert display.loc[(period, "higher third"), "vanilla"].startswith("80.0 [")
        assert display.loc[(period, "lower third"), "coto − vanilla"].startswith("+23.3 [")
    layers = tables["gradients"].data.query("quantity == 'layer' and period == 'whole'")
    sums = layers.groupby(["task", "strategy"])["mean"].sum()
    assert sums.tolist() == pytest.approx([1.0] * len(sums))


def test_weights_stand_beside_figure_r4(tables: dict[str, Table]) -> None:
    table = tables["geometry"]
    paper = table.data[table.data["kind"] == "paper"]
    place = ["relation", "quantity", "strategy"]
    means = paper.set_index(place)["mean"].to_dict()
    assert means[("same strategy, other seed", "euclidean", "coto")] == 2.64
    assert means[("same seed, other strategy", "cosine", "coto")] == 0.69
    assert len(means) == 10
    assert paper["source"].str.startswith("exact; ").all()
    start = table.data[table.data["relation"] == "vs start"]
    assert set(start["quantity"]) == {"euclidean"}  # ΔW = 0 has no direction
    assert told(table, "inferred from the paper's printed numbers")


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


def test_one_seed_has_no_interval_but_a_table(tmp_path: Path) -> None:
    records = make_analyses(tmp_path, tasks=TASKS, adapters=("dora",), seeds=(0,))
    frames = load_frames(records)
    for name in ("shapley", "dropout_stability", "theorem", "gradients", "geometry"):
        table = build(name, frames)
        assert len(table.display)
        assert "source" not in table.display  # the paper has no such numbers for DoRA
    share = build("shapley", frames).data.query("task == 'Average'")
    assert share["low"].isna().all()
