import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coto.errors import CotoError
from coto.report.records import KEYS, REQUIRED, load_rows


def test_rows_do_not_depend_on_the_order_of_paths(records: dict[str, list[Path]]) -> None:
    for stage, paths in records.items():
        rows = load_rows(paths, stage)
        if stage != "overhead":
            assert rows.equals(load_rows(reversed(paths), stage))
        assert set(REQUIRED[stage]) <= set(rows.columns)
    assert len(load_rows(records["train"], "train")) == 4 * len(records["train"])


def test_no_records_give_no_rows_with_all_columns() -> None:
    assert set(KEYS["merge"]) <= set(load_rows([], "merge").columns)


def edit(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda record: record["rows"][0].update({name: value})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (edit("value", float("nan")), "row 0: value: got nan, expected a finite number"),
        (edit("value", None), "row 0: value: got None"),
        (edit("value", "0.8"), "row 0: value: got '0.8'"),
        (edit("headline", 1), "row 0: headline: got 1, expected true or false"),
        (edit("task", 3), "row 0: task: got 3, expected text"),
        (lambda r: r["rows"][0].pop("lr"), "row 0: lacks lr"),
        (lambda r: r["rows"].append(r["rows"][0]), "repeats the measurement"),
        (lambda r: r.update(rows=[]), "expected a list of measurements, found none"),
        (lambda r: r.update(rows=[7]), "row 0: got 7, expected a mapping"),
        (lambda r: r.update(stage="merge"), "stage: got 'merge', expected 'train'"),
    ],
)
def test_malformed_records_give_one_line(
    records: dict[str, list[Path]], tmp_path: Path, change: Callable[[Any], None], message: str
) -> None:
    record = json.loads(records["train"][0].read_text())
    change(record)
    path = tmp_path / "train.json"
    path.write_text(json.dumps(record))
    with pytest.raises(CotoError) as caught:
        load_rows([path], "train")
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_half_written_missing_and_repeated_files(
    records: dict[str, list[Path]], tmp_path: Path
) -> None:
    path = tmp_path / "half.json"
    path.write_text(records["train"][0].read_text()[:200])
    with pytest.raises(CotoError, match=r"half\.json: not valid JSON, perhaps half-written"):
        load_rows([path], "train")
    with pytest.raises(CotoError, match=r"gone\.json: cannot be read"):
        load_rows([tmp_path / "gone.json"], "train")
    with pytest.raises(CotoError, match="repeats the measurement"):
        load_rows([records["train"][0]] * 2, "train")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(CotoError, match="stage: got None"):
        load_rows([tmp_path / "list.json"], "train")
