import json
from pathlib import Path

import pandas as pd
import pytest

from coto.findings import load_all
from coto.findings.make import make_claims
from coto.measurements import columns
from coto.report.claim import CLAIMS, POOLED, in_order
from coto.report.records import load_frames
from coto.report.settings import Settings
from coto.report.statistics import CANNOT, holm
from coto.report.verdicts import UNTESTED, UNTESTED_VERDICT, Result, evaluate
from tests.report.factory import TASKS, make_records
from tests.report.factory_analysis import MORE_OPERATORS, make_analyses, write_answers
from tests.report.making import build

load_all()
FAST = Settings(resamples=500)
# Claims that every suite has a line of, and main ones that wait for a stage or suite of their own.
ALWAYS = [name for name, claim in CLAIMS.items() if not claim.optional]
NOT_HERE = {"language-models", "vision", "strategies"}
NOT_MEASURED = {"unstructured-pruning", "dropout-stability", "balanced-contribution"}
# What the abstract says, and the entries that test it.
ABSTRACT = {
    "boosts single-task performance": ["single-task"],
    "enhances multi-task merging accuracy": ["merging-fusion"],
    "improves pruning robustness": ["pruning", "unstructured-pruning"],
    "reduces training overhead": ["training-time"],
    "layer-wise dropout stability": ["dropout-stability"],
    "linear mode connectivity": ["lmc-midpoint"],
    "balanced contribution of layers": ["balanced-contribution"],
    "compatible with LoRA variants": ["variants"],
}
# What these records were not made for, or whose table has no line of its own for it.
NO_LINE = {"single-task-items", "training-time", "pruning"}


def verdicts(records: dict[str, list[Path]], settings: Settings = FAST) -> dict[str, Result]:
    results = evaluate(load_frames(records), settings)
    return {f"{r.claim}/{r.adapter}" + f"/{r.task}" * bool(r.task): r for r in results}


@pytest.fixture(scope="module")
def all_stages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """Every stage of two adapter kinds; all claims are true but that on single tasks."""
    root = tmp_path_factory.mktemp("all")
    records = make_records(root, tasks=("movies", "news"))
    for stage, paths in make_analyses(root, tasks=("movies", "news"), uneven=0.004).items():
        records[stage] = [*records.get(stage, []), *paths]
    write_answers(records["train"])
    return records


@pytest.fixture(scope="module")
def whole(all_stages: dict[str, list[Path]]) -> dict[str, Result]:
    return verdicts(all_stages)


def test_known_effects_are_found(records: dict[str, list[Path]]) -> None:
    found = verdicts(records)
    for adapter in ("lora", "dora"):
        for claim in ("lmc-midpoint", "lmc-barrier", "merging-fusion", "pruning"):
            assert found[f"{claim}/{adapter}"].verdict == "supported"
        assert found[f"single-task/{adapter}"].verdict != "supported"
    midpoint, barrier = found["lmc-midpoint/lora"], found["lmc-barrier/lora"]
    assert midpoint.effect == pytest.approx(8, abs=1)
    assert barrier.effect == pytest.approx(-8, abs=1)
    assert (midpoint.n_pairs, midpoint.n_tasks, midpoint.n_seeds) == (12, 4, 3)
    assert found["pruning/dora"].effect == pytest.approx(6, abs=1)
    assert found["training-time/lora"].effect == pytest.approx(8, abs=1)


def test_all_adapters_together_are_more_units(records: dict[str, list[Path]]) -> None:
    found = verdicts(records)
    pooled = found["lmc-midpoint/all"]
    assert (pooled.n_pairs, pooled.n_tasks, pooled.n_seeds) == (24, 8, 3)
    parts = [found[f"lmc-midpoint/{adapter}"].effect or 0 for adapter in ("lora", "dora")]
    assert pooled.effect == pytest.approx(sum(parts) / 2)
    assert pooled.p_flip == 2 / 2**3  # the smallest that three seeds give, whatever the units


