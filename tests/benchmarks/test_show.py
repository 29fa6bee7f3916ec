import json
from pathlib import Path

import pytest

from benchmarks.common import show
from coto.errors import CotoError

ROW = {
    **{"case": "lora", "way": "coto", "against": "vanilla", "ratio": 0.888},
    **{"low": 0.85, "high": 0.9, "rounds": 7, "seconds": 1.234567, "seconds_against": 1.4},
}
RECORD = {
    **{"stage": "saving", "command": "python -m benchmarks saving", "quick": False},
    "environment": {
        **{"hardware": "Some CPU", "flags": ["avx512_bf16"], "device": "CPU", "threads": 1},
        **{"cpus": 2, "precision": "fp32", "packages": {"torch": "2.13.0"}, "commit": "abc"},
    },
    "rows": [ROW, {"case": "dora", "note": "does not fit"}],
}


def test_the_page_quotes_the_kept_records() -> None:
    page = show.PAGE.read_text()
    assert show.quoted(page) == page, "run `python -m benchmarks keep`"
    for record in show.read(show.KEPT):
        assert f"<!-- {record['stage']}: begin -->" in page
        assert record["command"] in page


def test_a_section_has_the_command_the_machine_and_the_interval() -> None:
    text = show.section(RECORD)
    assert text.startswith("`python -m benchmarks saving` on Some CPU (avx512_bf16), CPU, 1 of 2 ")
    assert "| case | way | against | time ÷ time | rounds | s | s (against) | note |" in text
    assert "| lora | coto | vanilla | 0.888 [0.85, 0.9] | 7 | 1.23 | 1.4 | |" in text
    assert "| dora | | | | | | | does not fit |" in text


def test_only_what_is_between_the_marks_changes(tmp_path: Path) -> None:
    (tmp_path / "saving.json").write_text(json.dumps(RECORD))
    page = "before\n<!-- saving: begin -->\nold\n<!-- saving: end -->\nafter\n"
    assert show.quoted(page, tmp_path) == page.replace("old\n", show.section(RECORD))


def test_a_folder_of_records_becomes_a_table_and_a_figure(tmp_path: Path) -> None:
    scaled = {**ROW, "x": 6, "predicted": 0.9, "case": "6 blocks"}
    scaling = {**RECORD, "stage": "scaling", "rows": [scaled, {**scaled, "way": "floor"}]}
    for record in (RECORD, scaling):
        (tmp_path / f"{record['stage']}.json").write_text(json.dumps(record))
    assert all(path.is_file() for path in show.write(tmp_path))
    lines = (tmp_path / "benchmarks.csv").read_text().splitlines()
    assert len(lines) == 5
    picture = show.draw(show.read(tmp_path))
    depths = picture.axes[-1]
    assert [text.get_text() for text in depths.get_legend().get_texts()] == [
        *("coto, measured", "floor, measured", "predicted")
    ]
    with pytest.raises(CotoError, match="expected records of benchmarks"):
        show.write(tmp_path / "none")
