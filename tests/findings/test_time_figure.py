"""The figure of training time: what it shows is computed again from the records."""

from collections.abc import Callable
from statistics import mean

import pytest
from matplotlib.figure import Figure

from coto.report.paper import paper_value
from tests.report.figure_reading import Records, panel, rows

Draw = Callable[..., Figure]


def test_training_time_marks_where_the_paper_would_be(draw: Draw, suites: Records) -> None:
    axes = panel(draw("training_time"), "images")
    marks = [float(line.get_xdata()[0]) for line in axes.lines if line.get_marker() == "s"]
    for adapter, mark in zip(("lora", "hira"), marks, strict=True):
        where = {"suite": "images", "adapter": adapter, "strategy": "vanilla"}
        base = mean(row["seconds_per_step"] for row in rows(suites, "overhead", **where))
        method = {"lora": "LoRA-CoTo", "hira": "HiRA-CoTo"}[adapter]
        saved = paper_value("training_time_math_1xA6000", "speedup", method, "percent").value
        assert mark == pytest.approx(1000 * base * (1 - saved / 100))
