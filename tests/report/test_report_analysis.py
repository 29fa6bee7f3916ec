"""The quantities of sub-networks, gradients, weights and entries, against computations by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from factory_analysis import LAYERS, SPARSITIES, make_analyses
from hypothesis import given
from hypothesis import strategies as st

from coto.analysis.shapley import top_third_share
from coto.report import quantities_analysis as analysis
from coto.report.quantities import over_repeats
from coto.report.records import load_frames

TOP = 0.8  # what the factory gives to vanilla's highest third
Frames = dict[str, pd.DataFrame]


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Frames:
    root = tmp_path_factory.mktemp("analyses")
    return load_frames(make_analyses(root, tasks=("movies", "news"), adapters=("lora",)))


def shapley_rows(values: list[float], layers: list[int], stack: str = "blocks") -> pd.DataFrame:
    """Contributions of one run."""
    arm = {"suite": "s", "task": "t", "adapter": "lora", "strategy": "coto", "seed": 0}
    place = {"analysis": "shapley", "measure": "score", "stack": stack, "layer": layers}
    names = [f"{stack}.{i}" for i in range(len(layers))]
    return pd.DataFrame(arm | place | {"player": names, "value": values, "error": 0.0})


def test_top_share_and_imbalance_are_what_was_planted(frames: Frames) -> None:
    for measure in ("score", "loss"):
        share = analysis.top_share(frames["subnetworks"], measure).groupby("strategy")["value"]
        assert share.mean().to_dict() == pytest.approx(
            {"vanilla": TOP, "coto": 1 / 3, "coto-early": 1 / 3}
        )
        away = analysis.imbalance(frames["subnetworks"], measure).groupby("strategy")["value"]
        assert away.max().to_dict() == pytest.approx(
            {"vanilla": TOP - 1 / 3, "coto": 0, "coto-early": 0}, abs=1e-12
        )
        assert len(analysis.top_share(frames["subnetworks"], measure)) == 3 * 2 * 3


@given(st.lists(st.floats(0.01, 1), min_size=3, max_size=14), st.integers(0, 1000))
def test_top_share_is_that_of_the_analysis(values: list[float], first: int) -> None:
    layers = [first + 2 * i for i in range(len(values))]
    rows = shapley_rows(values, layers)
    expected = top_third_share(np.array(values), np.array(layers))
    assert analysis.top_share(rows, "score")["value"].tolist() == pytest.approx([expected])


def test_layers_count_within_their_stack() -> None:
    text = shapley_rows([0.0, 0.0, 0.3], [0, 1, 2], "text")
    vision = shapley_rows([0.1] * 5 + [0.2], [0, 1, 2, 3, 4, 5], "vision")
    share = analysis.top_share(pd.concat([text, vision]), "score").iloc[0]
    assert share["value"] == pytest.approx((0.3 + 0.1 + 0.2) / (0.3 + 0.7))
    assert share["balanced"] == pytest.approx(3 / 9)


def test_negative_contributions_count_and_sums_near_zero_are_left_out() -> None:
    rows = shapley_rows([-0.1, 0.0, 0.5], [0, 1, 2])
    assert analysis.top_share(rows, "score")["value"].tolist() == pytest.approx([0.5 / 0.4])
    # What is left where contributions cancel is no whole that could be shared out.
    assert analysis.top_share(shapley_rows([-0.1, 0.0, 0.2], [0, 1, 2]), "score").empty
    assert analysis.top_share(shapley_rows([-0.1, 0.0, 0.104], [0, 1, 2]), "score").empty
    assert analysis.imbalance(shapley_rows([0.0] * 3, [0, 1, 2]), "score").empty


def test_sparsity_area_is_the_trapezoid_over_the_width(frames: Frames) -> None:
    rows = frames["prune"].query("method == 'random-factors-global' and seed == 1")
    rows = rows.query("task == 'news' and strategy == 'coto'")
    curve = rows.groupby("sparsity")["value"].mean()
    a, b, c = (curve[s] for s in SPARSITIES)
    expected = ((a + b) / 2 * 0.5 + (b + c) / 2 * 0.4) / 0.9
    area = analysis.sparsity_area(frames["prune"]).set_index(["method", "task", "strategy", "seed"])
    found = area.loc[("random-factors-global", "news", "coto", 1), "value"]
    assert found == pytest.approx(expected)
    flat = frames["prune"].assign(value=0.7)
    assert np.ptp(analysis.sparsity_area(flat)["value"]) < 1e-12
    one = frames["prune"].query("sparsity == 0.5")
    assert analysis.sparsity_area(one).empty  # a point has no width


def test_structured_rows_are_no_unstructured_ones(frames: Frames) -> None:
    structured = frames["prune"].assign(method="structured")
    both = pd.concat([frames["prune"], structured])
    pd.testing.assert_frame_equal(
        analysis.unstructured(both), analysis.unstructured(frames["prune"])
    )


def test_repeats_are_averaged_with_their_deviation(frames: Frames) -> None:
    place = {"operator": "lora-lego", "task": "news", "strategy": "vanilla", "seeds": "0-2"}
    rows = frames["interpolate"]
    for column, value in place.items():
        rows = rows[rows[column] == value]
    assert sorted(rows["repeat"]) == [0, 1, 2]
    merged = analysis.seed_merges(frames["interpolate"])
    line = merged.query("operator == 'lora-lego' and task == 'news' and strategy == 'vanilla'")
    line = line[line["seed"] == (0, 2)].iloc[0]
    assert line["value"] == pytest.approx(np.mean(rows["value"]))
    assert line["repeat_sd"] == pytest.approx(np.std(rows["value"], ddof=1))
    assert line["repeats"] == 3
    single = merged[merged["operator"] == "ties"]
    assert single["repeat_sd"].isna().all()
    assert set(single["repeats"]) == {1}


def test_over_repeats_without_any_draw_keeps_the_rows(frames: Frames) -> None:
    rows = frames["merge"].query("operator == 'ties'")
    found = over_repeats(rows)
    assert found["value"].tolist() == rows["value"].tolist()
    assert found["repeat_sd"].isna().all()


def test_stability_area_and_what_dropping_costs(frames: Frames) -> None:
    rows = frames["subnetworks"]
    one = rows.query("analysis == 'stability' and measure == 'score' and task == 'movies'")
    one = one.query("strategy == 'coto' and seed == 2").sort_values("x")
    none, half, whole = one["value"]
    where = ["task", "strategy", "seed"]
    area = analysis.stability_area(rows).set_index(where).loc[("movies", "coto", 2), "value"]
    assert area == pytest.approx(((none + half) / 2 + (half + whole) / 2) / 2)
    cost = analysis.stability_loss(rows).set_index(where).loc[("movies", "coto", 2), "value"]
    assert cost == pytest.approx(whole - area)
    assert analysis.stability_loss(rows[rows["x"] != 1]).empty


def test_slack_is_the_expected_loss_minus_the_bound(frames: Frames) -> None:
    for measure in ("mean-outputs", "mean-weights"):
        slack = analysis.bound_slack(frames["subnetworks"], measure)
        assert np.allclose(slack["value"], 0.2 * slack["x"] * (1 - slack["x"]))
        assert len(slack) == 3 * 2 * 3 * 3  # strategies, tasks, seeds, p
    language = frames["subnetworks"].query("measure != 'mean-outputs'")
    assert analysis.bound_slack(language, "mean-outputs").empty


def test_gradient_shares_are_those_of_the_summed_norms(frames: Frames) -> None:
    gradients, select = frames["gradients"], frames["select"]
    run = gradients.query("strategy == 'vanilla' and task == 'news' and seed == 0")
    sums = (run["norm"] * run["steps"]).groupby(run["layer"]).sum()
    share = analysis.gradient_shares(gradients, select)
    found = share.query("strategy == 'vanilla' and task == 'news' and seed == 0")
    assert found["value"].tolist() == pytest.approx((sums / sums.sum()).tolist())
    assert found["value"].tolist()[-2:] == pytest.approx([TOP / 2] * 2)
    away = analysis.gradient_imbalance(gradients, select).groupby("strategy")["value"].mean()
    assert away.to_dict() == pytest.approx({"vanilla": TOP - 1 / 3, "coto": 0}, abs=1e-12)


def test_halves_of_the_training_are_told_apart(frames: Frames) -> None:
    gradients = frames["gradients"].copy()
    late = (gradients["share"] > 0.5) & (gradients["strategy"] == "coto")
    gradients.loc[late, "norm"] = (gradients.loc[late, "layer"] == LAYERS - 1).astype(float)
    early = analysis.gradient_imbalance(gradients, frames["select"], until=0.5)
    assert early.query("strategy == 'coto'")["value"].max() < 1e-12
    end = analysis.gradient_imbalance(gradients, frames["select"], since=0.5)
    assert end.query("strategy == 'coto'")["value"].tolist() == pytest.approx([2 / 3] * 6)


def test_relations_of_weights_pair_the_right_runs(frames: Frames) -> None:
    rows = analysis.weight_relations(frames["geometry"], frames["select"])
    counts = rows.groupby(["relation", "strategy"]).size().to_dict()
    seeds, other, pretrained, start = analysis.RELATIONS
    assert counts == {  # two tasks, three seeds
        **{(seeds, arm): 2 * 3 for arm in ("vanilla", "coto")},
        (other, "coto"): 2 * 3,
        **{(name, arm): 2 * 3 for name in (pretrained, start) for arm in ("vanilla", "coto")},
    }
    by = rows.groupby("relation")[["cosine", "euclidean"]].mean()
    assert by.loc[seeds].tolist() == pytest.approx([0.15, 2.0])
    assert by.loc[other].tolist() == pytest.approx([0.7, 1.3])
    assert by.loc[pretrained, "euclidean"] == pytest.approx(10.5)
    pairs = set(rows.loc[rows["relation"] == seeds, "seed"])
    assert pairs == {(0, 1), (0, 2), (1, 2)}


def test_weights_of_rates_that_are_not_used_have_no_relation(frames: Frames) -> None:
    used, other = frames["geometry"], frames["geometry"].assign(lr=1.0)
    other["other_lr"] = other["other_lr"].where(other["other_seed"] < 0, 1.0)
    mixed = used[used["other_seed"] >= 0].assign(other_lr=1.0, cosine=-1.0)
    arm = ["suite", "trained_on", "adapter", "strategy"]
    select = used[[*arm, "lr"]].drop_duplicates()
    select = pd.concat([select.assign(selected=True), select.assign(lr=1.0, selected=False)])
    found = analysis.weight_relations(pd.concat([used, other, mixed]), select)
    expected = analysis.weight_relations(used, select.iloc[:0])
    pd.testing.assert_frame_equal(found, expected)


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
    found = analysis.alignment(measured)
    assert set(found["seed"]) == {(0, 1)}
    values = found.set_index(["third", "measure"])["value"].to_dict()
    assert values[("higher", "gap_before")] == pytest.approx(3 * 3.0)
    assert values[("middle", "gap_after")] == pytest.approx(2.0)
    assert values[("lower", "reduction")] == pytest.approx(1 - 1 / 3)


def test_no_records_give_no_rows_with_the_columns() -> None:
    frames = load_frames({stage: list[Path]() for stage in ("prune",)})
    sub, select = frames["subnetworks"], frames["select"]
    for rows in (
        analysis.sparsity_area(frames["prune"]),
        analysis.seed_merges(frames["interpolate"]),
        analysis.alignment(frames["measured"]),
        analysis.stability_loss(sub),
        analysis.imbalance(sub, "loss"),
        analysis.bound_slack(sub, "mean-weights"),
        analysis.gradient_imbalance(frames["gradients"], select),
    ):
        assert rows.empty
        assert {*analysis.RUN, "value"} <= set(rows)
    assert analysis.weight_relations(frames["geometry"], select).empty
