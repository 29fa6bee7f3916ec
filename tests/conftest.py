"""How the tests share two cores, and what makes them cheap."""

import functools
import gc
import os

import jinja2
import pytest

from tests.forks import Forks

FORKS: list[Forks] = []


def pytest_configure(config: pytest.Config) -> None:
    # Two workers on two cores: one thread each, in the tests and in what they start.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # The run that the workflow's tests are about takes longest: begin with it.
    items.sort(key=lambda item: item.path.name != "test_workflow.py")


def pytest_collection_finish(session: pytest.Session) -> None:
    # The Trainer ends with a full garbage collection; it need not walk through all of torch.
    gc.collect()
    gc.freeze()
    # PEFT compiles the template of its model card again at every save.
    jinja2.Environment.compile = functools.cache(jinja2.Environment.compile)
    if any("forks" in getattr(item, "fixturenames", ()) for item in session.items):
        FORKS.append(Forks())


@pytest.fixture(scope="session")
def forks() -> Forks:
    """Starts processes that have everything imported and nothing run."""
    return FORKS[0]