def test_every_claim_of_the_abstract_has_a_main_test(whole: dict[str, Result]) -> None:
    for phrase, names in ABSTRACT.items():
        for name in names:
            result = whole[f"{name}/{POOLED}"]
            assert (result.role, result.effect is None) == ("main", False), phrase
            assert result.tests > 0
            expected = "inconclusive" if name in ("single-task", "variants") else "supported"
            assert result.verdict == expected, name
    untested = {r.claim for r in whole.values() if r.verdict == UNTESTED_VERDICT}
    assert untested == set(UNTESTED) | NOT_HERE
    assert set(UNTESTED) == {"image-generation"}


def test_planted_harm_and_nothing_planted_are_not_supported(tmp_path: Path) -> None:
    records = make_records(tmp_path, tasks=("movies", "news"), adapters=("lora",))
    more = make_analyses(
        tmp_path,
        tasks=("movies", "news"),
        adapters=("lora",),
        gain=-0.08,
        top_heavy=1 / 3,
        uneven=0.004,
    )
    for stage, paths in more.items():
        records[stage] = [*records.get(stage, []), *paths]
    found = verdicts(records)
    for name in ("merging-lego", "unstructured-pruning", "seeds-ties"):
        assert found[f"{name}/lora"].verdict == "not supported", name
        assert "other side" in found[f"{name}/lora"].reason
    # Both arms are balanced, but for the last digits.
    even = found["balanced-contribution/lora"]
    assert (even.effect, even.verdict) == (pytest.approx(0, abs=0.5), "not supported")
    assert "equivalent" in even.reason


def test_effects_of_what_drops_and_merges_layers(whole: dict[str, Result]) -> None:
    # The records' gain is 8 points, times the mean sparsity, 0.45, for single entries.
    for name, size in (
        ("merging-lego", 8),
        ("seeds-lora-lego", 8),
        ("merging-ties", 8),
        ("unstructured-pruning", 0.45 * 8),
        ("unstructured-pruning-methods", 0.45 * 8),
        ("unstructured-pruning-half", 4),
        # Vanilla's highest third of the layers holds 80 %, CoTo's a third.
        ("balanced-contribution", -100 * (0.8 - 1 / 3)),
        ("balanced-contribution-early", -100 * (0.8 - 1 / 3)),
        ("balanced-gradients", -100 * (0.8 - 1 / 3)),
    ):
        assert whole[f"{name}/{POOLED}"].effect == pytest.approx(size, abs=1), name


def test_only_what_was_measured_has_a_line(
    whole: dict[str, Result], records: dict[str, list[Path]]
) -> None:
    measured = {f"{kind}-{name}" for kind in ("seeds", "merging") for name in MORE_OPERATORS}
    further = {n for n in CLAIMS if n.startswith(("seeds-", "merging-"))} - measured
    further -= {"merging-fusion", "merging-ensemble", "merging-lego"}
    shown = {r.claim for r in whole.values()}
    assert {n for n in measured if n in CLAIMS} < shown
    assert further
    assert not further & shown
    shown = {r.claim for r in verdicts(records).values()}
    assert not shown & (measured - NOT_MEASURED)
    assert "dropout-stability-loss" not in shown


def test_claims_rest_on_the_rows_that_they_name(
    all_stages: dict[str, list[Path]], whole: dict[str, Result]
) -> None:
    frames = load_frames(all_stages)
    tested = [r for r in whole.values() if r.effect is not None and r.adapter == POOLED]
    tested = [r for r in tested if not r.task]
    quick = Settings(resamples=50)  # means do not depend on it
    tables = {r.table: build(r.table, frames, quick).data for r in tested}
    for result in tested:
        rows = tables[result.table].query(result.rows)
        assert len(rows), result.claim
        if result.claim in NO_LINE:
            continue
        early = result.claim.endswith("-early")
        rows = rows[rows["strategy"] == ("coto-early" if early else "coto")]
        if "Average" in set(rows["task"]):
            rows = rows[rows["task"] == "Average"]
        assert result.effect == pytest.approx(100 * rows["difference"].mean()), result.claim


