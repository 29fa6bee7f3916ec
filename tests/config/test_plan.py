"""Canonical settings, fingerprints, and pages generated from the models."""

import json
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import yaml

from coto.cli import STAGES, module_of
from coto.config import reference
from coto.config.axes import canonical
from coto.config.definitions import AdapterKind, StrategyKind
from coto.config.fingerprint import ENTRIES, fingerprint, import_closure
from coto.config.load import load, overlay, validate
from coto.config.outputs import FIGURES, TABLES
from coto.config.plan import Plan
from coto.config.suites import OperatorName
from coto.config.wiring import Wiring
from coto.operators.registry import OPERATORS

ROOT = Path(__file__).resolve().parents[2]
DEFAULT = yaml.safe_load((ROOT / "config.yaml").read_text())


def plan(**over: object) -> Plan:
    return Plan(validate(overlay(DEFAULT, over)))


def test_reading_the_config_imports_no_heavy_package():
    code = (
        "import sys; from pathlib import Path; from coto.config.load import load;"
        "from coto.config.wiring import Wiring; from coto.config.plan import Plan;"
        "from coto.cli import module_of; from coto.config.fingerprint import fingerprint;"
        "plan = Plan(load(Path('config.yaml'))); plan.records(); fingerprint(module_of('train'));"
        "print([m for m in ('torch', 'pandas', 'transformers', 'datasets') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_settings_are_canonical():
    first = plan().train("glue", "movies", "lora", "coto", "0.004", "1")
    assert first == canonical(json.loads(first))
    assert canonical({"b": 1, "a": 2}) == canonical({"a": 2, "b": 1})


def test_one_spelling_per_number():
    # 1 and 1.0 are the same probability; YAML writes either.
    assert plan(strategies={"coto": {"p1": 1}}) == plan(strategies={"coto": {"p1": 1.0}})


def test_settings_of_a_run_hold_no_fan_out_lists():
    few, more = plan(), plan(suites={"glue": {"seeds": [0, 1, 2], "tasks": ["movies"]}})
    at = ("glue", "movies", "lora", "coto", "0.004", "1")
    assert few.train(*at) == more.train(*at)
    seeds = plan(suites={"glue": {"seeds": [0, 1, 2]}})
    assert few.prune("glue", "lora", "coto", "1") == seeds.prune("glue", "lora", "coto", "1")


def test_both_arms_of_a_pair_differ_in_the_strategy_alone():
    read = [
        json.loads(plan().train("glue", "movies", "lora", strategy, "0.004", "0"))
        for strategy in ("vanilla", "coto")
    ]
    differing = {key for key in read[0] if read[0][key] != read[1][key]}
    assert differing == {"strategy", "strategy_settings"}


def test_the_grid_of_an_arm_goes_before_the_adapters():
    rates = {"lora": [1.0e-3], "lora-coto": [2.0e-3, 4.0e-3], "hira": [1.0e-2]}
    custom = plan(suites={"glue": {"learning_rates": rates}})
    assert custom.grid("glue", "lora", "vanilla") == ["0.001"]
    assert custom.grid("glue", "lora", "coto") == ["0.002", "0.004"]
    assert len(custom.records()["select"]) == len(DEFAULT["suites"]["glue"]["tasks"])


def test_records_match_the_axes():
    config = load(ROOT / "config.yaml", ROOT / "configs" / "smoke.yaml")
    suite = config.suites["glue"]
    arms = len(suite.adapters) * len(suite.strategies)
    counts = {stage: len(found) for stage, found in Plan(config).records("glue").items()}
    assert counts == {
        "baseline": 1,
        "train": len(suite.tasks) * arms * len(suite.seeds),
        "gradients": len(suite.tasks) * arms * len(suite.seeds),
        "select": 0,
        "prune": arms * len(suite.seeds),
        "interpolate": arms,
        "merge": arms * len(suite.seeds),
        "subnetworks": arms * len(suite.seeds),
        "geometry": len(suite.adapters),
        "trajectory": 0,
        "overhead": len(suite.adapters),
    }


def test_analyses_may_use_some_of_the_runs():
    chosen = {"subnetworks": {"seeds": [1], "tasks": ["news"]}, "geometry": {"tasks": ["movies"]}}
    some = plan(suites={"glue": chosen})
    assert [path[-10:] for path in some.records("glue")["subnetworks"]] == ["seed1.json"] * 2
    assert json.loads(some.subnetworks("glue", "lora", "coto", "1"))["tasks"] == ["news"]
    assert json.loads(some.geometry("glue", "lora"))["tasks"] == ["movies"]


def test_early_stopping_is_looked_at_in_coto_alone_and_kept_in_both_arms():
    early = plan(suites={"glue": {"subnetworks": {"early_stop": 0.75}}})
    for strategy, share in (("coto", 0.75), ("vanilla", None)):
        found = json.loads(early.subnetworks("glue", "lora", strategy, "0"))
        assert found["subnetworks"]["early_stop"] == share
        trained = json.loads(early.train("glue", "movies", "lora", strategy, "0.004", "0"))
        assert trained["train"]["snapshots"] == [0.75]


def test_merging_reads_the_settings_of_its_own_operators_only():
    tuned = {"merging": {"settings": {"ties": {"keep": 1}, "lora-lego": {"k": 4}}}}
    plain = {"interpolate": {"halfway": []}}
    some = plan(suites={"glue": {**tuned, **plain, "merge": {"operators": ["fusion", "ties"]}}})
    found = json.loads(some.merge("glue", "lora", "coto", "0"))
    assert set(found["operators"]) == {"fusion", "ties"}
    assert found["operators"]["ties"]["keep"] == 1.0
    pair = ("glue", "lora", "coto", "0-1")
    assert some.interpolate(*pair) == plan(suites={"glue": plain}).interpolate(*pair)


def test_every_table_and_figure_of_the_rebuttal_is_a_target():
    targets = Wiring(plan()).targets()
    # Table r2 is image generation.
    numbered = {"table_r1", "table_r3", *(f"figure_r{i}" for i in range(1, 10))}
    assert numbered < set(targets)
    assert len(targets) == len(TABLES) + len(FIGURES) + len(numbered)
    assert targets["figure_r5"] == targets["figure_shapley"] == ["results/figures/shapley.png"]
    without = Wiring(plan(studies=dict.fromkeys(DEFAULT["studies"]))).targets()
    assert numbered - set(without) == {
        "table_r3",
        "figure_r1",
        "figure_r2",
        "figure_r3",
        "figure_r6",
    }


def test_every_operator_has_a_name_in_the_config():
    assert set(get_args(OperatorName)) == set(OPERATORS)


def test_seeds_are_mixed_in_pairs_and_neighbouring_threes():
    found = plan(suites={"glue": {"adapters": ["lora"], "seeds": [0, 1, 2, 5]}}).records("glue")
    mixed = {path.rpartition("seeds")[2] for path in found["interpolate"]}
    pairs = {"0-1", "0-2", "0-5", "1-2", "1-5", "2-5"}
    assert mixed == {f"{name}.json" for name in (*pairs, "0-1-2", "1-2-5")}


def test_a_study_varies_its_suite_and_is_no_part_of_the_report():
    varied = plan().study("lr_sweep")
    assert list(varied) == [
        f"lr_sweep-{lr}" for lr in ("5e-05", "0.0001", "0.0005", "0.001", "0.005")
    ]
    for name, suite in varied.items():
        assert suite.learning_rates == {"lora": (float(name.removeprefix("lr_sweep-")),)}
        assert suite.backbone == "glyphs"
    assert "lr_sweep" not in plan().tables()
    snapshots = plan().study("schedules")["schedules"].train.snapshots
    assert snapshots == (0.15, 0.3, 0.45, 0.6, 0.75, 0.9, 1.0)
    assert plan().records("schedules")["trajectory"]
    run = ("digits", "lora", "coto", "0.005", "0")
    settings = [json.loads(plan().train(suite, *run)) for suite in ("images", "strategies")]
    kept = [given["train"].pop("snapshots") for given in settings]
    assert kept == [[0.75], []]  # of early-stopped CoTo, which only the suite looks at
    assert {key for key in settings[0] if settings[0][key] != settings[1][key]} == {"suite"}


def test_report_settings_stay_small_with_thousands_of_runs():
    # A command line holds 128 KiB.
    many = plan(suites={"glue": {"seeds": list(range(500))}})
    assert len(many.records("glue")["train"]) == 4000
    assert len(many.tables()) < 20_000


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_closures_are_of_this_package_and_follow_imports(stage):
    closure = import_closure(module_of(stage))
    assert module_of(stage) in closure
    assert "coto" in closure
    assert all(
        (ROOT / name.replace(".", "/")).with_suffix(".py").is_file()
        or (ROOT / name.replace(".", "/") / "__init__.py").is_file()
        for name in closure
    )


def test_closures_keep_stages_apart():
    train, prune = import_closure("coto.stages.train"), import_closure("coto.stages.prune")
    assert "coto.method.gate" in train
    assert "coto.operators.merge" not in train
    assert "coto.operators.merge" not in prune
    assert "coto.training" not in prune
    assert "coto.stages.evaluation" not in train
    assert "coto.workbench.changed" not in train
    assert not any(name.startswith("coto.report") for name in train)
    assert not any(name.startswith("coto.config.models") for name in train)


def test_fingerprint_ignores_entries_of_tables():
    assert set(import_closure("coto.stages.train")) & ENTRIES
    assert fingerprint("coto.tasks.registry") == fingerprint("coto.tasks.registry", "coto.tasks")


def test_fingerprint_of_an_unknown_module_is_refused():
    with pytest.raises(ValueError, match=r"coto\.nothing"):
        fingerprint("coto.nothing")


def test_generated_pages_are_current():
    assert (ROOT / "docs" / "config.md").read_text() == reference.page(), "run `make docs`"
    operators = (ROOT / "docs" / "operators.md").read_text()
    assert operators == reference.operators_page(), "run `make docs`"
    assert (ROOT / "docs" / "config.schema.json").read_text() == reference.schema()


def test_conda_environment_names_the_constraints_pins():
    lines = (ROOT / "envs" / "constraints.txt").read_text().splitlines()
    pins = {line for line in lines if line and not line.startswith("#")}
    environment = yaml.safe_load((ROOT / "envs" / "coto.yaml").read_text())
    (pip,) = (entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    assert set(pip) == pins


def test_the_names_that_a_config_may_use_are_those_that_exist():
    from coto.adapters.kinds import KINDS
    from coto.method.strategies import make_strategy

    assert set(get_args(AdapterKind)) == set(KINDS)
    assert [make_strategy(name).name for name in get_args(StrategyKind)] == list(
        get_args(StrategyKind)
    )


def test_report_outputs_are_those_that_the_rules_declare():
    from coto.report.figures import FIGURES as drawn
    from coto.report.tables import TABLES as built

    assert set(TABLES) == set(built)
    assert set(FIGURES) == set(drawn)
