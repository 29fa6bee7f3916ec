import json
import subprocess
import sys
from dataclasses import FrozenInstanceError
from importlib.util import find_spec

import pytest

from coto.tasks.registry import TASKS
from coto.tasks.text import GLUE_TASKS, OFFLINE_TASKS
from coto.tasks.vader import CORPORA


def test_names_are_unique_and_fit_into_paths() -> None:
    assert {task.name for task in (*OFFLINE_TASKS, *GLUE_TASKS)} <= set(TASKS)
    assert all(
        name == task.name and name.replace("-", "").isalnum() for name, task in TASKS.items()
    )


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_every_entry_has_a_module_and_a_headline(task) -> None:
    assert task.headline in task.metrics
    assert find_spec(task.module) is not None
    assert json.loads(json.dumps(task.scored())) == task.scored()
    assert len(set(task.sets)) == len(task.sets)
    with pytest.raises(FrozenInstanceError):
        task.name = "other"


def test_the_tasks_of_the_suite() -> None:
    assert {task.name for task in OFFLINE_TASKS} == {
        *("movies", "products", "tweets", "news", "acceptability", "same-source")
    }
    glue = {"cola", "mrpc", "qnli", "qqp", "rte", "sst2", "stsb", "mnli", "wnli"}
    assert {task.name for task in GLUE_TASKS} == glue


@pytest.mark.parametrize("task", [*OFFLINE_TASKS, *GLUE_TASKS], ids=lambda task: task.name)
def test_entries_of_text_are_consistent(task) -> None:
    assert task.is_regression == (task.name == "stsb") == (task.num_labels == 1)
    assert task.headline == ("pearson" if task.is_regression else "accuracy")
    assert set(task.corpora) <= set(CORPORA)
    assert bool(task.corpora) == (task.source == "vader") != bool(task.hub_path)


def test_registry_and_mirror_import_nothing_heavy() -> None:
    code = (
        "import sys, coto.tasks.registry, coto.tasks.mirror;"
        "print(*{'pandas', 'numpy', 'torch', 'datasets'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""
