"""What the rules ask of a plan, and the pages that are generated from the code."""

import math
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import yaml

from coto.findings import FIGURES, TABLES
from coto.findings.jobs import REPORTS
from coto.measurements import MEASUREMENTS
from coto.workflow.load import load, overlay, validate
from coto.workflow.rules import Rules, let_jobs_run

ROOT = Path(__file__).resolve().parents[2]
DEFAULT = yaml.safe_load((ROOT / "config.yaml").read_text())


def rules(**over: object) -> Rules:
    return Rules(validate(overlay(DEFAULT, over)))


def test_reading_the_config_imports_no_heavy_package():
    code = (
        "import sys, yaml; from coto.workflow.load import validate;"
        "from coto.workflow.rules import Rules;"
        "ask = Rules(validate(yaml.safe_load(open('config.yaml'))));"
        "ask.targets(); ask.report_code('claims'); ask.records();"
        "heavy = ('torch', 'pandas', 'transformers', 'datasets', 'matplotlib', 'scipy', 'peft');"
        "print([m for m in heavy if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_every_table_and_figure_of_the_rebuttal_is_a_target():
    targets = rules().targets()
    # Table r2 is image generation.
    numbered = {"table_r1", "table_r3", *(f"figure_r{i}" for i in range(1, 10))}
    assert numbered < set(targets)
    named = {f"table_{name}" for name in TABLES} | {f"figure_{name}" for name in FIGURES}
    asked = {*DEFAULT["suites"], *DEFAULT["studies"]}
    assert set(targets) == numbered | named | asked
    assert targets["figure_r5"] == targets["figure_shapley"]
    assert targets["figure_r5"] == [f"results/figures/shapley.{end}" for end in ("png", "svg")]
    without = rules(studies=dict.fromkeys(DEFAULT["studies"])).targets()
    studied = {"table_r3", "figure_r1", "figure_r2", "figure_r3", "figure_r6"}
    assert numbered - set(without) == studied


CLUSTER = SimpleNamespace(local_exec=False, is_main_process=True)


def test_a_queue_sees_hundreds_of_jobs_of_the_papers_run():
    ask = Rules(load(ROOT / "config.yaml", ROOT / "configs/paper.yaml"))
    profile = yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text())
    groups: Counter[str | None] = Counter()
    for measurement in MEASUREMENTS.values():
        group = ask.group(measurement, CLUSTER)
        for suite in ask.plan.config.suites:
            for cell in measurement.cells(ask.plan, suite):
                groups[group(SimpleNamespace(suite=cell.suite))] += 1
    for kind in ("table", "figure"):
        groups[ask.group(REPORTS[kind], CLUSTER)(SimpleNamespace())] += len(ask.all_of(kind))
    alone = groups.pop(None)
    shared = [math.ceil(n / profile["group-components"].get(g, 1)) for g, n in groups.items()]
    assert sum(groups.values()) + alone > 1000
    assert alone + sum(shared) <= 500


def test_jobs_on_one_machine_are_in_no_group():
    ask, here = rules(), SimpleNamespace(local_exec=True, is_main_process=True)
    for measurement in MEASUREMENTS.values():
        assert ask.group(measurement, here)(SimpleNamespace(suite="glue")) is None


def test_repeated_attempts_ask_for_more_up_to_a_limit():
    jobs = {"memory_mb": 3000, "minutes": 10, "max_memory_mb": 5000}
    ask = rules(suites={"glue": {"jobs": jobs}})
    asked = ask.resources(MEASUREMENTS["train"])
    glue = SimpleNamespace(suite="glue")
    assert [asked["mem_mb"](glue, n) for n in (1, 2, 3)] == [3000, 4500, 5000]
    assert [asked["runtime"](glue, n) for n in (1, 2, 3, 4)] == [10, 20, 30, 30]
    assert [ask.small_job["mem_mb"](glue, n) for n in (1, 2)] == [2000, 4000]


def test_only_jobs_with_a_model_ask_for_gpus():
    jobs = {"gpus": 2, "gpu_model": "a100"}
    ask = rules(device="cuda", suites={"glue": {"jobs": jobs}})
    glue = SimpleNamespace(suite="glue")
    gpus = {
        name: asked["gpu"](glue) if "gpu" in (asked := ask.resources(one)) else 0
        for name, one in MEASUREMENTS.items()
    }
    assert {name for name, count in gpus.items() if not count} == {
        name for name, one in MEASUREMENTS.items() if not one.uses_model
    }
    assert {name: count for name, count in gpus.items() if count > 1} == {"train": 2}
    assert ask.resources(MEASUREMENTS["train"])["gpu_model"](glue) == "a100"
    on_cpu = rules().resources(MEASUREMENTS["train"])
    assert (on_cpu["gpu"](glue), on_cpu["gpu_model"](glue)) == (0, None)


