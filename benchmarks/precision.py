"""Whether bf16 scores as fp32 does: ``python -m benchmarks precision --set folders=[…]``.

Reads the training records of two runs of the workflow that differ in nothing but the precision
(configs/precision-fp32.yaml says how they are made), pairs them by suite, task, adapter,
strategy, learning rate and seed, and asks suite by suite whether the scores agree within a margin.
Tasks and arms are fixed; what would vary in another run are the seeds: differences are averaged per
seed, and two one-sided t tests (Schuirmann, 1987) ask whether their mean is above minus the margin
and below the margin. The verdict is "equal" where both say so, "not equal" where the 95 % interval
is beyond the margin altogether, and "inconclusive" otherwise; only "equal" makes bf16 a default.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from pydantic import Field
from scipy.stats import ttest_1samp

from benchmarks.common.harness import BENCHMARKS, CONFIDENCE, Bench, Benchmark, Row
from coto.errors import CotoError
from coto.report.records import load_frames
from coto.settings import Model, Rate

_PAIR = ["suite", "trained_on", "task", "adapter", "strategy", "lr", "seed"]
MIN_SEEDS = 5


class Settings(Model):
    """Two results folders, and the margin."""

    folders: tuple[str, str] = Field(
        ("results/precision-fp32", "results/precision-bf16"),
        description="Results folders of the runs in fp32 and in bf16.",
    )
    margin: Rate = Field(1.0, description="Largest mean difference that is none, in points.")
    alpha: float = Field(0.05, description="Level of each of the two tests.")


@dataclass(frozen=True)
class Equivalence:
    """Two one-sided t tests of paired differences against a margin.

    `p` is the larger one of the two; the interval is the two-sided one of the mean.
    """

    mean: float
    low: float
    high: float
    p: float
    verdict: str


def equivalence(differences: Sequence[float], margin: float, alpha: float = 0.05) -> Equivalence:
    """Ask whether the mean of independent differences is within ± `margin`.

    ValueError with fewer than two differences, or if all are one number, which no t test takes.
    """
    if len(set(differences)) < 2:
        expected = "expected two different ones at least"
        raise ValueError(f"differences: got {list(differences)}, {expected}")
    above = ttest_1samp(differences, -margin, alternative="greater")
    below = ttest_1samp(differences, margin, alternative="less")
    low, high = map(float, ttest_1samp(differences, 0.0).confidence_interval(CONFIDENCE))
    p = float(max(above.pvalue, below.pvalue))
    apart = low > margin or high < -margin
    verdict = "equal" if p < alpha else "not equal" if apart else "inconclusive"
    return Equivalence(sum(differences) / len(differences), low, high, p, verdict)


def run(bench: Bench[Settings]) -> list[Row]:
    """A row for each suite: bf16 − fp32 of the test scores, in points."""
    settings = bench.settings
    fp32, bf16 = (_scores(Path(folder)) for folder in settings.folders)
    both = fp32.merge(bf16, on=_PAIR, suffixes=("_fp32", "_bf16"), validate="one_to_one")
    if both.empty:
        raise CotoError(f"folders = {settings.folders}: expected runs that both have")
    both["difference"] = 100 * (both["value_bf16"] - both["value_fp32"])
    rows = []
    for suite, part in both.groupby("suite"):
        seeds = part.groupby("seed")["difference"].mean()
        if len(seeds) < MIN_SEEDS:
            expected = f"expected {MIN_SEEDS} or more"
            raise CotoError(f"suite {suite!r}: {len(seeds)} seeds are in both folders, {expected}")
        found = equivalence(seeds.tolist(), settings.margin, settings.alpha)
        rows.append(
            {
                **{"case": str(suite), "runs": len(part), "seeds": len(seeds)},
                **{"difference": found.mean, "low": found.low, "high": found.high},
                "largest_run": float(part["difference"].abs().max()),
                **{"margin": settings.margin, "p": found.p, "verdict": found.verdict},
            }
        )
    return rows


def _scores(folder: Path) -> pd.DataFrame:
    """Headline test scores of all runs of a results folder, as fractions."""
    paths = sorted(folder.glob("*/*/*/lr*/seed*/train.json"))
    if not paths:
        raise CotoError(f"folders: {str(folder)!r}: expected a results folder with trained runs")
    rows = load_frames({"train": paths})["train"]
    return rows[rows["headline"] & (rows["split"] == "test")][[*_PAIR, "value"]]


BENCHMARKS.add(
    Benchmark(
        name="precision",
        summary="scores of runs in bf16 against the same in fp32; needs the runs of both",
        settings=Settings,
        run=run,
        by_itself=False,
    )
)
