"""A record that was computed from another adapter than the trained one is refused."""

import json
from pathlib import Path

import pytest

from coto.errors import CotoError
from coto.report.records import load_frames
from tests.report.factory import make_records

RUN = "glue/movies/lora-coto/lr0.004/seed0"


@pytest.fixture
def records(tmp_path: Path) -> dict[str, list[Path]]:
    """A training record that says what it left, and one of pruning that says what it read."""
    made = make_records(tmp_path, tasks=("movies",), seeds=(0,))
    train = tmp_path / RUN / "train.json"
    train.parent.mkdir(parents=True)
    trained = json.loads(made["train"][0].read_text()) | {
        "files": {".": "abc", "snapshots/0.5": "d"}
    }
    train.write_text(json.dumps(trained))
    prune = made["prune"][0]
    read = {f"{RUN}/adapter": "abc", f"{RUN}/adapter/snapshots/0.5": "d"}
    prune.write_text(json.dumps(json.loads(prune.read_text()) | {"inputs": read}))
    return {"train": [train], "prune": [prune]}


def test_records_of_the_same_adapter_are_read(records: dict[str, list[Path]]) -> None:
    assert len(load_frames(records)["prune"])


@pytest.mark.parametrize("part", ["adapter", "adapter/snapshots/0.5"])
def test_a_record_of_another_adapter_is_refused(records: dict[str, list[Path]], part: str) -> None:
    (prune,) = records["prune"]
    record = json.loads(prune.read_text())
    record["inputs"][f"{RUN}/{part}"] = "other"
    prune.write_text(json.dumps(record))
    with pytest.raises(CotoError, match=f"was computed from another adapter than {RUN}/{part}"):
        load_frames(records)
