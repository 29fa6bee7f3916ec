"""Figures of layers: what they show is computed again from the records."""

from collections.abc import Callable
from statistics import mean

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from coto.report.paper import paper_value
from tests.report.factory_analysis import LAYERS
from tests.report.figure_reading import Records, heights, line, mesh, panel, rows, texts

Draw = Callable[..., Figure]


def test_shapley_cells_are_means_in_points_on_one_scale(draw: Draw, suites: Records) -> None:
    figure = draw("shapley")
    limits = set()
    for strategy in ("vanilla", "coto", "coto-early"):
        axes = panel(figure, f"images, hira\n{strategy}: ")
        where = {"suite": "images", "adapter": "hira", "strategy": strategy}
        values = rows(suites, "subnetworks", analysis="shapley", measure="score", **where)
        expected = [
            100 * mean(row["value"] for row in values if row["layer"] == layer)
            for layer in range(LAYERS)
        ]
        assert mesh(axes).ravel() == pytest.approx(expected)
        limits |= {(c.norm.vmin, c.norm.vmax) for c in axes.collections}
    assert len(limits) == 1
    assert "top third 80 %" in panel(figure, "images, hira\nvanilla").get_title()
    ((low, high),) = limits
    assert low == -high


def test_shapley_has_a_lane_for_every_projection_and_encoder(
    draw: Draw, suite_frames: dict[str, pd.DataFrame]
) -> None:
    table = suite_frames["subnetworks"]
    one = table[(table["suite"] == "images") & (table["analysis"] == "shapley")]
    one = one[one["player"] != "total"]
    parts = [
        one.assign(stack=stack, projection=name, player=one["player"] + stack + name, value=value)
        for stack, shift in (("text_model.encoder.layers", 0.0), ("vision_model.encoder.layers", 3))
        for value, name in enumerate(("query", "key", "value"), start=round(shift))
    ]
    figure = draw("shapley", subnetworks=pd.concat(parts))
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        f"{encoder} {name}" for encoder in ("text", "vision") for name in ("query", "key", "value")
    ]
    cells = mesh(axes)
    assert cells[:, 0].tolist() == [0, 100, 200, 300, 400, 500]
    assert cells[:, -1].tolist() == [0, 100, 200, 300, 400, 500]


def test_shapley_compares_shares_with_the_papers(draw: Draw) -> None:
    axes = panel(draw("shapley"), "share of the highest third")
    assert list(heights(axes, "vanilla").values()) == pytest.approx([80] * 4)
    lora = paper_value("shapley", "share of highest 4 of 12 layers", "LoRA", "percent")
    assert list(heights(axes, "vanilla, paper").values()) == [lora.value]
    sums = panel(draw("shapley"), "Σφ by encoder")
    value = paper_value("shapley_heatmap_sum", "image encoder", "early CoTo", "sum of 36 cells")
    assert heights(sums, "coto-early, paper")[1] == value.value


def test_shapley_sums_near_zero_have_no_share(
    draw: Draw, suite_frames: dict[str, pd.DataFrame]
) -> None:
    nothing = suite_frames["subnetworks"].assign(value=0.0)
    figure = draw("shapley", subnetworks=nothing)
    assert "Σ near 0" in texts(figure)
    assert "nan" not in texts(figure)


@pytest.mark.parametrize(("measure", "place", "factor"), [("score", 0, 100), ("loss", 1, 1)])
def test_stability_lines_are_means_over_tasks_and_seeds(
    draw: Draw, suites: Records, measure: str, place: int, factor: float
) -> None:
    axes = draw("dropout_stability").axes[place]  # of glue
    x, y = line(axes, "coto-early")
    where = {"suite": "glue", "strategy": "coto-early", "analysis": "stability"}
    expected = [
        factor
        * mean(r["value"] for r in rows(suites, "subnetworks", x=q, measure=measure, **where))
        for q in x
    ]
    assert y == pytest.approx(expected)


def test_stability_bands_do_not_show_how_tasks_differ(
    draw: Draw, suite_frames: dict[str, pd.DataFrame]
) -> None:
    table = suite_frames["subnetworks"]
    more = table[(table["suite"] == "glue") & (table["seed"] == 1)]
    table = pd.concat([table, more.assign(seed=2, value=more["value"] + 0.01)])
    apart = table.assign(value=table["value"] + 0.3 * (table["task"] == "news"))
    bands = [
        draw("dropout_stability", subnetworks=rows).axes[0].collections[0].get_paths()[0].vertices
        for rows in (table, apart)
    ]
    assert np.ptp(bands[0][:, 1]) == pytest.approx(np.ptp(bands[1][:, 1]))


def test_theorem_shows_slack_and_violations(
    draw: Draw, suite_frames: dict[str, pd.DataFrame]
) -> None:
    table = suite_frames["subnetworks"]
    worse = (table["measure"] == "mean-weights") & (table["x"] == 0.5)
    figure = draw("theorem", subnetworks=table.assign(value=table["value"] + 0.3 * worse))
    columns = 3
    losses, slack = figure.axes[0], figure.axes[columns]
    expected, outputs, weights = (np.asarray(drawn.get_ydata()) for drawn in losses.lines)
    assert expected == pytest.approx([0.9, 0.65, 0.4])
    assert outputs == pytest.approx([0.9, 0.60, 0.4])
    assert weights == pytest.approx([0.9, 0.90, 0.4])
    _, *below = (np.asarray(drawn.get_ydata()) for drawn in slack.lines)
    assert below[0] == pytest.approx(expected - outputs)
    assert below[1] == pytest.approx(expected - weights)
    hatched = [
        np.ptp(area.get_paths()[0].vertices[:, 1])
        for area in slack.collections
        if area.get_hatch() is not None
    ]
    assert hatched == pytest.approx([0, 0.25])


def test_gradient_maps_are_relative_to_the_layers_that_trained(
    draw: Draw, suite_frames: dict[str, pd.DataFrame]
) -> None:
    table = suite_frames["gradients"]
    off = (table["strategy"] == "coto") & (table["layer"] == 0) & (table["share"] < 0.5)
    skipped = table.assign(
        norm=table["norm"].mask(off, 0.0),
        norm_active=table["norm_active"].mask(off, 0.0),
        steps_active=table["steps_active"].mask(off, 0),
    )
    figure = draw("gradients", gradients=skipped)
    vanilla, coto, shares = (panel(figure, "glue, lora, vanilla", i) for i in range(3))
    # Of six layers, the upper two hold 80 % of vanilla's norm.
    assert mesh(vanilla) == pytest.approx(np.outer([0.3] * 4 + [2.4] * 2, [1, 1]))
    cells = np.ma.filled(np.ma.masked_invalid(mesh(coto)), np.nan)
    assert np.isnan(cells[0, 0])
    assert np.delete(cells.ravel(), 0) == pytest.approx(1)
    assert line(shares, "vanilla")[0] == pytest.approx([5] * 4 + [40] * 2)
    late, all_steps = 1.75, 1.25 + 1.75  # norms of a layer's bins
    skipping = late / (5 * all_steps + late)
    assert line(shares, "coto")[0][0] == pytest.approx(100 * skipping)
