"""The rerun matrix: which jobs an edit of the configuration, the code or the data reruns, exactly.

The edits are made to a copy of the package whose fingerprints are taken; nothing runs.
"""

import ast
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from coto import registry
from coto.adapters.kinds import KINDS
from coto.config.plan import Plan
from coto.tasks.registry import TASKS
from coto.workflow import fingerprint, rules
from coto.workflow.load import load, overlay, validate
from tests.workflow.edits import (
    CONFIG_EDITS,
    MERGES,
    USES_ADAPTERS,
    USES_MODEL,
    Expected,
    chain,
    expected,
    nothing,
)
from tests.workflow.edits import rules as only
from tests.workflow.planned import Planned, Read, jobs_of, rerun

ROOT = Path(__file__).resolve().parents[2]
SMOKE = yaml.safe_load((ROOT / "configs/smoke.yaml").read_text())


def smoke(edit: Mapping[str, Any]) -> Plan:
    default = yaml.safe_load((ROOT / "config.yaml").read_text())
    return validate(overlay(overlay(default, SMOKE), edit))


@pytest.fixture(scope="module")
def before() -> dict[Planned, Read]:
    return jobs_of(load(ROOT / "config.yaml", ROOT / "configs/smoke.yaml"))


@pytest.mark.parametrize("name", CONFIG_EDITS)
def test_an_edit_of_the_config(name: str, before: dict[Planned, Read]):
    edit, matches = CONFIG_EDITS[name]
    after = jobs_of(smoke(edit))
    assert rerun(before, after) == expected(after, matches)


# --- code and data --------------------------------------------------------------------------------


def forget() -> None:
    """Files are taken not to change while a process runs."""
    fingerprint._graph.cache_clear()
    fingerprint._kept.cache_clear()
    registry.syntax_of.cache_clear()
    rules._fingerprint.cache_clear()


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout's code."""
    root = tmp_path_factory.mktemp("package")
    shutil.copytree(ROOT / "coto", root / "coto", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "envs").mkdir()
    shutil.copy(ROOT / "envs/constraints.txt", root / "envs")
    return root


@pytest.fixture
def after(
    package: Path, before: dict[Planned, Read], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., set[Planned]]]:
    """What reruns after a file of the copy was edited."""
    monkeypatch.setattr(registry, "PACKAGE", package / "coto")
    monkeypatch.chdir(package)
    plan = load(ROOT / "config.yaml", ROOT / "configs/smoke.yaml")

    def edited(**edits: Callable[[str], str]) -> set[Planned]:
        texts = {}
        for file, edit in edits.items():
            path = package / file
            texts[path] = path.read_text()
            path.write_text(edit(texts[path]))
            assert path.read_text() != texts[path]
        forget()
        try:
            return rerun(before, jobs_of(plan))
        finally:
            for path, text in texts.items():
                path.write_text(text)

    yield edited
    forget()


def in_body(function: str) -> Callable[[str], str]:
    """A statement more in a function, or in the method of a class, ``Class.method``."""

    def edit(text: str) -> str:
        body: list[ast.stmt] = ast.parse(text).body
        for name in function.split("."):
            (node,) = (n for n in body if getattr(n, "name", None) == name)
            body = node.body
        first = next(n for n in body if not isinstance(n, ast.Expr))
        lines = text.splitlines(keepends=True)
        lines.insert(first.lineno - 1, " " * first.col_offset + "edited = 1\n")
        return "".join(lines)

    return edit


def instead(old: str, new: str) -> Callable[[str], str]:
    """One piece of text replaced, a regular expression."""

    def edit(text: str) -> str:
        assert len(re.findall(old, text, re.M)) == 1, old
        return re.sub(old, new, text, flags=re.M)

    return edit


def comment(text: str) -> str:
    return text + "# a comment\n"


def docstring(text: str) -> str:
    return text.replace('"""', '"""Edited. ', 1)


def statement(text: str) -> str:
    """A statement at the top level that defines nothing anybody uses."""
    return text + "\nEDITED = 1\n"


