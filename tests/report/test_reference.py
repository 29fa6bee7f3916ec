"""README and docs/results.md quote the committed reference run, word for word."""

import json
import re
import shutil
from pathlib import Path

import pytest

from coto.config.models import Facts, Strategy
from coto.findings.make import make_claims
from coto.findings.outcome.lines import lines_of
from tests.findings.analyses import FAST
from tests.report.factory import make_records
from tests.report.making import make_figures, make_tables
from tools import reference
from tools.reference import ROOT, with_block, written

KEPT = reference.REFERENCE
PICTURE = re.compile(r'(?:!\[[^]]*\]\(|<img src=")([^)"]+)')
needs_reference = pytest.mark.skipif(
    not (KEPT / "claims.json").is_file(), reason="no reference run is kept"
)


@needs_reference
@pytest.mark.parametrize("file", ["README.md", "docs/results.md"])
def test_texts_hold_the_numbers_of_the_reference_run(file: str) -> None:
    text = (ROOT / file).read_text()
    assert written()[ROOT / file] == text, "run `python -m tools.reference`"


@needs_reference
def test_every_picture_that_is_shown_is_kept() -> None:
    for file in ("README.md", "docs/results.md", "results/reference/claims.md"):
        for link in PICTURE.findall((ROOT / file).read_text()):
            assert ((ROOT / file).parent / link).is_file(), f"{file}: {link}"


def test_only_what_is_between_the_marks_changes() -> None:
    text = "a\n<!-- x: begin -->\nold\n<!-- x: end -->\nb <!-- y: begin --><!-- y: end -->"
    assert with_block(text, "x", "new") == text.replace("old", "new")


@pytest.fixture
def other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with made results kept as its reference."""
    results = tmp_path / "made"
    records = make_records(
        results / "records", tasks=("movies", "news"), adapters=("lora",), suite="glue"
    )
    settings = FAST.model_copy(update={"facts": {"glue": Facts(kind="text")}})
    make_claims(records, results, settings, answers=False)
    make_tables(records, results / "tables", settings)
    make_figures(records, results / "figures", {"coto": Strategy(kind="coto")}, 40)
    run = results / "glue/movies/lora-coto/lr0.004/seed0"
    run.mkdir(parents=True)
    names = ("python", "commit", "hardware", "cpus", "device", "precision", "threads")
    environment = dict.fromkeys(names, "known") | {"packages": {"torch": "9.9"}}
    (run / "train.json").write_text(json.dumps({"environment": environment}))
    monkeypatch.setattr(reference, "ROOT", tmp_path)
    monkeypatch.setattr(reference, "REFERENCE", tmp_path / "reference")
    (tmp_path / "docs").mkdir()
    for file in ("README.md", "docs/results.md"):
        shutil.copy(ROOT / file, tmp_path / file)
    reference.main(results)
    return tmp_path


def test_texts_are_written_from_any_run(other: Path) -> None:
    rows = json.loads((other / "reference/claims.json").read_text())
    lines = lines_of(rows)
    page = (other / "docs/results.md").read_text()
    assert page.count("\n## glue\n") == 1
    assert "commonsense" not in page.partition("results: begin")[2]
    for line in lines:
        row = next(text for text in page.splitlines() if text.startswith(f"| {line.words} |"))
        assert f"| {line.number} | {line.interval} | {line.replicates} |" in row
        assert f"**{line.verdict}**" in row
        assert all(f"{value:+.1f}" in row for value in line.paper)
    assert any(line.paper for line in lines)
    # The scores are those of the table that was kept.
    table = (other / "reference/tables/single_task.md").read_text()
    scores = [text for text in table.splitlines() if text.startswith("|")]
    assert len(scores) > 4
    assert "\n".join(scores) in page
    readme = " ".join((other / "README.md").read_text().split())
    assert f"Of {len(lines)} tests of the paper's main claims on glue" in readme
    assert "1 training run on known, known, known, torch 9.9." in readme


def test_written_by_hand_stays(other: Path) -> None:
    page = other / "docs/results.md"
    page.write_text(page.read_text().replace("## The run", "A reason.\n\n## The run"))
    before = page.read_text()
    reference.main(None)
    assert page.read_text() == before
