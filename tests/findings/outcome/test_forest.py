"""The forest plot, read back: a row per claim and suite, marks at the gains, nothing outside."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from coto.config.models import Facts, Figures
from coto.findings.make import make_claims, make_figure
from coto.findings.outcome.forest import LOOKS, limits
from coto.findings.outcome.lines import UNTESTABLE, lines_of, read_rows
from coto.report.claim import CLAIMS, POOLED
from coto.report.drawing import LIGHT
from coto.report.records import load_frames
from coto.report.settings import Settings
from coto.report.verdicts import evaluate
from coto.report.writing import paper_effects
from tests.findings.analyses import FAST
from tests.findings.outcome.results import EQUAL, GAIN, HARM, result
from tests.report.figure_reading import texts
from tests.report.making import draw_figure

ROWS: list[dict[str, Any]] = [
    result("single-task", "glue", family="generalisation", margin=0.5, **HARM),
    result("single-task", family="generalisation", margin=0.5, paper_effects=[0.4, 99.0]),
    result("training-time", family="efficiency", unit="% of time", margin=2.0, **GAIN),
    result("lmc-barrier", family="merging", direction=-1, effect=-3.0, low=-90.0, high=1.0),
    result("merging-fusion", family="merging", n_seeds=2, low=None, high=None),
    result("pruning", "glue", **EQUAL),
    result("pruning", verdict=UNTESTABLE, sensitivity=0.6, sensitivity_needed=3.0),
]


def drawn(rows: list[dict[str, Any]]) -> Figure:
    return draw_figure("forest", {"claims": pd.DataFrame(rows)}, Settings())


@pytest.fixture(scope="module")
def forest() -> Figure:
    return drawn(ROWS)


def families(figure: Figure) -> dict[str, Axes]:
    return {axes.get_title("left"): axes for axes in figure.axes}


def marks(axes: Axes, y: int) -> list[tuple[float, str, str]]:
    """Position, marker and colour of what stands in a row, but not the paper's."""
    return [
        (float(line.get_xdata()[0]), str(line.get_marker()), to_hex(line.get_color()))
        for line in axes.lines
        if len(line.get_xdata()) == 1 and line.get_ydata()[0] == y and line.get_alpha() is None
    ]


def spans(axes: Axes, y: int) -> list[tuple[float, float]]:
    return [
        tuple(map(float, line.get_xdata()))
        for line in axes.lines
        if list(line.get_ydata()) == [y, y] and len(line.get_xdata()) == 2
    ]


def test_there_is_a_row_for_every_claim_and_suite_by_family(forest: Figure) -> None:
    found = {title: axes.get_yticks().size for title, axes in families(forest).items()}
    assert found == {
        "generalisation, points": 2,
        "efficiency, % of time": 1,
        "merging, points": 2,
        "pruning, points": 2,
    }
    names = [label.get_text() for axes in forest.axes for label in axes.get_yticklabels()]
    assert names == [row["suite"] for row in ROWS]
    for words in ("Single tasks", "Training time saved", "Adapters removed after training"):
        assert texts(forest).splitlines().count(words) == 1  # once for all its suites


def test_marks_stand_at_the_gains_and_look_as_the_verdicts_do(forest: Figure) -> None:
    by_family = {title.partition(",")[0]: axes for title, axes in families(forest).items()}
    place = dict.fromkeys(by_family, 0)
    for line in lines_of(ROWS):
        look = LOOKS[line.verdict]
        expected = (line.gain, look["marker"], to_hex(look["color"]))
        assert expected in marks(by_family[line.family], place[line.family])
        place[line.family] += 1


def test_verdicts_differ_in_grey_too() -> None:
    shapes = [(look["marker"], look.get("markerfacecolor")) for look in LOOKS.values()]
    assert len(set(shapes)) == len({marker for marker, _ in shapes}) == len(LOOKS)


def test_the_band_is_the_margin_of_the_claim(forest: Figure) -> None:
    for title, margin in (("generalisation, points", 0.5), ("efficiency, % of time", 2.0)):
        bands = [p for p in families(forest)[title].patches if isinstance(p, Rectangle)]
        assert {(p.get_x(), p.get_x() + p.get_width()) for p in bands} == {(-margin, margin)}


def test_an_interval_ends_at_the_panel_with_an_arrow(forest: Figure) -> None:
    axes = families(forest)["merging, points"]
    high = axes.get_xlim()[1]
    # Turned, as a lower barrier is better: from -1 to 90.
    assert spans(axes, 0) == [(-1.0, high)]
    assert (high, ">") in [(x, marker) for x, marker, _ in marks(axes, 0)]
    assert high < 20
    assert spans(axes, 1) == []  # of two seeds there is none
    assert "(2 seeds)" in texts(forest)