def test_a_table_reads_the_records_that_it_shows_and_no_others():
    ask = rules()
    for target, kinds in {
        "table_shapley": {"subnetworks"},
        "figure_pruning": {"prune", "train", "select", "none", "baseline"},
        "figure_unstructured_pruning": {"prune"},
        "figure_forest": {"claims"},
        "table_training_time": {"overhead"},
        "table_learning_rate": {"train", "select"},
        "figure_schedule": set(),
    }.items():
        assert set(ask.reports[target].settings.records) == kinds
    assert not any("/merge/" in path for path in ask.report_inputs("table_shapley"))


def test_the_picture_of_the_claims_waits_for_them_and_is_listed_beside_them():
    ask = rules()
    assert ask.report_inputs("figure_forest") == ["results/claims.json"]
    assert set(ask.report_inputs("figure_forest")) < set(ask.made("claims"))
    for kind, name, category in (
        ("figure", "forest", "Claims"),
        ("figure", "pruning", "Figures"),
        ("table", "pruning", "Tables"),
        ("study", "strategies", "Studies"),
    ):
        assert ask.category(kind)(SimpleNamespace(**{kind: name})) == category


def test_settings_of_the_report_stay_small_with_thousands_of_runs():
    # A command line holds 128 KiB.
    many = rules(suites={"glue": {"seeds": list(range(60))}})
    assert len(many.records("glue")) > 4000
    assert all(len(many.report_settings(target)) < 40_000 for target in many.reports)


def test_the_report_names_every_record_once():
    paths = rules().records()
    assert len(set(paths)) == len(paths)


def test_import_paths_are_extended_and_not_replaced(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"/one{os.pathsep}/two")
    monkeypatch.setenv("PATH", "/bin")
    let_jobs_run("/checkout")
    assert os.environ["PYTHONPATH"].split(os.pathsep) == ["/checkout", "/one", "/two"]
    assert os.environ["PATH"].split(os.pathsep) == [str(Path(sys.executable).parent), "/bin"]
    let_jobs_run("/checkout")
    assert os.environ["PYTHONPATH"].split(os.pathsep) == ["/checkout", "/one", "/two"]


def test_an_end_of_a_grid_is_refused_only_where_it_is_asked_for_and_after_its_table():
    assert rules().refused() == []
    strict = rules(report={"learning_rate_edge": "error"})
    assert strict.refused() == ["results/learning_rates.yaml"]
    assert 'edge":"error' in strict.report_settings("learning_rates")
    text = (ROOT / "rules" / "report.smk").read_text()
    rule = text[text.index("rule learning_rates:") : text.index("rule tables:")]
    assert 'ask.made("table_learning_rate")' in rule
    assert set(strict.reports["learning_rates"].settings.records) == {"train"}


def test_the_search_changes_rates_and_seeds_and_measures_nothing_else():
    default = load(ROOT / "config.yaml").config
    search = load(ROOT / "config.yaml", ROOT / "configs" / "lr-search.yaml")
    assert search.config.report.learning_rate_edge == "error"
    off = {name for name, one in MEASUREMENTS.items() if one.section is not None}
    free = {"seeds", "selection_seeds", "learning_rates", "evaluation", "rows", *off}
    for name, suite in search.config.suites.items():
        usual = default.suites[name]
        assert suite.model_dump(exclude=free) == usual.model_dump(exclude=free)
        # A choice needs more rows than a run that chooses nothing.
        more = {"validation": suite.rows.validation}
        assert suite.rows == usual.rows.model_copy(update=more)
        assert (suite.rows.validation or 0) >= (usual.rows.validation or 0)
        assert suite.evaluation == usual.evaluation.model_copy(update={"test": False})
        assert [one for one in off if getattr(suite, one) is not None] == []
        assert len(suite.seeds) >= 2
        assert not set(suite.seeds) & set(usual.seeds)
        for adapter in suite.adapters:
            for strategy in suite.strategies:
                grid = [float(rate) for rate in search.grid(name, adapter, strategy)]
                assert len(grid) >= 4
                assert grid == sorted(grid)


def test_every_job_has_a_log_of_its_own():
    commands = [*MEASUREMENTS.values(), *REPORTS.values()]
    logs = [rules().log(command) for command in commands]
    assert len(set(logs)) == len(commands)
    for command, log in zip(commands, logs, strict=True):
        assert set(re.findall(r"\{\w+\}", log)) == set(
            re.findall(r"\{\w+\}", next(iter(command.outputs.values())))
        )


def test_the_snakefile_is_short():
    assert len((ROOT / "Snakefile").read_text().splitlines()) <= 80


def test_generated_pages_are_current(tmp_path):
    # In a process of its own: other tests add things.
    code = f"from pathlib import Path; from tools import docs; docs.write(Path({str(tmp_path)!r}))"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    for page in tmp_path.iterdir():
        assert (ROOT / "docs" / page.name).read_text() == page.read_text(), "run `make docs`"


def test_conda_environment_names_the_constraints_pins():
    lines = (ROOT / "envs" / "constraints.txt").read_text().splitlines()
    pins = {line for line in lines if line and not line.startswith("#")}
    environment = yaml.safe_load((ROOT / "envs" / "coto.yaml").read_text())
    (pip,) = (entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    assert set(pip) == pins
