"""Weight geometry: relations of runs, their table and figures."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from coto.analysis.geometry import embed
from coto.findings.weights import RELATIONS, weight_relations
from coto.report.paper import paper_value
from coto.report.writing import Table
from tests.findings.analyses import Frames, has_note
from tests.report.figure_reading import Records, heights, panel, rows, ticks

Draw = Callable[..., Figure]


def test_relations_of_weights_pair_the_right_runs(analyses: Frames) -> None:
    rows = weight_relations(analyses["geometry"], analyses["select"])
    counts = rows.groupby(["relation", "strategy"]).size().to_dict()
    seeds, other, pretrained, start = RELATIONS
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


def test_weights_of_rates_that_are_not_used_have_no_relation(analyses: Frames) -> None:
    used, other = analyses["geometry"], analyses["geometry"].assign(lr=1.0)
    other["other_lr"] = other["other_lr"].where(other["other_seed"] < 0, 1.0)
    mixed = used[used["other_seed"] >= 0].assign(other_lr=1.0, cosine=-1.0)
    arm = ["suite", "trained_on", "adapter", "strategy"]
    select = used[[*arm, "lr"]].drop_duplicates()
    select = pd.concat([select.assign(selected=True), select.assign(lr=1.0, selected=False)])
    found = weight_relations(pd.concat([used, other, mixed]), select)
    expected = weight_relations(used, select.iloc[:0])
    pd.testing.assert_frame_equal(found, expected)


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
    assert has_note(table, "inferred from the paper's printed numbers")


def test_geometry_prints_the_values_of_its_bars(draw: Draw) -> None:
    figure = draw("geometry")
    relations = ["same strategy,\nother seed", "same seed,\nother strategy", "vs pretrained"]
    ours, theirs = panel(figure, "images, hira: Euclidean"), panel(figure, "paper: Euclidean")
    assert ticks(theirs)[:3] == relations
    assert heights(ours, "vanilla") == {0: 2.0, 2: 10.5, 3: 1.5}
    assert heights(ours, "coto") == {0: 2.0, 1: 1.3, 2: 10.5, 3: 2.0}
    printed = {text.get_text() for text in ours.texts if text.get_text()}
    assert printed == {"2.00", "10.50", "1.50", "1.30"}
    value = paper_value("weight_geometry", "SameSeed-DiffMethod", "LoRA vs LoRA-CoTo", "euclidean")
    assert heights(theirs, "coto, paper")[1] == value.value
    # One seed has no pair of seeds.
    assert 0 not in heights(panel(figure, "questions, lora: cosine"), "vanilla")


def test_embedding_maps_the_runs_by_their_distances(draw: Draw, suites: Records) -> None:
    axes = panel(draw("embedding"), "images, lora\ndigits")
    runs = [(strategy, seed) for strategy in ("vanilla", "coto") for seed in (0, 1, 2)]
    distance = np.zeros((6, 6))
    for row in rows(suites, "geometry", suite="images", adapter="lora"):
        if row["other_seed"] >= 0:
            i = runs.index((row["strategy"], row["seed"]))
            j = runs.index((row["other_strategy"], row["other_seed"]))
            distance[i, j] = distance[j, i] = row["distance"]
    points = np.array([[drawn.get_xdata()[0], drawn.get_ydata()[0]] for drawn in axes.lines])
    assert points == pytest.approx(embed(distance, seed=0))
    assert [text.get_text() for text in axes.texts] == ["0", "1", "2"] * 2
    (few,) = panel(draw("embedding"), "questions, lora\nsnippets").texts
    assert few.get_text() == "2 runs:\ntoo few for t-SNE"
