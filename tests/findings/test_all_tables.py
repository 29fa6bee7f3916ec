import math
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from scipy import stats

from coto.errors import CotoError
from coto.findings import TABLES
from coto.findings.merging.quantities import barriers
from coto.findings.pruning import pruned_mean
from coto.report.comparison import AVERAGE
from coto.report.quantities import final_runs
from coto.report.records import load_frames
from coto.report.settings import Settings
from coto.report.statistics import mean_interval
from coto.report.writing import write_atomically
from tests.report.factory import TASKS, WEIGHTS, make_records
from tests.report.making import build, make_tables

FAST = Settings(resamples=200)


def read(folder: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(folder / f"{name}.csv")


@pytest.fixture(scope="module")
def folder(few: dict[str, list[Path]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tables")
    written = make_tables(few, out, FAST)
    assert sorted(p.name for p in written) == sorted(p.name for p in out.iterdir())
    assert len(written) == 3 * len(TABLES)
    return out


def test_single_task_against_an_independent_computation(
    few: dict[str, list[Path]], folder: Path
) -> None:
    rows = load_frames(few)["train"]
    rows = rows[(rows["split"] == "test") & (rows["metric"] == "accuracy")]
    rows = rows[rows["adapter"] == "dora"]
    grid = rows.pivot(index=["task", "seed"], columns="strategy", values="value")
    table = read(folder, "single_task")
    at = table[(table["adapter"] == "dora") & (table["metric"] == "accuracy")]
    at = at[at["kind"] == "measured"].set_index(["task", "strategy"])
    movies = mean_interval(grid.loc["movies", "coto"])
    line = at.loc[("movies", "coto")]
    numbers = (line["mean"], line["low"], line["high"])
    assert numbers == pytest.approx((movies.mean, movies.low, movies.high))
    gap = mean_interval(grid.loc["movies", "coto"] - grid.loc["movies", "vanilla"])
    assert line["difference_low"] == pytest.approx(gap.low)
    assert (line["n_seeds"], line["n_pairs"], line["n_test"]) == (3, 3, 400)
    whole = (grid["coto"] - grid["vanilla"]).rename("difference").reset_index()
    per_seed = whole.groupby("seed")["difference"].mean()
    test = stats.ttest_1samp(per_seed, 0)
    low = test.confidence_interval().low
    average = at.loc[(AVERAGE, "coto")]
    assert average["difference"] == pytest.approx(per_seed.mean())
    assert (average["difference_low"], average["p"]) == pytest.approx((low, test.pvalue))
    assert average["mean"] == pytest.approx(grid["coto"].mean())


def test_csv_gives_back_the_same_numbers(few: dict[str, list[Path]], folder: Path) -> None:
    frames = load_frames(few)
    for name in ("multitask_merging", "pruning", "training_time"):
        data = build(name, frames, FAST).data
        back = pd.read_csv(StringIO(data.to_csv(index=False)), float_precision="round_trip")
        numbers = [c for c in data.columns if pd.api.types.is_float_dtype(data[c])]
        pd.testing.assert_frame_equal(back[numbers], data[numbers].astype(float), check_exact=True)


def test_paper_rows_say_what_they_are(folder: Path) -> None:
    table = read(folder, "multitask_merging")
    paper = table[table["kind"] == "paper"].set_index(["operator", "strategy", "task"])
    label = "paper, DeBERTa-v3-base, six GLUE tasks, lr {}"
    assert set(paper.index.get_level_values("task")) == {label.format("5e-4"), label.format("1e-3")}
    assert paper.loc[("fusion", "vanilla", label.format("5e-4")), "mean"] == pytest.approx(0.5935)
    assert paper.loc[("ensemble", "coto", label.format("5e-4")), "difference"] == pytest.approx(
        0.0414
    )
    assert paper["source"].str.startswith("exact; ").all()
    text = (folder / "pruning.md").read_text()
    assert "paper: CLIP ViT-B/16, 11 image sets" in text
    assert "77.0 → 80.9" in text
    assert "digitised" in text


def test_display_has_percent_and_intervals(folder: Path) -> None:
    text = (folder / "multitask_merging.md").read_text()
    assert (
        "| adapter | operator | task | metric | seeds | vanilla | coto | coto − vanilla |" in text
    )
    assert "[+" in text
    latex = (folder / "multitask_merging.tex").read_text()
    assert r"\toprule" in latex
    assert "coto $-$ vanilla" in latex
    assert latex.isascii()
    assert latex.count("{") == latex.count("}")


def test_interpolation_keeps_all_weights_in_the_csv(folder: Path) -> None:
    table = read(folder, "interpolation")
    scores = table[table["quantity"] == "score"]
    assert sorted(scores["weight"].unique()) == list(WEIGHTS)
    assert "score at λ = 0.5" in (folder / "interpolation.md").read_text()
    assert (table.loc[table["quantity"] == "barrier", "mean"] >= 0).all()


def test_building_twice_gives_the_same_bytes(
    few: dict[str, list[Path]], folder: Path, tmp_path: Path
) -> None:
    shuffled = {s: p if s == "overhead" else p[::-1] for s, p in few.items()}
    make_tables(shuffled, tmp_path, FAST)
    for path in folder.iterdir():
        assert path.read_bytes() == (tmp_path / path.name).read_bytes(), path.name


def test_one_seed_and_missing_stages_are_told(
    one_seed: dict[str, list[Path]], tmp_path: Path
) -> None:
    make_tables({**one_seed, "merge": [], "prune": []}, tmp_path, Settings(), latex=False)
    assert not list(tmp_path.glob("*.tex"))
    assert "need two seeds" in (tmp_path / "interpolation.md").read_text()
    assert "need a suite of two or more tasks" in (tmp_path / "multitask_merging.md").read_text()
    assert read(tmp_path, "pruning").empty
    table = read(tmp_path, "single_task")
    assert table.loc[table["kind"] == "measured", "low"].isna().all()


def test_collapsed_runs_are_flagged(tmp_path: Path) -> None:
    found = make_records(tmp_path, adapters=("lora",), seeds=(0, 1), collapsed=True)
    table = build("single_task", load_frames(found), FAST)
    measured = table.data[(table.data["task"] == TASKS[0]) & (table.data["kind"] == "measured")]
    assert set(measured["flagged"]) == {1}
    flagged = table.display[table.display["vanilla"].str.contains("†")]["task"]
    assert set(flagged) == {TASKS[0], AVERAGE}
    assert any("collapsed" in note for note in table.notes)


def test_chosen_learning_rate_is_the_one_reported(tmp_path: Path) -> None:
    found = make_records(tmp_path, adapters=("lora",), lrs=(1e-3, 4e-3, 1e-2), seeds=(0, 1))
    frames = load_frames(found)
    assert set(final_runs(frames["train"], frames["select"])["lr"]) == {4e-3}
    table = build("learning_rate", frames, FAST)
    assert table.data.groupby("lr")["selected"].all().to_dict() == {
        1e-3: False,
        4e-3: True,
        1e-2: False,
    }
    assert build("single_task", frames, FAST).data["n_values"].max() == 2
    with pytest.raises(CotoError, match=r"glue/.*/lora/.*: expected one selected learning rate"):
        final_runs(frames["train"], frames["select"].iloc[:0])


def test_more_strategies_get_columns_of_their_own(tmp_path: Path) -> None:
    found = make_records(
        tmp_path,
        adapters=("lora",),
        strategies=("coto", "stochastic-depth", "vanilla"),
        seeds=(0, 1),
    )
    display = build("multitask_merging", load_frames(found), FAST).display
    assert list(display.columns)[4:] == [
        *("seeds", "vanilla", "coto", "stochastic-depth"),
        *("coto − vanilla", "stochastic-depth − vanilla", "source"),
    ]


def frame(**columns: Any) -> pd.DataFrame:
    arm = {"suite": "s", "task": "t", "adapter": "lora", "strategy": "coto"}
    return pd.DataFrame(arm | {"metric": "accuracy", "headline": True, "repeat": 0} | columns)


def test_barrier_is_measured_from_the_line_between_the_ends() -> None:
    weights = [0.0, 0.25, 0.5, 0.75, 1.0]
    path = {"seeds": "0-1", "operator": "fusion", "weight": weights}
    sagging = barriers(frame(**path, value=[0.8, 0.6, 0.5, 0.7, 0.9]))
    assert sagging["value"].tolist() == pytest.approx([0.35])
    assert barriers(frame(**path, value=[0.8, 0.9, 0.9, 0.9, 0.9]))["value"].tolist() == [0.0]
    without_end = frame(**path, value=0.5).query("weight < 1")
    assert barriers(without_end).empty


def test_pruned_mean_counts_both_parities_as_one() -> None:
    rows = frame(
        seed=0, method="structured", keep=["all", "odd", "even", "low"], value=[1.0, 0.2, 0.4, 0.7]
    )
    assert pruned_mean(rows)["value"].tolist() == pytest.approx([(0.3 + 0.7) / 2])


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    write_atomically(path, "old")
    with pytest.raises(TypeError):
        write_atomically(path, math.pi)  # type: ignore[arg-type]
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_the_paper_does_not_prune_has_no_number_of_its(few: dict[str, list[Path]]) -> None:
    frames = load_frames(few)
    prune = frames["prune"]
    encoder = prune[prune["keep"] == "low"].assign(keep="vision")
    table = build("pruning", frames | {"prune": pd.concat([prune, encoder])}, FAST)
    paper = table.display.set_index(["adapter", "kept"]).filter(like="paper").squeeze()
    assert paper["lora", "vision"] == paper["dora", "low"] == ""
    assert paper["lora", "low"] != ""
