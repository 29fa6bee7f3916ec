"""Several suites in one report: each with its own section, baselines, context and claims."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from coto.findings import load_all
from coto.findings.make import make_claims
from coto.findings.merging.quantities import path_scores, thirds, three_way
from coto.report.claim import CLAIMS
from coto.report.comparison import AVERAGE
from coto.report.quantities import labelled
from coto.report.records import load_frames
from coto.report.settings import Settings
from coto.report.verdicts import POOLED, UNTESTED_VERDICT, evaluate
from tests.report.factory import make_records
from tests.report.figure_reading import panel, ticks
from tests.report.making import build, draw_figure, make_tables
from tools import reference

Records = dict[str, list[Path]]
FACTS: dict[str, dict[str, Any]] = {
    "glue": {"backbone": "minilm", "kind": "text", "shots": None, "test_rows": 96},
    "commonsense": {
        **{"backbone": "smollm2", "kind": "language", "shots": None, "test_rows": None},
        **{"loss_on": "all", "protocol": "ranking"},
    },
    "images": {
        **{"backbone": "glyphs", "kind": "image", "shots": 8, "test_rows": None},
        "head": "prototypes",
    },
}
load_all()
FAST = Settings(resamples=100, facts=FACTS)


def together(*parts: Records) -> Records:
    found: Records = defaultdict(list)
    for part in parts:
        for stage, paths in part.items():
            found[stage] += paths
    return dict(found)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Records:
    root = tmp_path_factory.mktemp("three")
    chance = ("majority", "random")
    return together(
        make_records(
            root, suite="glue", tasks=("movies", "news"), adapters=("lora", "dora"), seeds=(0, 1)
        ),
        make_records(
            root,
            suite="commonsense",
            tasks=("cloze", "next"),
            trained_on="mixture",
            adapters=("lora",),
            seeds=(0, 1),
            baselines=("zero-shot", *chance),
        ),
        make_records(
            root,
            suite="images",
            tasks=("digits",),
            adapters=("lora",),
            strategies=("vanilla", "coto", "dropout"),
            baselines=chance,
        ),
    )


@pytest.fixture(scope="module")
def folder(three: Records, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report")
    make_tables(three, out / "tables", FAST)
    make_claims(three, out, FAST, answers=False)
    return out


def sections(text: str) -> dict[str, str]:
    return {part.split("\n")[0]: part for part in text.split("\n## ")[1:]}


def test_every_suite_has_a_section_with_its_own_columns(folder: Path) -> None:
    for path in (folder / "tables").glob("*.md"):
        text = path.read_text()
        if "No measurements." in text:  # of a stage that these records lack
            continue
        found = sections(text)
        expected = ["commonsense", "glue", "images", "How to read it"]
        if path.stem == "multitask_merging":  # always of several tasks
            assert set(expected) >= set(found)
        else:
            assert list(found) == expected, path.name
    single = sections((folder / "tables" / "single_task.md").read_text())
    assert "dropout − vanilla" in single["images"]
    assert "dropout" not in single["glue"]
    assert "majority class" in single["commonsense"]
    assert "majority class" not in single["glue"]  # its baselines were not measured


def test_notes_say_how_each_suite_was_trained_and_scored(folder: Path) -> None:
    for name in ("single_task", "interpolation", "pruning", "training_time", "learning_rate"):
        text = (folder / "tables" / f"{name}.md").read_text()
        assert "commonsense: causal language model on smollm2; loss on prompt and answer" in text
        assert "scored by ranking of the candidate answers" in text
        assert "images: image classification on glyphs; only adapters are trained, the head" in text
        assert "is of frozen class prototypes; 8 shots per class" in text
        assert "glue: text classification on minilm; at most 96 test rows" in text


def test_baselines_stand_beside_what_was_trained(three: Records, folder: Path) -> None:
    table = pd.read_csv(folder / "tables" / "single_task.csv")
    lines = table[table["kind"] == "baseline"]
    assert lines["difference"].isna().all()
    for path in three["baseline"]:
        rows = json.loads(path.read_text())["rows"]
        for row in rows:
            at = lines[(lines["suite"] == row["suite"]) & (lines["strategy"] == row["method"])]
            assert at.loc[at["task"] == row["task"], "mean"].tolist() == [row["value"]]
    zero = lines[(lines["strategy"] == "zero-shot") & (lines["task"] == AVERAGE)]
    assert zero["mean"].tolist() == [pytest.approx((0.50 + 0.51) / 2)]
    text = sections((folder / "tables" / "single_task.md").read_text())["commonsense"]
    header, _, *rows = [line.split(" | ") for line in text.splitlines() if line.startswith("|")]
    (cloze,) = [row for row in rows if row[1] == "cloze"]
    line = dict(zip(header, cloze, strict=True))
    bare = [
        row["value"]
        for path in three["none"]
        for row in json.loads(path.read_text())["rows"]
        if (row["suite"], row["task"], row["strategy"]) == ("commonsense", "cloze", "coto")
    ]
    assert line["none (coto)"] == f"{100 * sum(bare) / len(bare):.1f}"
    values = {row["method"]: row["value"] for row in rows_of(three, "commonsense", "cloze")}
    assert line["majority class"] == f"{100 * values['majority']:.1f}"
    assert line["zero-shot"] == f"{100 * values['zero-shot']:.1f}"
    assert "random guessing" not in line  # in the CSV, as the note says
    assert list(line).index("none (vanilla)") < list(line).index("vanilla")


def rows_of(records: Records, suite: str, task: str) -> list[dict[str, Any]]:
    rows = [row for path in records["baseline"] for row in json.loads(path.read_text())["rows"]]
    return [row for row in rows if (row["suite"], row["task"]) == (suite, task)]


def test_a_report_without_baselines_is_the_same_otherwise(three: Records) -> None:
    frames = dict(load_frames(three))
    full = build("single_task", frames, FAST).data
    del frames["baseline"]
    bare = build("single_task", frames, FAST)
    assert not any("no training" in note for note in bare.notes)
    rest = full[full["kind"] != "baseline"]  # runs without their adapters stay
    assert bare.data["mean"].tolist() == rest["mean"].tolist()


def test_cut_items_are_told(three: Records) -> None:
    frames = dict(load_frames(three))
    told = build("single_task", frames, FAST).notes
    assert not any("were cut" in note for note in told)
    train = frames["train"]
    cut = train["suite"].eq("glue") & train["task"].eq("news")
    frames["train"] = train.assign(truncated=train["truncated"].mask(cut, 6))
    # Two tasks of 400 items.
    expected = "Test items that were cut to what the model may read: glue 0.75%."
    assert expected in build("single_task", frames, FAST).notes


def test_items_that_were_left_out_are_told(three: Records) -> None:
    frames = dict(load_frames(three))
    train = frames["train"]
    long = train["suite"].eq("glue") & train["task"].eq("news")
    frames["train"] = train.assign(left_out=train["left_out"].mask(long, 100))
    # 100 of one task beside 400 that were used of each of two.
    expected = "Test items that were left out as too long: glue 11.11%."
    assert expected in build("single_task", frames, FAST).notes


def with_second_metric(frames: dict[str, pd.DataFrame], name: str) -> dict[str, pd.DataFrame]:
    """Every accuracy of the language models again under another name, a tenth lower."""
    made = dict(frames)
    for record in ("train", "prune", "interpolate"):
        rows = made[record]
        more = rows[(rows["suite"] == "commonsense") & (rows["metric"] == "accuracy")]
        more = more.assign(metric=name, headline=False, value=more["value"] - 0.1)
        made[record] = pd.concat([rows, more], ignore_index=True)
    return made


@pytest.mark.parametrize("metric", ["accuracy_norm", "accuracy_calibrated"])
def test_second_metrics_of_answers_stand_beside_the_headline(three: Records, metric: str) -> None:
    frames = dict(load_frames(three))
    plain = build("single_task", frames, FAST)
    assert metric not in set(plain.display["metric"])
    shown = build("single_task", with_second_metric(frames, metric), FAST)
    lines = shown.display[shown.display["metric"] == metric]
    assert set(lines["suite"]) == {"commonsense"}
    assert any(note.startswith(f"{metric}: ") for note in shown.notes)
    # A suite's lines stand together.
    suites = shown.display["suite"]
    assert (suites != suites.shift()).sum() == suites.nunique()


def test_calibrated_answers_have_a_table_of_their_own(three: Records) -> None:
    frames = dict(load_frames(three))
    assert build("calibrated", frames, FAST).data.empty
    made = build("calibrated", with_second_metric(frames, "accuracy_calibrated"), FAST).data
    assert set(made["suite"]) == {"commonsense"}
    means = made.pivot_table(
        index=["adapter", "task", "strategy", "quantity"], columns="answers", values="mean"
    )
    states = {"all adapters", "every other layer", "a third of the layers", "two seeds half-way"}
    assert states == set(means.index.get_level_values("quantity"))
    gap = means["as they are"] - means["calibrated"]
    assert gap.to_numpy() == pytest.approx(0.1)
    prune = frames["prune"]
    every_other = prune[
        (prune["suite"] == "commonsense")
        & prune["keep"].isin(["odd", "even"])
        & (prune["adapter"] == "lora")
    ]
    for (task, strategy), rows in every_other.groupby(["task", "strategy"]):
        line = means.loc[("lora", task, strategy, "every other layer"), "as they are"]
        assert line == pytest.approx(rows["value"].mean())


def test_papers_rows_are_those_of_the_suites_kind(folder: Path) -> None:
    paper = pd.read_csv(folder / "tables" / "single_task.csv").query("kind == 'paper'")
    by_suite = {suite: set(rows["task"]) for suite, rows in paper.groupby("suite")}
    assert by_suite["glue"] == {"paper, DeBERTa-v3-base, six GLUE tasks"}
    assert by_suite["images"] == {"paper, CLIP ViT-B/16, 11 image sets"}
    assert "paper, LLaMA-3-8B, eight commonsense sets" in by_suite["commonsense"]
    assert not any("GSM8K" in task for task in by_suite["commonsense"])  # not evaluated there
    copied = paper[
        (paper["strategy"] == "vanilla") & paper["task"].str.startswith("paper, LLaMA-3")
    ]
    assert copied["mean"].tolist() == [pytest.approx(0.8079)]
    assert copied["source"].str.endswith("baseline copied from DoRA README").all()
    upstream = paper[paper["task"].str.startswith("DoRA README") & (paper["strategy"] == "coto")]
    assert upstream.empty
    merged = pd.read_csv(folder / "tables" / "multitask_merging.csv").query("kind == 'paper'")
    nine = merged[(merged["suite"] == "commonsense") & (merged["operator"] == "fusion")]
    assert nine["mean"].tolist() == pytest.approx([0.4717, 0.5853])


def test_claims_are_tested_within_each_suite(three: Records) -> None:
    results = evaluate(load_frames(three), FAST)
    at = {(r.claim, r.suite, r.adapter): r for r in results if not r.task}
    for suite, units, adapter in (
        ("glue", 4, POOLED),
        ("glue", 2, "dora"),
        ("commonsense", 2, "lora"),
    ):
        assert at["pruning", suite, adapter].n_tasks == units
    assert at["language-models", "commonsense", "lora"].n_pairs == 4
    assert at["vision", "images", "lora"].effect == at["single-task", "images", "lora"].effect
    assert ("vision", "glue", POOLED) not in at
    rival = at["strategies", "images", "lora"]
    assert "strongest other strategy" in rival.test
    assert any("Dropout: 65.89 → 72.03" in text for text in rival.paper)
    untested = {r.claim for r in results if r.verdict == UNTESTED_VERDICT}
    assert not untested & {"language-models", "vision", "strategies"}
    # The paper's numbers of other kinds of tasks stay away.
    assert all("LLaMA" not in text for text in at["single-task", "images", "lora"].paper)
    assert all("GLUE" not in text for text in at["merging-fusion", "commonsense", "lora"].paper)


def test_claims_without_their_suite_stay_untested_with_the_reason(three: Records) -> None:
    frames = load_frames(three)
    only = {stage: rows[rows["suite"] == "glue"] for stage, rows in frames.items()}
    missing = {r.claim: r for r in evaluate(only, FAST) if r.verdict == UNTESTED_VERDICT}
    assert "no suite with a language model" in missing["language-models"].reason
    assert "no suite of images" in missing["vision"].reason
    assert "studies" in missing["strategies"].reason
    assert "strategies-pruning" not in missing
    assert {"strategies", "strategies-pruning"} < set(CLAIMS)


def test_sets_scored_after_several_tasks_are_told_apart(tmp_path: Path) -> None:
    parts = []
    for trained_on in ("commonsense", "math"):
        parts.append(
            make_records(
                tmp_path / trained_on,
                suite="llm",
                tasks=("boolq", f"only_{trained_on}"),
                trained_on=trained_on,
                adapters=("lora",),
                seeds=(0, 1),
            )
        )
    frames = load_frames(together(*parts))
    expected = {
        *("boolq after commonsense", "boolq after math", "only_commonsense", "only_math"),
    }
    for stage in ("train", "prune", "interpolate"):
        assert set(frames[stage]["task"]) == expected
    assert len(build("single_task", frames, FAST).display) >= len(expected)


def mixed(**columns: Any) -> pd.DataFrame:
    arm = {"suite": "s", "task": "t", "adapter": "lora", "strategy": "coto", "operator": "fusion"}
    return pd.DataFrame(arm | {"metric": "accuracy", "headline": True, "repeat": 0} | columns)


def test_mixtures_of_two_and_three_seeds() -> None:
    rows = mixed(
        seeds=["0-1", "0-1", "0-1", "0-10", "0-1-2"],
        weight=[0.0, 0.333, 0.667, 0.667, 1 / 3],
        value=[0.9, 0.5, 0.7, 0.4, 0.3],
    )
    assert labelled(rows)["seed"].tolist() == [(0, 1)] * 3 + [(0, 10), (0, 1, 2)]
    assert path_scores(rows)["value"].tolist() == [0.9, 0.5, 0.7, 0.4]
    # 0.667 of the second seed is 2:1, 0.333 is 1:2: both are the ratio, the triple is not.
    third = thirds(rows).set_index("seed")["value"].to_dict()
    assert third == pytest.approx({(0, 1): 0.6, (0, 10): 0.4})
    assert three_way(rows)["value"].tolist() == [0.3]
    assert three_way(rows[:2]).empty
    assert three_way(rows.iloc[:0]).empty


def test_three_seeds_mixed_stand_in_the_interpolation_table(three: Records, folder: Path) -> None:
    table = pd.read_csv(folder / "tables" / "interpolation.csv")
    mix = table[table["quantity"] == "score of three seeds 1:1:1"]
    assert set(mix["suite"]) == {"images"}  # the others have two seeds
    rows = load_frames(three)["interpolate"].query("seeds == '0-1-2' and operator == 'fusion'")
    for strategy, value in zip(rows["strategy"], rows["value"], strict=True):
        line = mix[(mix["operator"] == "fusion") & (mix["strategy"] == strategy)]
        assert line["mean"].tolist() == [value]


def test_figures_keep_suites_apart(three: Records) -> None:
    frames = load_frames(three)
    shown = draw_figure("interpolation", frames, FAST)
    titles = [axes.get_title("left") for axes in shown.axes]
    assert len(titles) == 2 * 4  # tasks and a path, per suite and adapter
    assert ticks(panel(shown, "glue, dora: half-way")) == [AVERAGE, "movies", "news"]
    assert ticks(panel(shown, "images, lora: half-way")) == ["digits"]  # one task alone
    axes = panel(shown, "images, lora: half-way", 1)
    assert axes.get_title("left") == "path"
    line = next(line for line in axes.lines if line.get_label() == "coto, fusion")
    rows = path_scores(frames["interpolate"]).query("suite == 'images' and strategy == 'coto'")
    middle = rows[(rows["weight"] == 0.5) & (rows["operator"] == "fusion")]["value"].mean()
    assert dict(zip(line.get_xdata(), line.get_ydata(), strict=True))[0.5] == pytest.approx(
        100 * middle
    )
    times = draw_figure("training_time", frames, FAST)
    assert [axes.get_title("left") for axes in times.axes] == ["commonsense", "glue", "images"]


def test_the_page_of_results_has_a_section_per_suite(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = {"hardware": "CPU", "device": "cpu", "precision": "fp32", "training_runs": 9}
    (folder / "machine.json").write_text(json.dumps(machine | {"packages": {"torch": "2"}}))
    monkeypatch.setattr(reference, "REFERENCE", folder)
    parts = reference.tables().split("\n## ")[1:]
    assert [part.split("\n")[0] for part in parts] == ["commonsense", "glue", "images", "Figures"]
    claims = json.loads((folder / "claims.json").read_text())
    pooled = next(c for c in claims if (c["claim"], c["suite"]) == ("pruning", "glue"))
    assert pooled["adapter"] == POOLED
    row = next(text for text in parts[1].splitlines() if text.startswith("| Adapters removed"))
    assert f"| {pooled['effect']:+.1f} points |" in row
    assert "Tasks merged, factors averaged" in parts[1]
    assert "zero-shot" in parts[0]
    assert "| lora | cloze |" in parts[0]
    assert "| lora | digits |" in parts[2]
    assert "digits" not in parts[0] + parts[1]
    assert parts[3].count("![") == 3
    assert "9 training runs on CPU" in " ".join(reference.outcome().split())
