"""Shapley values, dropout stability, the bound and gradients: quantities and tables."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coto.analysis.shapley import top_third_share
from coto.findings.layers.quantities import (
    bound_slack,
    contributions,
    gradient_imbalance,
    gradient_shares,
    imbalance,
    stability_area,
    stability_curve,
    stability_loss,
    top_share,
)
from coto.report.comparison import AVERAGE
from coto.report.statistics import mean_interval
from coto.report.writing import Table
from tests.findings.analyses import Frames, build, has_note
from tests.report.factory_analysis import LAYERS

TOP = 0.8  # what the factory gives to vanilla's highest third


def shapley_rows(values: list[float], layers: list[int], stack: str = "blocks") -> pd.DataFrame:
    """Contributions of one run."""
    arm = {"suite": "s", "task": "t", "adapter": "lora", "strategy": "coto", "seed": 0}
    place = {"analysis": "shapley", "measure": "score", "stack": stack, "layer": layers}
    names = [f"{stack}.{i}" for i in range(len(layers))]
    return pd.DataFrame(arm | place | {"player": names, "value": values, "error": 0.0})


def test_top_share_and_imbalance_are_what_was_planted(analyses: Frames) -> None:
    for measure in ("score", "loss"):
        share = top_share(analyses["subnetworks"], measure).groupby("strategy")["value"]
        assert share.mean().to_dict() == pytest.approx(
            {"vanilla": TOP, "coto": 1 / 3, "coto-early": 1 / 3}
        )
        away = imbalance(analyses["subnetworks"], measure).groupby("strategy")["value"]
        assert away.max().to_dict() == pytest.approx(
            {"vanilla": TOP - 1 / 3, "coto": 0, "coto-early": 0}, abs=1e-12
        )
        assert len(top_share(analyses["subnetworks"], measure)) == 3 * 2 * 3


@given(st.lists(st.floats(0.01, 1), min_size=3, max_size=14), st.integers(0, 1000))
def test_top_share_is_that_of_the_analysis(values: list[float], first: int) -> None:
    layers = [first + 2 * i for i in range(len(values))]
    rows = shapley_rows(values, layers)
    expected = top_third_share(np.array(values), np.array(layers))
    assert top_share(rows, "score")["value"].tolist() == pytest.approx([expected])


def test_layers_count_within_their_stack() -> None:
    text = shapley_rows([0.0, 0.0, 0.3], [0, 1, 2], "text")
    vision = shapley_rows([0.1] * 5 + [0.2], [0, 1, 2, 3, 4, 5], "vision")
    share = top_share(pd.concat([text, vision]), "score").iloc[0]
    assert share["value"] == pytest.approx((0.3 + 0.1 + 0.2) / (0.3 + 0.7))
    assert share["balanced"] == pytest.approx(3 / 9)


def test_negative_contributions_count_and_sums_near_zero_are_left_out() -> None:
    rows = shapley_rows([-0.1, 0.0, 0.5], [0, 1, 2])
    assert top_share(rows, "score")["value"].tolist() == pytest.approx([0.5 / 0.4])
    # What is left where contributions cancel is no whole that could be shared out.
    assert top_share(shapley_rows([-0.1, 0.0, 0.2], [0, 1, 2]), "score").empty
    assert top_share(shapley_rows([-0.1, 0.0, 0.104], [0, 1, 2]), "score").empty
    assert imbalance(shapley_rows([0.0] * 3, [0, 1, 2]), "score").empty


def test_stability_area_and_what_dropping_costs(analyses: Frames) -> None:
    rows = analyses["subnetworks"]
    one = rows.query("analysis == 'stability' and measure == 'score' and task == 'movies'")
    one = one.query("strategy == 'coto' and seed == 2").sort_values("x")
    none, half, whole = one["value"]
    where = ["task", "strategy", "seed"]
    area = stability_area(rows).set_index(where).loc[("movies", "coto", 2), "value"]
    assert area == pytest.approx(((none + half) / 2 + (half + whole) / 2) / 2)
    cost = stability_loss(rows).set_index(where).loc[("movies", "coto", 2), "value"]
    assert cost == pytest.approx(whole - area)
    assert stability_loss(rows[rows["x"] != 1]).empty


def test_slack_is_the_expected_loss_minus_the_bound(analyses: Frames) -> None:
    for measure in ("mean-outputs", "mean-weights"):
        slack = bound_slack(analyses["subnetworks"], measure)
        assert np.allclose(slack["value"], 0.2 * slack["x"] * (1 - slack["x"]))
        assert len(slack) == 3 * 2 * 3 * 3  # strategies, tasks, seeds, p
    language = analyses["subnetworks"].query("measure != 'mean-outputs'")
    assert bound_slack(language, "mean-outputs").empty


def test_gradient_shares_are_those_of_the_summed_norms(analyses: Frames) -> None:
    gradients, select = analyses["gradients"], analyses["select"]
    run = gradients.query("strategy == 'vanilla' and task == 'news' and seed == 0")
    sums = (run["norm"] * run["steps"]).groupby(run["layer"]).sum()
    share = gradient_shares(gradients, select)
    found = share.query("strategy == 'vanilla' and task == 'news' and seed == 0")
    assert found["value"].tolist() == pytest.approx((sums / sums.sum()).tolist())
    assert found["value"].tolist()[-2:] == pytest.approx([TOP / 2] * 2)
    away = gradient_imbalance(gradients, select).groupby("strategy")["value"].mean()
    assert away.to_dict() == pytest.approx({"vanilla": TOP - 1 / 3, "coto": 0}, abs=1e-12)


def test_halves_of_the_training_are_told_apart(analyses: Frames) -> None:
    gradients = analyses["gradients"].copy()
    late = (gradients["share"] > 0.5) & (gradients["strategy"] == "coto")
    gradients.loc[late, "norm"] = (gradients.loc[late, "layer"] == LAYERS - 1).astype(float)
    early = gradient_imbalance(gradients, analyses["select"], until=0.5)
    assert early.query("strategy == 'coto'")["value"].max() < 1e-12
    end = gradient_imbalance(gradients, analyses["select"], since=0.5)
    assert end.query("strategy == 'coto'")["value"].tolist() == pytest.approx([2 / 3] * 6)


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
    assert has_note(exact, f"{LAYERS} players, 64 subsets evaluated, φ from all subsets")


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
    assert has_note(table, "not convex in its weights")


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