def test_nothing_is_outside_its_panel(forest: Figure) -> None:
    for axes in forest.axes:
        low, high = axes.get_xlim()
        for line in axes.lines:
            x = np.asarray(line.get_xdata(), float)
            if line.get_transform() == axes.transData:
                assert low <= x.min() <= x.max() <= high
    # Nor outside the picture.
    forest.draw_without_rendering()
    renderer = forest.canvas.get_renderer()
    box = forest.get_tightbbox(renderer)
    width, height = forest.get_size_inches()
    assert (box.x0, box.y0) >= (0, 0)
    assert box.x1 <= width
    assert box.y1 <= height


def test_what_cannot_be_tested_is_greyed_with_its_number(forest: Figure) -> None:
    axes = families(forest)["pruning, points"]
    assert axes.get_yticklabels()[1].get_color() == "#888888"
    assert axes.get_yticklabels()[0].get_color() == "#000000"
    grey = {text.get_text() for text in axes.texts if text.get_color() == "#888888"}
    assert grey == {"n/a", "shows +0.6 points, needs 3"}
    short = drawn([result("pruning", verdict=UNTESTABLE, effect=None, reason="worth 0.2 points")])
    assert "worth 0.2 points" in texts(short)


def test_the_papers_gains_are_light_and_wait_at_the_edge(forest: Figure) -> None:
    axes = families(forest)["generalisation, points"]
    light = [line for line in axes.lines if line.get_alpha() == LIGHT]
    assert [(line.get_xdata()[0], line.get_marker()) for line in light] == [
        *((0.4, "^"), (axes.get_xlim()[1], ">"))
    ]
    assert "paper" in texts(forest).splitlines()
    assert "paper" not in texts(drawn([result("pruning")])).splitlines()


def test_a_panel_begins_where_its_numbers_do() -> None:
    low, high = limits(lines_of([result("pruning", **GAIN)]))
    assert -2 < low < -1.5  # one and a half margins
    assert 6 < high < 7


def test_thirty_rows_are_legible_at_the_width_of_a_page() -> None:
    many = [
        result(claim, suite, family=f"family-{i // 2}")
        for i, claim in enumerate(("a", "b", "c", "d", "e", "f", "g", "h", "i", "j"))
        for suite in ("commonsense", "glue", "images")
    ]
    figure = drawn(many)
    width, height = figure.get_size_inches()
    assert width == 8.5  # 850 pixels at 100 for an inch
    assert height < 11
    rows = [t.get_window_extent().y0 for a in figure.axes for t in a.get_yticklabels()]
    gaps = -np.diff(rows) / figure.dpi
    assert gaps.min() > 8 / 72  # more than a letter


def test_the_figure_is_drawn_from_what_the_claims_job_wrote(
    few: dict[str, list[Path]], tmp_path: Path
) -> None:
    facts = {"glue": Facts(kind="text")}
    settings = FAST.model_copy(update={"facts": facts})
    make_claims(few, tmp_path, settings, answers=False)
    claims = tmp_path / "claims.json"
    made = make_figure("forest", {"claims": [claims]}, tmp_path / "forest", {}, Figures(), settings)
    assert [path.name for path in made] == ["forest.png", "forest.svg"]
    lines = {line.claim: line for line in lines_of(read_rows(claims))}
    assert lines["merging-fusion"].paper == pytest.approx((4.11, 4.46), abs=0.6)
    svg = made[1].read_text()
    assert svg.count("<svg") == 1
    assert "figures/forest.png" in (tmp_path / "claims.md").read_text().partition("## ")[0]


def test_the_papers_effects_are_of_the_kinds_of_adapters_and_tasks(
    few: dict[str, list[Path]],
) -> None:
    frames = load_frames(few)
    results = evaluate(frames, FAST)
    text = paper_effects(results, Settings(facts={"glue": {"kind": "text"}}))
    images = paper_effects(results, Settings(facts={"glue": {"kind": "image"}}))
    of = {value.label: value.effect for value in CLAIMS["single-task"].reported["lora"]}
    assert text["single-task", "glue"] == pytest.approx(
        [of[f"six GLUE tasks, DeBERTa-v3-base, lr {lr}"] for lr in ("5e-4", "1e-3")]
    )
    # Those of all adapter kinds that were trained: lora and dora.
    both = [
        value.effect
        for adapter in ("lora", "dora")
        for value in CLAIMS["single-task"].reported[adapter]
        if value.kind == "image"
    ]
    assert images["single-task", "glue"] == pytest.approx(both)
    # A share of the baseline alone, or of CoTo alone, is no effect.
    assert ("balanced-contribution", "glue") not in text
    assert text["training-time", "glue"] == [7.2, 23.69]
    assert {POOLED, "lora", "dora"} == {r.adapter for r in results if r.claim == "single-task"}


def test_without_verdicts_it_says_so() -> None:
    (text,) = drawn([result("pruning", role="sensitivity")]).texts
    assert "not tested" in text.get_text()