def test_main_results_are_corrected_within_their_family(whole: dict[str, Result]) -> None:
    families: dict[str, list[Result]] = {}
    for result in whole.values():
        main = result.role == "main" and result.adapter == POOLED
        if main and result.effect is not None and result.verdict != CANNOT:
            families.setdefault(result.family, []).append(result)
        else:
            assert (result.p_holm, result.tests) == (None, 0)
    assert set(families) == {
        *("generalisation", "merging", "pruning", "efficiency", "stability", "balance", "variants"),
    }
    for members in families.values():
        assert [r.p_holm for r in members] == holm([r.p for r in members]).tolist()
        assert [r.p_margin_holm for r in members] == holm([r.p_margin for r in members]).tolist()
        assert {r.tests for r in members} == {len(members)}
    assert {r.claim for r in families["merging"]} == {"lmc-midpoint", "merging-fusion"}


def test_families_reach_over_suites(tmp_path: Path) -> None:
    both: dict[str, list[Path]] = {}
    for suite, adapters in (("glue", ("lora",)), ("more", ("lora", "dora"))):
        made = make_records(tmp_path, suite=suite, adapters=adapters, seeds=(0, 1, 2))
        for stage, paths in made.items():
            both.setdefault(stage, []).extend(paths)
    results = [r for r in evaluate(load_frames(both), FAST) if r.claim == "merging-fusion"]
    results = [r for r in results if not r.task]
    assert {(r.suite, r.adapter): r.tests for r in results} == {
        ("glue", "lora"): 4,
        ("more", "all"): 4,
        ("more", "lora"): 0,
        ("more", "dora"): 0,
    }
    alone = verdicts(make_records(tmp_path / "alone", adapters=("lora",)))
    (first,) = [r for r in results if r.suite == "glue"]
    fewer = alone["merging-fusion/lora"]
    assert (first.p, fewer.tests) == (fewer.p, 2)
    assert (first.p_holm or 0) > (fewer.p_holm or 0)


def test_what_is_inconclusive_says_how_many_seeds_would_decide(whole: dict[str, Result]) -> None:
    undecided = [r for r in whole.values() if r.verdict == "inconclusive"]
    assert undecided
    for result in undecided:
        assert (result.seeds_low, result.seeds_high) == (None, None)
        assert "from fewer than 4 seeds" in result.seeds_reason or result.replicates == "items"
    decided = [r for r in whole.values() if r.verdict != "inconclusive"]
    assert not any(r.seeds_low or r.seeds_reason for r in decided)


def test_items_and_seeds_are_different_questions(
    all_stages: dict[str, list[Path]], tmp_path: Path
) -> None:
    make_claims(all_stages, tmp_path, FAST, answers=True)
    rows = json.loads((tmp_path / "claims.json").read_text())
    (items,) = [row for row in rows if row["claim"] == "single-task-items"]
    assert (items["verdict"], items["role"], items["p_holm"]) == ("supported", "secondary", None)
    assert items["n_pairs"] == 2 * 60
    assert (items["n_tasks"], items["n_seeds"]) == (2, 3)
    assert items["effect"] == pytest.approx(10, abs=4)
    text = (tmp_path / "claims.md").read_text()
    assert "on other items of the same tasks" in text.replace("\n", " ")
    assert "120 items of 2 tasks" in text


def test_harm_is_not_supported(tmp_path: Path) -> None:
    found = verdicts(
        make_records(
            tmp_path, adapters=("lora",), single_gain=-0.05, merge_gain=-0.05, time_saved=-0.1
        )
    )
    for claim in ("single-task", "lmc-midpoint", "lmc-barrier", "merging-fusion", "training-time"):
        assert found[f"{claim}/lora"].verdict == "not supported", claim


def test_no_verdict_from_one_seed(one_seed: dict[str, list[Path]]) -> None:
    found = verdicts(one_seed)
    assert found["lmc-midpoint/lora"].verdict == CANNOT
    assert found["lmc-midpoint/lora"].reason == "needs two seeds"
    for claim in ("single-task", "merging-fusion", "pruning"):
        assert found[f"{claim}/lora"].verdict == "inconclusive"
        assert "at least 3 seeds" in found[f"{claim}/lora"].reason


def test_a_run_without_both_arms_is_not_tested(tmp_path: Path) -> None:
    found = verdicts(make_records(tmp_path, adapters=("lora",), strategies=("coto",)))
    assert {found[f"{claim}/lora"].verdict for claim in ALWAYS} == {CANNOT}
    assert "vanilla and coto" in found["single-task/lora"].reason


