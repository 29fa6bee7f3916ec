"""``python -m tools.reference RESULTS``: keep a run's report as the one that README quotes.

Copies what the report is made of to ``results/reference/`` and writes README's results block from
it, so that no number in README is typed by hand.
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from coto.report.comparison import AVERAGE
from coto.report.writing import markdown_table, write_atomically

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "results" / "reference"
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
# The claims that README shows, in the words of a newcomer.
HEADLINES = {
    "single-task": "Single tasks",
    "variants": "Single tasks, adapters other than LoRA",
    "lmc-midpoint": "Half-way between two seeds",
    "merging-fusion": "All tasks in one adapter, factors averaged",
    "merging-ensemble": "All tasks in one adapter, ΔW averaged",
    "merging-lego": "All tasks in one adapter, ranks clustered",
    "pruning": "Adapters removed after training",
    "unstructured-pruning": "Entries of adapters removed after training",
    "dropout-stability": "Layers' adapters dropped at random",
    "balanced-contribution": "Imbalance between layers (less is better)",
    "training-time": "Training time saved",
}


def keep(results: Path) -> None:
    """Copy the report of a run, and what its records say about the machine."""
    # The search of learning rates is a run of its own: its result stays until there is a new one.
    for part in ("tables", "figures"):
        shutil.rmtree(REFERENCE / part, ignore_errors=True)
    for pattern in ("claims.*", "tables/*.csv", "tables/*.md", "figures/*.png"):
        for source in sorted(results.glob(pattern)):
            target = REFERENCE / source.relative_to(results)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    search = results / "lr-search" / "tables" / "learning_rate.md"
    if search.is_file():
        shutil.copyfile(search, REFERENCE / "learning_rate.md")
    # A study's runs are no part of the reference run.
    claims = json.loads((REFERENCE / "claims.json").read_text())
    suites = sorted({row["suite"] for row in claims} - {""})
    records = [
        json.loads(path.read_text())
        for suite in suites
        for path in sorted(results.glob(f"{suite}/*/*/lr*/seed*/train.json"))
    ]
    environment = records[0]["environment"]
    names = ("packages", "python", "commit", "hardware", "cpus", "device", "precision", "threads")
    machine = {name: environment[name] for name in names}
    machine["training_runs"] = len(records)
    write_atomically(REFERENCE / "machine.json", json.dumps(machine, indent=1) + "\n")


def block() -> str:
    """README's results, from the reference run: a short section per suite."""
    claims = json.loads((REFERENCE / "claims.json").read_text())
    machine = json.loads((REFERENCE / "machine.json").read_text())
    scores = pd.read_csv(REFERENCE / "tables" / "single_task.csv", keep_default_na=False)
    suites = [suite for suite in dict.fromkeys(row["suite"] for row in claims) if suite]
    parts = []
    for suite in suites:
        if len(suites) > 1:
            parts.append(f"### {suite}\n")
        parts.append(_verdicts([row for row in claims if row["suite"] == suite]))
        parts.append(_scores(scores[scores["suite"] == suite]))
    where = f"{machine['hardware']}, {machine['device']}, {machine['precision']}"
    parts.append(
        f"{machine['training_runs']} training runs on {where}, torch "
        f"{machine['packages']['torch']}. All claims, each adapter kind alone, and the paper's "
        "numbers: [claims.md](results/reference/claims.md); every task: "
        "[single_task.md](results/reference/tables/single_task.md).\n"
    )
    parts.append("![Interpolation between two seeds](results/reference/figures/interpolation.png)")
    return "\n".join(parts)


def _verdicts(claims: list[dict[str, Any]]) -> str:
    """The headline claims of one suite, on all its adapter kinds together."""
    lines = []
    for name, words in HEADLINES.items():
        rows = [row for row in claims if row["claim"] == name and row["effect"] is not None]
        # The row of all adapter kinds comes first; of one kind there is no other.
        for row in rows[:1]:
            unit = "%" if "%" in row["unit"] else "points"
            interval = "" if row["low"] is None else f"{row['low']:+.1f} to {row['high']:+.1f}"
            lines.append(
                {
                    "claim": words,
                    "effect of CoTo": f"{row['effect']:+z.1f} {unit}",
                    "95 % interval": interval,
                    "p (Holm)": "" if row["p_holm"] is None else f"{row['p_holm']:.4f}",
                    "verdict": f"**{row['verdict']}**",
                }
            )
    return markdown_table(pd.DataFrame(lines)) + "\n"


def _scores(scores: pd.DataFrame) -> str:
    """Average score of each adapter kind and strategy, and of what no training gives."""
    rows = scores[scores["kind"].isin(["measured", "baseline"])]
    tasks = sorted(set(rows["task"]) - {AVERAGE})
    rows = rows[(rows["task"] == AVERAGE) | (len(tasks) == 1)]
    rows = rows.drop_duplicates(["adapter", "strategy"])
    kinds = []
    for adapter, arms in rows.groupby("adapter", sort=False):
        values = [
            f"{100 * float(arm['mean']):.1f}"
            + ("" if arm["kind"] == "baseline" else f" ({arm['strategy']})")
            for _, arm in arms.iterrows()
        ]
        kinds.append(f"{adapter} {', '.join(values)}")
    over = f"average over {', '.join(tasks)}" if len(tasks) > 1 else "".join(tasks)
    return f"Single-task scores, {over}: {'; '.join(kinds)}.\n"


def with_block(readme: str) -> str:
    """README's text with the results block of the reference run."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{block()}\n{END}{after}"


def main(results: Path) -> None:
    """Keep a run and write README."""
    keep(results)
    readme = ROOT / "README.md"
    write_atomically(readme, with_block(readme.read_text()))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "results"))
