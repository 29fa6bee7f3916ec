"""What a configuration asks for: suites, studies, jobs and their settings."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from coto.config.plan import Plan
from coto.measurements import MEASUREMENTS
from coto.measurements.base import Cell
from coto.settings import canonical
from coto.workflow.load import load, overlay, validate

ROOT = Path(__file__).resolve().parents[2]
DEFAULT = yaml.safe_load((ROOT / "config.yaml").read_text())
RUN = {"suite": "glue", "task": "movies", "adapter": "lora", "strategy": "coto"}
ARM = {"suite": "glue", "adapter": "lora", "strategy": "coto"}


def plan(**over: object) -> Plan:
    return validate(overlay(DEFAULT, over))


def settings(of: Plan, name: str, **at: str) -> Any:
    return MEASUREMENTS[name].build(of, Cell(**at))


def paths(of: Plan, name: str, suite: str = "glue") -> list[str]:
    measurement = MEASUREMENTS[name]
    return [measurement.path(cell) for cell in measurement.cells(of, suite)]


def test_settings_are_canonical_and_come_back_as_they_were():
    for name, at in (
        ("train", {**RUN, "lr": "0.004", "seed": "1"}),
        ("merge", {**ARM, "seed": "0"}),
    ):
        first = settings(plan(), name, **at)
        assert type(first).model_validate_json(canonical(first)) == first
    assert canonical({"b": 1, "a": 2}) == canonical({"a": 2, "b": 1})


def test_one_spelling_per_number():
    # 1 and 1.0 are the same probability; YAML writes either.
    assert plan(strategies={"coto": {"p1": 1}}) == plan(strategies={"coto": {"p1": 1.0}})


def test_settings_of_a_run_hold_no_fan_out_lists():
    few, more = plan(), plan(suites={"glue": {"seeds": [0, 1, 2], "tasks": ["movies"]}})
    at = {**RUN, "lr": "0.004", "seed": "1"}
    assert settings(few, "train", **at) == settings(more, "train", **at)
    seeds = plan(suites={"glue": {"seeds": [0, 1, 2]}})
    arm = {**ARM, "seed": "1"}
    assert settings(few, "prune", **arm) == settings(seeds, "prune", **arm)


def test_both_arms_of_a_pair_differ_in_the_strategy_alone():
    vanilla, coto = (
        settings(
            plan(), "train", **{**RUN, "strategy": name, "lr": "0.004", "seed": "0"}
        ).model_dump()
        for name in ("vanilla", "coto")
    )
    differing = {key for key in vanilla if vanilla[key] != coto[key]}
    assert differing == {"strategy", "strategy_settings"}


def test_the_grid_of_an_arm_goes_before_the_adapters():
    rates = {"lora": [1.0e-3], "lora-coto": [2.0e-3, 4.0e-3], "hira": [1.0e-2]}
    custom = plan(suites={"glue": {"learning_rates": rates}})
    assert custom.grid("glue", "lora", "vanilla") == ("0.001",)
    assert custom.grid("glue", "lora", "coto") == ("0.002", "0.004")
    assert len(paths(custom, "select")) == len(DEFAULT["suites"]["glue"]["tasks"])


def test_how_many_jobs_a_suite_has():
    smoke = load(ROOT / "config.yaml", ROOT / "configs" / "smoke.yaml")
    suite = smoke.config.suites["glue"]
    arms = len(suite.adapters) * len(suite.strategies)
    assert {name: len(paths(smoke, name)) for name in MEASUREMENTS} == {
        "corpora": 0,
        "convert": 0,
        "prepare": len(suite.tasks),
        "prototypes": 0,
        "baseline": 1,
        "train": len(suite.tasks) * arms * len(suite.seeds),
        "select": 0,
        "prune": arms * len(suite.seeds),
        "interpolate": arms,
        "merge": arms * len(suite.seeds),
        "subnetworks": arms * len(suite.seeds),
        "geometry": len(suite.adapters),
        "trajectory": 0,
        "overhead": len(suite.adapters),
    }


def test_every_job_with_a_model_builds_the_same_head():
    heads = plan(suites={"images": {"head": "prototypes", "logit_scale": 5.0}})
    jobs = ("train", "baseline", "prune", "interpolate", "merge", "subnetworks", "overhead")
    at = {"suite": "images", "task": "digits", "adapter": "lora", "strategy": "coto"}
    at |= {"lr": "0.03", "seed": "0", "seeds": "0-1"}
    for name in jobs:
        loading = settings(heads, name, **at).loading
        assert (loading.head, loading.logit_scale) == ("prototypes", 5.0), name
        needed = MEASUREMENTS[name].inputs(heads, Cell(**at))["prototypes"]
        assert "images/digits/data/prototypes.parquet" in needed, name
    assert len(paths(heads, "prototypes", "images")) == len(heads.suites["images"].tasks)
    for head in ("linear", "frozen"):
        others = plan(suites={"images": {"head": head}})
        assert settings(others, "train", **at).loading.logit_scale is None
        assert not MEASUREMENTS["train"].inputs(others, Cell(**at))["prototypes"]
        assert not paths(others, "prototypes", "images")


def test_prototypes_are_drawn_from_train_where_a_task_makes_none():
    heads = plan(suites={"images": {"tasks": ["digits", "eurosat"]}})
    measurement = MEASUREMENTS["prototypes"]
    made, drawn = (Cell(suite="images", task=task) for task in ("digits", "eurosat"))
    assert measurement.inputs(heads, made) == {}
    assert measurement.inputs(heads, drawn) == {"train": ["images/eurosat/data/train.parquet"]}


def test_analyses_may_use_some_of_the_runs():
    chosen = {"subnetworks": {"seeds": [1], "tasks": ["news"]}, "geometry": {"tasks": ["movies"]}}
    some = plan(suites={"glue": chosen})
    assert [path[-10:] for path in paths(some, "subnetworks")] == ["seed1.json"] * 2
    assert settings(some, "subnetworks", **ARM, seed="1").tasks == ("news",)
    assert settings(some, "geometry", suite="glue", adapter="lora").tasks == ("movies",)


def test_early_stopping_is_looked_at_in_coto_alone_and_kept_in_both_arms():
    early = plan(suites={"glue": {"subnetworks": {"early_stop": 0.75}}})
    for strategy, share in (("coto", 0.75), ("vanilla", None)):
        arm = {**RUN, "strategy": strategy, "seed": "0"}
        assert settings(early, "subnetworks", **arm).subnetworks.early_stop == share
        assert settings(early, "train", **arm, lr="0.004").train.snapshots == (0.75,)


def test_merging_reads_the_settings_of_its_own_operators_only():
    tuned = {"merging": {"settings": {"ties": {"keep": 1}, "lora-lego": {"k": 4}}}}
    plain = {"interpolate": {"halfway": []}}
    some = plan(suites={"glue": {**tuned, **plain, "merge": {"operators": ["fusion", "ties"]}}})
    merge = settings(some, "merge", **ARM, seed="0")
    assert set(merge.operators) == {"fusion", "ties"}
    assert merge.operators["ties"]["keep"] == 1.0
    pair = {**ARM, "seeds": "0-1"}
    untuned = plan(suites={"glue": plain})
    assert settings(some, "interpolate", **pair) == settings(untuned, "interpolate", **pair)


def test_tasks_may_be_merged_with_a_seed_of_their_own_each():
    mixed = plan(suites={"glue": {"merge": {"different_seeds": True}}})
    measurement, cell = MEASUREMENTS["merge"], Cell(**ARM, seed="1")
    seeds = measurement.build(mixed, cell).seeds
    assert seeds == {"same": (1, 1, 1), "different": (1, 2, 0)}
    count = len(measurement.inputs(mixed, cell)["adapters"])
    # Of each of three tasks the runs of all three seeds, instead of one.
    assert count == 3 * len(measurement.inputs(plan(), cell)["adapters"]) == 9


def test_seeds_are_mixed_in_pairs_and_neighbouring_threes():
    several = plan(suites={"glue": {"adapters": ["lora"], "seeds": [0, 1, 2, 5]}})
    mixed = {path.rpartition("seeds")[2] for path in paths(several, "interpolate")}
    pairs = {"0-1", "0-2", "0-5", "1-2", "1-5", "2-5"}
    assert mixed == {f"{name}.json" for name in (*pairs, "0-1-2", "1-2-5")}


def test_a_study_varies_its_suite_and_is_no_part_of_the_report():
    varied = plan().studied["lr_sweep"]
    assert list(varied) == [
        f"lr_sweep-{lr}" for lr in ("5e-05", "0.0001", "0.0005", "0.001", "0.005")
    ]
    for name, variant in varied.items():
        rate = float(name.removeprefix("lr_sweep-"))
        assert variant.suite.learning_rates == {"lora": (rate,)}
        assert variant.suite.backbone == "glyphs"
    assert "lr_sweep" not in plan().config.suites
    assert plan().suites["schedules"].train.snapshots == (0.15, 0.3, 0.45, 0.6, 0.75, 0.9, 1.0)
    assert paths(plan(), "trajectory", "schedules")


OF_LENGTHS = {
    "lengths": {
        "suite": "images",
        "tasks": ["digits"],
        "adapters": ["lora"],
        "strategies": ["vanilla", "coto"],
        "seeds": [0, 1],
        "learning_rates": [1.0e-3, 2.0e-3],
        "steps": [0.25, 1.0],
    }
}
SHORT = "images-0.25-of-steps"
OF_SUITE = {
    "images": {"seeds": [0, 1], "learning_rates": {"lora": [2.0e-3], "lora-coto": [2.0e-3]}}
}


def test_a_study_trains_nothing_that_its_suite_or_another_study_has():
    studies = {**OF_LENGTHS, "again": {**OF_LENGTHS["lengths"], "steps": [0.25]}}
    both = plan(studies=studies, suites=OF_SUITE)
    suite = set(paths(both, "train", "images"))
    long, short, again = (
        set(paths(both, "train", name))
        for name in ("lengths-0.002", "lengths-0.002-0.25-of-steps", "again-0.002-0.25-of-steps")
    )
    assert long <= suite  # the suite's own rate
    assert not suite & set(paths(both, "train", "lengths-0.001"))
    assert short == again
    assert f"{SHORT}/digits/lora-coto/lr0.002/seed1/train.json" in short
    # The study's measurements read those runs and the rows beside them, and are its own.
    prune = MEASUREMENTS["prune"]
    cell = Cell("lengths-0.002-0.25-of-steps", adapter="lora", strategy="coto", seed="0")
    assert prune.inputs(both, cell)["adapters"] == [
        f"{SHORT}/digits/lora-coto/lr0.002/seed0/adapter"
    ]
    assert prune.inputs(both, cell)["test"] == [f"{SHORT}/digits/data/test.parquet"]
    assert prune.path(cell) == "lengths-0.002-0.25-of-steps/prune/lora-coto/seed0.json"
    # With snapshots a run is another one.
    own = plan(studies={"lengths": {**OF_LENGTHS["lengths"], "steps": None, "snapshots": [0.5]}})
    assert all(path.startswith("lengths-0.002/") for path in paths(own, "train", "lengths-0.002"))


def test_a_run_of_a_study_has_the_settings_of_its_suite_but_for_the_length():
    mixed = plan(studies=OF_LENGTHS, suites={"images": {"subnetworks": {"early_stop": 0.75}}})
    run = {"task": "digits", "adapter": "lora", "strategy": "coto", "lr": "0.001", "seed": "0"}
    whole, part = (settings(mixed, "train", suite=s, **run) for s in ("images", SHORT))
    assert part.train.steps == round(0.25 * whole.train.steps)
    # Of early-stopped CoTo, which only the suite looks at.
    assert (whole.train.snapshots, part.train.snapshots) == ((0.75,), ())
    same = {"steps": whole.train.steps, "snapshots": whole.train.snapshots}
    loading = part.loading.model_copy(update={"train": part.train.model_copy(update=same)})
    assert part.model_copy(update={"suite": "images", "loading": loading}) == whole


@pytest.mark.parametrize(
    ("train", "rows", "expected"),
    [
        ({"steps": 90}, {}, {"steps": 22}),
        ({"steps": None, "epochs": 2.0}, {}, {"epochs": 0.5}),
        ({"steps": None, "steps_per_shot": 10}, {"shots": 3}, {"steps": 8}),
        ({"steps": 90, "per_task": {"digits": {"epochs": 1.0}}}, {}, {"epochs": 0.25}),
    ],
)
def test_every_way_of_saying_how_long_can_be_cut(train, rows, expected):
    mixed = plan(studies=OF_LENGTHS, suites={"images": {"train": train, "rows": rows}})
    cut = mixed.training(SHORT, "digits")
    given = {name: getattr(cut, name) for name in ("steps", "epochs", "steps_per_shot")}
    assert given == dict.fromkeys(given) | expected
