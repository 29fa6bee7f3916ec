"""``python -m coto.report.reference RESULTS``: keep a run's report as the one that README quotes.

Copies what the report is made of to ``results/reference/`` and writes README's results block from
it, so that no number in README is typed by hand.
"""

import json
import shutil
import sys
from pathlib import Path

from coto.report.writing import write_atomically

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "results" / "reference"
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
# The claims that README shows, in the words of a newcomer.
HEADLINES = {
    "single-task": "Single tasks",
    "lmc-midpoint": "Half-way between two seeds",
    "merging-fusion": "Four tasks in one adapter, factors averaged",
    "merging-ensemble": "Four tasks in one adapter, ΔW averaged",
    "pruning": "Adapters removed after training",
    "training-time": "Training time saved",
}


def keep(results: Path) -> None:
    """Copy the report of a run, and what its jobs said about the machine."""
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
    records = [
        json.loads(p.read_text()) for p in sorted(results.glob("*/*/*/lr*/seed*/train.json"))
    ]
    environment = records[0]["environment"]
    names = ("packages", "python", "commit", "hardware", "cpus", "device", "precision", "threads")
    machine = {name: environment[name] for name in names}
    machine["training_runs"] = len(records)
    write_atomically(REFERENCE / "machine.json", json.dumps(machine, indent=1) + "\n")


def block() -> str:
    """README's results, from the reference run."""
    claims = json.loads((REFERENCE / "claims.json").read_text())
    machine = json.loads((REFERENCE / "machine.json").read_text())
    lines = [
        "| claim | effect of CoTo | 95 % interval | p | verdict |",
        "|:--|--:|:--|--:|:--|",
    ]
    for name, words in HEADLINES.items():
        (row,) = (r for r in claims if r["claim"] == name and r["adapter"] == "all")
        unit = "%" if "%" in row["unit"] else "points"
        lines.append(
            "| {} | {:+.1f} {} | {:+.1f} to {:+.1f} | {:.4f} | **{}** |".format(
                words, row["effect"], unit, row["low"], row["high"], row["p"], row["verdict"]
            )
        )
    single = (REFERENCE / "tables" / "single_task.md").read_text()
    table = [line for line in single.splitlines() if line.startswith("|")]
    where = f"{machine['hardware']}, {machine['device']}, {machine['precision']}"
    return "\n".join(
        [
            *lines,
            "",
            f"Both adapter kinds together; {machine['training_runs']} training runs on {where}, "
            f"torch {machine['packages']['torch']}. All claims, each adapter kind alone, and the "
            "paper's numbers: [claims.md](results/reference/claims.md).",
            "",
            "Accuracy on the single tasks:",
            "",
            *table,
            "",
            "![Interpolation between two seeds](results/reference/figures/interpolation.png)",
        ]
    )


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
