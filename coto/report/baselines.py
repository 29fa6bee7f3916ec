"""What no training gives, in the table of single tasks beside what training gives."""

from typing import Any

import pandas as pd

from coto.report import quantities
from coto.report.comparison import AVERAGE

# In the order in which they are shown.
METHODS = {"zero-shot": "zero-shot", "majority": "majority class", "random": "random guessing"}
NOTE = (
    "no training: zero-shot is the bare backbone, majority class answers every item with what is "
    "most frequent in the training part (in the test part, where training has no such items), "
    "random guessing is its expected score."
)


def with_baselines(tidy: pd.DataFrame, baseline: pd.DataFrame | None) -> pd.DataFrame:
    """Append lines of kind ``baseline``; their ``adapter`` is the method's name.

    Like a strategy's, they are single values per task, and have an average over tasks. They have no
    seeds and hence no interval and no difference.

    Args:
        tidy: lines of :func:`coto.report.comparison.compare`.
        baseline: rows of the stage ``baseline``; None or empty where it did not run.
    """
    if baseline is None or baseline.empty:
        return tidy
    lines: list[dict[str, Any]] = []
    rows = quantities.headline(baseline)
    for suite in dict.fromkeys(tidy["suite"]):
        here = rows[rows["suite"] == suite]
        for method in [m for m in METHODS if m in set(here["method"])]:
            scored = here[here["method"] == method].sort_values("task")
            place = {"suite": suite, "adapter": METHODS[method], "strategy": method}
            place |= {"kind": "baseline", "flagged": 0, "source": "this run"}
            lines += [
                place
                | {"task": row["task"], "metric": row["metric"]}
                | {"mean": row["value"], "n_test": row["n"]}
                for _, row in scored.iterrows()
            ]
            trained = tidy[(tidy["suite"] == suite) & (tidy["task"] == AVERAGE)]
            every = set(tidy.loc[tidy["suite"] == suite, "task"]) - {AVERAGE}
            if len(trained) and every == set(scored["task"]):
                average = {"task": AVERAGE, "metric": trained["metric"].iloc[0]}
                average |= {"mean": scored["value"].mean(), "n_test": scored["n"].sum()}
                lines.append(place | average)
    return pd.concat([tidy, pd.DataFrame(lines)], ignore_index=True) if lines else tidy