def test_the_margin_decides_between_not_supported_and_inconclusive(
    records: dict[str, list[Path]],
) -> None:
    wide = verdicts(records, Settings(resamples=500, margin=10.0))["single-task/lora"]
    narrow = verdicts(records, Settings(resamples=500, margin=0.1))["single-task/lora"]
    assert wide.margin == 5.0
    assert wide.verdict == "not supported"
    assert "as large as the margin" in wide.reason
    assert narrow.verdict == "inconclusive"


def test_files_are_complete_and_the_same_every_time(
    records: dict[str, list[Path]], tmp_path: Path
) -> None:
    for name in "ab":
        make_claims(records, tmp_path / name, FAST, answers=False)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    rows = json.loads((tmp_path / "a" / "claims.json").read_text())
    by_task = len(TASKS) * sum(CLAIMS[name].by_task for name in ALWAYS)
    once = {"variants", "lmc-three-way", *UNTESTED, *NOT_HERE, *NOT_MEASURED}
    assert len(rows) == by_task + 3 * len(ALWAYS) + len(once)
    assert len(pd.read_csv(tmp_path / "a" / "claims.csv")) == len(rows)
    text = (tmp_path / "a" / "claims.md").read_text()
    assert text.index("## Verdicts") < text.index("## Details") < text.index("## Not tested")
    for name in [*ALWAYS, *UNTESTED, *NOT_HERE]:
        assert name in text
    assert "80.79 (copied from DoRA README) → 85.02" in text


def test_untested_claims_have_no_effect(records: dict[str, list[Path]]) -> None:
    found = [r for r in verdicts(records).values() if r.verdict == UNTESTED_VERDICT]
    assert {r.claim for r in found} == set(UNTESTED) | NOT_HERE | NOT_MEASURED
    assert all(r.effect is None and r.p is None for r in found)


def test_what_a_configuration_rules_out_is_listed_with_its_reason(
    one_seed: dict[str, list[Path]], tmp_path: Path
) -> None:
    reason = "interpolate.weights has no 0.5"
    ruled_out = {name: {"glue": reason} for name in ("lmc-midpoint", "strategies")}
    settings = Settings(resamples=500, impossible={**ruled_out, "pruning": {"glue": "a mistake"}})
    found = [r for r in evaluate(load_frames(one_seed), settings) if r.suite == "glue"]
    for name in ruled_out:
        (result,) = [r for r in found if r.claim == name]
        assert (result.verdict, result.reason, result.effect) == (CANNOT, reason, None)
    # What was measured all the same is reported.
    (pruning,) = [r for r in found if r.claim == "pruning"]
    assert pruning.effect is not None
    make_claims(one_seed, tmp_path, settings, answers=False)
    text = (tmp_path / "claims.md").read_text()
    assert f"| **{CANNOT}** | {reason} |" in text
    assert f"{CANNOT}, {reason}." in text
    assert "**strategies**: CoTo beats" not in text


def test_one_line_says_what_two_adapter_kinds_cannot_test(few: dict[str, list[Path]]) -> None:
    settings = Settings(resamples=50, impossible={"lmc-midpoint": {"glue": "one seed"}})
    frames = {**load_frames(few)}
    frames["interpolate"] = frames["interpolate"].iloc[:0]
    lines = [r for r in evaluate(frames, settings) if r.claim == "lmc-midpoint"]
    assert [(r.adapter, r.reason) for r in lines] == [(POOLED, "one seed")]


def test_the_order_of_claims_is_that_of_families_and_not_of_imports() -> None:
    names = [claim.name for claim in in_order(CLAIMS)]
    shuffled = dict(sorted(CLAIMS.items(), key=lambda item: item[1].family, reverse=True))
    assert [claim.name for claim in in_order(shuffled)] == names
    assert names[:4] == ["single-task", "single-task-items", "variants", "training-time"]
    assert names[-5:-3] == ["language-models", "vision"]


def test_claims_name_the_records_that_they_read() -> None:
    assert all(set(claim.records) <= set(columns()) for claim in CLAIMS.values())
    for claim in CLAIMS.values():
        if claim.table in ("single_task", "training_time"):
            frames = load_frames({})
            kept = {name: frames[name] for name in ("train", "select", *claim.records)}
            assert claim.quantity(kept).empty, claim.name
