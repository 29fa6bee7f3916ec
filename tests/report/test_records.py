import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coto.errors import CotoError
from coto.measurements import columns
from coto.report.records import load_frames

COLUMNS = columns()


def test_rows_do_not_depend_on_the_order_of_paths(records: dict[str, list[Path]]) -> None:
    frames = load_frames(records)
    again = load_frames({stage: reversed(paths) for stage, paths in records.items()})
    for stage in records:
        if stage != "overhead":
            assert frames[stage].equals(again[stage])
        assert set(COLUMNS[stage].types) <= set(frames[stage].columns)
    assert len(frames["train"]) == 4 * len(records["train"])


def test_no_records_give_no_rows_with_all_columns() -> None:
    frames = load_frames({})
    assert frames.keys() == {*COLUMNS, "measured", "gaps"}
    assert set(COLUMNS["merge"].types) == set(frames["merge"].columns)


def test_some_records_are_the_rows_that_all_give(records: dict[str, list[Path]]) -> None:
    whole, some = load_frames(records), load_frames({"train": records["train"]})
    assert some["train"].equals(whole["train"])
    assert some["prune"].empty
    with pytest.raises(CotoError, match="records of 'trian': did you mean 'train'"):
        load_frames({"trian": records["train"]})


def test_each_file_is_read_once(
    suites: dict[str, list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    read, text = [], Path.read_text
    monkeypatch.setattr(Path, "read_text", lambda path, **k: read.append(path) or text(path, **k))
    frames = load_frames({stage: suites[stage] for stage in ("interpolate", "merge")})
    assert len(frames["measured"])
    assert len(frames["gaps"])
    assert sorted(read) == sorted(suites["interpolate"] + suites["merge"])


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
        load_frames({"train": [path]})
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_half_written_missing_and_repeated_files(
    records: dict[str, list[Path]], tmp_path: Path
) -> None:
    path = tmp_path / "half.json"
    path.write_text(records["train"][0].read_text()[:200])
    with pytest.raises(CotoError, match=r"half\.json: not valid JSON, perhaps half-written"):
        load_frames({"train": [path]})
    with pytest.raises(CotoError, match=r"gone\.json: cannot be read"):
        load_frames({"train": [tmp_path / "gone.json"]})
    with pytest.raises(CotoError, match="repeats the measurement"):
        load_frames({"train": [records["train"][0]] * 2})
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(CotoError, match="stage: got None"):
        load_frames({"train": [tmp_path / "list.json"]})