IMAGES, GLUE, LANGUAGE = ({"suite": name} for name in ("images", "glue", "commonsense"))
SCORES = {"baseline", *USES_MODEL}
# What shows numbers of the paper.
PAPER_TABLES = {
    *("alignment", "geometry", "multitask_merging", "pruning", "shapley", "single_task"),
    *("training_time", "unstructured_pruning"),
}
PAPER_FIGURES = PAPER_TABLES - {"multitask_merging", "single_task"} | {"interpolation", "merging"}


# File -> edit -> jobs; those of the report that read a record of one of them follow.
EDITS: dict[str, tuple[str, Callable[[str], str], Expected]] = {
    "a comment": ("coto/measurements/training.py", comment, nothing),
    "a docstring": ("coto/measurements/training.py", docstring, nothing),
    "a constant that nobody uses": ("coto/operators/merge.py", statement, nothing),
    "an annotation": (
        "coto/operators/keep.py",
        instead(r"^def kept\(modules: \w+,", "def kept(modules: list,"),
        nothing,
    ),
    "the body of peft_config": (
        "coto/adapters/kinds.py",
        in_body("peft_config"),
        chain(lambda j: True),
    ),
    "training": ("coto/measurements/training.py", in_body("fit"), only("train", *USES_ADAPTERS)),
    "the method": ("coto/method/gate.py", in_body("AdapterGate.__init__"), chain(lambda j: True)),
    "an operator": ("coto/operators/lego.py", in_body("merge_lego"), only(*MERGES)),
    "an operator that only tasks are merged by": (
        "coto/operators/sparse.py",
        in_body("merge_knots"),
        only("merge"),
    ),
    "a helper that two measurements share": (
        "coto/measurements/evaluation.py",
        in_body("keep_merged"),
        only(*MERGES),
    ),
    "a mode of pruning": (
        "coto/operators/keep.py",
        instead("layers 1, 3, 5, …", "layers 1, 3 and so on"),
        only("prune"),
    ),
    "the value of a constant": (
        "coto/analysis/shapley.py",
        instead("^EXACT_PLAYERS = 12$", "EXACT_PLAYERS = 11"),
        only("subnetworks"),
    ),
    "the Shapley values": ("coto/analysis/shapley.py", in_body("shapley"), only("subnetworks")),
    "the text classifier": (
        "coto/models/encoder.py",
        in_body("TextClassifier._load"),
        lambda j: j.rule in SCORES and j.suite in ("glue", "glue-frozen"),
    ),
    "the language model": (
        "coto/models/causal/model.py",
        in_body("LanguageModel._load"),
        only(*SCORES, **LANGUAGE),
    ),
    "the image classifier": (
        "coto/models/images/model.py",
        in_body("ImageClassifier._load"),
        only(*SCORES, **IMAGES),
    ),
    "a file of lm-eval": (
        "coto/models/causal/lm_tasks/ranking.yaml",
        comment,
        only(*SCORES, **LANGUAGE),
    ),
    "a function that a file of lm-eval names": (
        "coto/models/causal/answers.py",
        in_body("math_results"),
        only(*SCORES, **LANGUAGE),
    ),
    "the conversion of a backbone": (
        "coto/models/causal/loading.py",
        in_body("convert"),
        # Its tokenizer says which rows fit.
        lambda j: j.rule == "convert" or only("prepare", *SCORES, **LANGUAGE)(j),
    ),
    "what builds one task's rows": (
        "coto/tasks/text/offline.py",
        in_body("same_source"),
        lambda j: (
            j.task == "same-source"  # prepare and train
            or only("baseline", *USES_ADAPTERS, **GLUE)(j)
        ),
    ),
    "what draws one task's pictures": (
        "coto/tasks/images/composed.py",
        in_body("left"),
        lambda j: (
            j.task == "glyphs-left"  # prepare, prototypes and train
            or only("baseline", *USES_ADAPTERS, **IMAGES)(j)
        ),
    ),
    "what a fixed draw of rows is": (
        "coto/tasks/load.py",
        in_body("load_prototypes"),
        lambda j: j.rule == "prototypes" or only(*SCORES, **IMAGES)(j),
    ),
    "the frozen head": (
        "coto/models/images/heads.py",
        in_body("CosineHead.forward"),
        only(*SCORES, **IMAGES),
    ),
    "a row of the paper's numbers": (
        "coto/report/paper_values.csv",
        lambda text: text.replace("87.44", "87.45", 1),
        lambda j: j.table in PAPER_TABLES or j.figure in PAPER_FIGURES or j.rule == "claims",
    ),
    "a figure": (
        "coto/findings/method.py",
        in_body("masks"),
        lambda j: j.figure == "masks",
    ),
    "a claim": (
        "coto/findings/time.py",
        instead('name="training-time",', 'name="training-time",  # the last\n        caution="?",'),
        only("claims"),
    ),
    "what all tables share": (
        "coto/report/writing.py",
        in_body("write_table"),
        lambda j: j.rule == "table",
    ),
    "the command line": ("coto/cli.py", in_body("main"), nothing),
    "a new adapter kind": (
        "coto/adapters/kinds.py",
        lambda text: text + '\nKINDS.add(Kind("loha", "LoHaConfig", {}, "x:y"))\n',
        nothing,
    ),
    "a new task": (
        "coto/tasks/text/__init__.py",
        lambda text: text + "\nTASKS.add(TASKS['movies'])\n",
        nothing,
    ),
    "a new operator": (
        "coto/operators/lego.py",
        lambda text: (
            text + '\n\n@operator("new", space="delta")\ndef new(a, w, b):\n    return a\n'
        ),
        nothing,
    ),
    "the version of a package that images alone import": (
        "envs/constraints.txt",
        instead(r"^timm==.*$", "timm==0.0.1"),
        only(*SCORES, **IMAGES),
    ),
    "the version of a package that only jobs with a model import": (
        "envs/constraints.txt",
        instead(r"^filelock==.*$", "filelock==0.0.1"),
        only(*SCORES),
    ),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_of_the_code_or_its_data(name: str, after: Callable[..., set[Planned]], before):
    file, edit, matches = EDITS[name]
    assert after(**{file: edit}) == expected(before, matches)


def test_an_unused_function_anywhere_reruns_nothing(after: Callable[..., set[Planned]], package):
    def add(text: str) -> str:
        return f"{text}\n\ndef unused(x):\n    return x + 1\n\n\nUNUSED = 1\n"

    # `evaluate` loads the metrics by their file, which therefore counts as a whole.
    files = {str(file.relative_to(package)) for file in (package / "coto").rglob("*.py")}
    files -= {"coto/models/task_metrics.py"}
    assert len(files) > 100
    assert after(**dict.fromkeys(files, add)) == set()


# --- entries of registries ------------------------------------------------------------------------


def test_an_edit_of_one_kinds_entry_reruns_its_runs(before, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(KINDS, "hira", replace(KINDS["hira"], extra={"fan_in_fan_out": False}))
    assert rerun(before, jobs_of(smoke({}))) == expected(
        before, chain(lambda j: j.suite == "images")
    )


def test_a_class_name_reruns_the_images_task_that_has_it(monkeypatch: pytest.MonkeyPatch):
    edit = {"suites": {"images": {"tasks": ["eurosat", "digits"]}}}
    before = jobs_of(smoke(edit))
    (own, name), *others = TASKS["eurosat"].renamed
    changed = replace(TASKS["eurosat"], renamed=((own, name + "s"), *others))
    monkeypatch.setitem(TASKS, "eurosat", changed)
    uses = {"baseline", *USES_ADAPTERS}
    assert rerun(before, jobs_of(smoke(edit))) == expected(
        before,
        lambda j: j.task == "eurosat" or (j.suite == "images" and j.rule in uses),
    )
