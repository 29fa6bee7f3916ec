"""Tables and quantities of all analyses: form, and what there is without measurements."""

from pathlib import Path

import pytest

from coto.findings.layers.quantities import (
    bound_slack,
    gradient_imbalance,
    imbalance,
    stability_loss,
)
from coto.findings.merging.alignment import alignment
from coto.findings.merging.quantities import midpoints
from coto.findings.pruning import sparsity_area
from coto.findings.weights import weight_relations
from coto.report.quantities import RUN
from coto.report.records import load_frames
from coto.report.writing import Table, latex, markdown
from tests.findings.analyses import TASKS, build
from tests.report.factory_analysis import make_analyses

NEW = ("seed_merging", "alignment", "unstructured_pruning", "shapley", "dropout_stability")
NEW += ("theorem", "gradients", "geometry")


def test_no_records_give_no_rows_with_the_columns() -> None:
    frames = load_frames({stage: list[Path]() for stage in ("prune",)})
    sub, select = frames["subnetworks"], frames["select"]
    for rows in (
        sparsity_area(frames["prune"]),
        midpoints(frames["interpolate"]),
        alignment(frames["measured"]),
        stability_loss(sub),
        imbalance(sub, "loss"),
        bound_slack(sub, "mean-weights"),
        gradient_imbalance(frames["gradients"], select),
    ):
        assert rows.empty
        assert {*RUN, "value"} <= set(rows)
    assert weight_relations(frames["geometry"], select).empty


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


def test_one_seed_has_no_interval_but_a_table(tmp_path: Path) -> None:
    records = make_analyses(tmp_path, tasks=TASKS, adapters=("dora",), seeds=(0,))
    frames = load_frames(records)
    for name in ("shapley", "dropout_stability", "theorem", "gradients", "geometry"):
        table = build(name, frames)
        assert len(table.display)
        assert "source" not in table.display  # the paper has no such numbers for DoRA
    share = build("shapley", frames).data.query("task == 'Average'")
    assert share["low"].isna().all()
