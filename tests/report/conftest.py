from pathlib import Path

import pytest
from factory import make_records


@pytest.fixture(scope="session")
def records(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """Three seeds of two adapters on four tasks: merging and pruning gain, single-task does not."""
    return make_records(tmp_path_factory.mktemp("records"))


@pytest.fixture(scope="session")
def few(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """As `records`, of two tasks: for checks of form, which cost time by the number of rows."""
    return make_records(tmp_path_factory.mktemp("few"), tasks=("acceptability", "movies"))


@pytest.fixture(scope="session")
def one_seed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    return make_records(tmp_path_factory.mktemp("one_seed"), seeds=(0,), adapters=("lora",))
