"""How the tests share two cores."""

import os

import pytest


def pytest_configure(config: pytest.Config) -> None:
    # Two workers on two cores: one thread each, in the tests and in what they start.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # The run that the workflow's tests are about takes longest: begin with it.
    items.sort(key=lambda item: item.path.name != "test_workflow.py")
