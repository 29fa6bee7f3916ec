import json
import subprocess
import sys
from dataclasses import FrozenInstanceError, asdict, replace
from importlib import import_module

import pytest

from coto.errors import CotoError
from coto.registry import PLUGINS, load_plugins
from coto.tasks.load import load_task
from coto.tasks.registry import TASKS
from coto.tasks.text.vader import CORPORA

TEXTS = [task for task in TASKS.values() if task.kind == "text"]


def test_names_are_unique_and_fit_into_paths() -> None:
    assert all(
        name == task.name and name.replace("-", "").isalnum() for name, task in TASKS.items()
    )


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_every_entry_has_code_and_a_headline(task) -> None:
    assert task.headline in task.metrics
    module, _, function = task.code.partition(":")
    assert callable(getattr(import_module(module), function))
    assert json.loads(json.dumps(asdict(task)))["name"] == task.name
    assert json.loads(json.dumps(task.scored())) == task.scored()
    assert len(set(task.sets)) == len(task.sets)
    with pytest.raises(FrozenInstanceError):
        task.name = "other"


def test_the_tasks_of_the_suite() -> None:
    assert {task.name for task in TEXTS if task.source == "vader"} == {
        *("movies", "products", "tweets", "news", "acceptability", "same-source")
    }
    glue = {"cola", "mrpc", "qnli", "qqp", "rte", "sst2", "stsb", "mnli", "wnli"}
    assert {task.name for task in TEXTS if task.source == "hub"} == glue


@pytest.mark.parametrize("task", TEXTS, ids=lambda task: task.name)
def test_entries_of_text_are_consistent(task) -> None:
    assert task.is_regression == (task.name == "stsb") == (task.num_labels == 1)
    assert task.headline == ("pearson" if task.is_regression else "accuracy")
    assert set(task.corpora) <= set(CORPORA)
    assert bool(task.corpora) == (task.source == "vader") != bool(task.hub_path)


def test_registry_and_mirror_import_nothing_heavy() -> None:
    code = (
        "import sys, coto.tasks.registry, coto.tasks.hub;"
        "print(*{'pandas', 'numpy', 'torch', 'datasets'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""


PLUGIN = """
import pandas as pd
from coto.tasks.splits import cut
from coto.tasks.task import TASKS
from coto.tasks.text import TextTask

TASKS.add(
    TextTask(
        name="mine", family="mine", summary="Is it even?", source="made",
        code="coto_plugin_parity:build", label_names=("odd", "even"),
    )
)


def build(task, sources):
    numbers = range(200)
    return cut(task, pd.DataFrame({"text": [f"number {i}" for i in numbers],
                                   "label": [1 - i % 2 for i in numbers]}))
"""


def test_a_task_of_a_plugin_is_loaded_like_any_other(tmp_path) -> None:
    (tmp_path / "parity.py").write_text(PLUGIN)
    load_plugins([tmp_path / "parity.py"])
    try:
        frames = load_task("mine", limits={"test": 10})
        assert json.loads(json.dumps(asdict(TASKS["mine"])))["code"] == "coto_plugin_parity:build"
    finally:
        del TASKS["mine"], sys.modules["coto_plugin_parity"]
        PLUGINS.remove("coto_plugin_parity")
    assert len(frames["train"]) > 100
    assert len(frames["test"]) == 10
    for rows in frames.values():
        assert list(rows.columns) == ["text", "label", "idx"]
        even = [int(text.split()[1]) % 2 == 0 for text in rows["text"]]
        assert list(rows["label"] == 1) == even


def test_code_that_is_not_there_is_reported() -> None:
    for code in ("coto.tasks.nowhere:build", "coto.tasks.hub:nothing", "hub"):
        task = replace(TASKS["cola"], code=code)
        with pytest.raises(CotoError, match=f"^task cola: code = '{code}': expected module:func"):
            load_task(task)
