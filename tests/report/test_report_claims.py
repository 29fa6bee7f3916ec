import json
from pathlib import Path

import pandas as pd
import pytest
from factory import make_records

from coto.report.claims import CLAIMS
from coto.report.records import load_frames
from coto.report.settings import Settings
from coto.report.untested import UNTESTED
from coto.report.verdicts import UNTESTED_VERDICT, Result, evaluate
from coto.stages.claims import build_claims

FAST = Settings(resamples=500)
# Claims that every suite has a line of, and those that wait for a suite of their own.
ALWAYS = [name for name, claim in CLAIMS.items() if not claim.optional]
NOT_HERE = {"language-models", "vision", "strategies"}


def verdicts(records: dict[str, list[Path]], settings: Settings = FAST) -> dict[str, Result]:
    return {f"{r.claim}/{r.adapter}": r for r in evaluate(load_frames(records), settings)}


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
    assert pooled.p == pytest.approx(2 / 501)  # the smallest that 500 random sign patterns give


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
    assert found["lmc-midpoint/lora"].verdict == "not tested"
    assert found["lmc-midpoint/lora"].reason == "needs two seeds"
    for claim in ("single-task", "merging-fusion", "pruning"):
        assert found[f"{claim}/lora"].verdict == "inconclusive"
        assert "at least two seeds" in found[f"{claim}/lora"].reason


def test_a_run_without_both_arms_is_not_tested(tmp_path: Path) -> None:
    found = verdicts(make_records(tmp_path, adapters=("lora",), strategies=("coto",)))
    assert {found[f"{claim}/lora"].verdict for claim in ALWAYS} == {"not tested"}
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
        build_claims(records, tmp_path / name, {"resamples": 500})
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    rows = json.loads((tmp_path / "a" / "claims.json").read_text())
    assert len(rows) == 3 * len(ALWAYS) + len(UNTESTED) + len(NOT_HERE)
    assert len(pd.read_csv(tmp_path / "a" / "claims.csv")) == len(rows)
    text = (tmp_path / "a" / "claims.md").read_text()
    assert text.index("## Verdicts") < text.index("## Details") < text.index("## Not tested")
    for name in [*ALWAYS, *UNTESTED, *NOT_HERE]:
        assert name in text
    assert "80.79 (copied from DoRA README) → 85.02" in text


def test_untested_claims_have_no_effect(records: dict[str, list[Path]]) -> None:
    found = [r for r in verdicts(records).values() if r.verdict == UNTESTED_VERDICT]
    assert {r.claim for r in found} == set(UNTESTED) | NOT_HERE
    assert all(r.effect is None and r.p is None for r in found)
