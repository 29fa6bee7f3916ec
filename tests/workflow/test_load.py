"""Every bad input gives one line with key, value and expectation, before any job runs."""

import copy
import json
from pathlib import Path

import pytest
import yaml

from coto.workflow.load import ConfigError, load, overlay, validate

ROOT = Path(__file__).resolve().parents[2]
# Through JSON: what YAML anchors name twice is two things to edit.
DEFAULT = json.loads(json.dumps(yaml.safe_load((ROOT / "config.yaml").read_text())))


def edited(path: str, value: object) -> dict:
    raw = copy.deepcopy(DEFAULT)
    raw["suites"]["images"]["train"] = {"steps_per_shot": 10}
    *parents, last = path.split("/")
    node = raw
    for key in parents:
        node = node.setdefault(key, {}) if isinstance(node, dict) else node[int(key)]
    node[last] = value
    return raw


@pytest.mark.parametrize(
    "name", ["config.yaml", *sorted(p.name for p in (ROOT / "configs").glob("*.yaml"))]
)
def test_every_shipped_config_is_valid(name):
    files = [ROOT / "config.yaml"]
    if name != "config.yaml":
        files.append(ROOT / "configs" / name)
    assert load(*files).config.suites


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("resutls", "x", ["resutls: unknown key", "did you mean 'results'"]),
        ("data/mirorr", "x", ["data.mirorr: unknown key", "'mirror'"]),
        ("suites/glue/sedes", [0], ["suites.glue.sedes: unknown key", "'seeds'"]),
        ("suites/glue/train/step", 5, ["suites.glue.train.step: unknown key", "'steps'"]),
        ("adapters/lora/rnk", 4, ["adapters.lora.rnk: unknown key", "'rank'"]),
        ("strategies/coto/p_0", 0.1, ["strategies.coto.p_0: unknown key", "'p0'"]),
        (
            "suites/glue/learning_rates/lora",
            ["1e-4"],
            ["suites.glue.learning_rates.lora[0]", '"1e-4"', "number", "0.0001", "1.0e-4"],
        ),
        ("suites/glue/seeds", [0, -3], ["suites.glue.seeds[1] = -3", "greater than or equal to 0"]),
        ("suites/glue/seeds", [0, 0], ["suites.glue.seeds = [0, 0]", "no value twice"]),
        ("suites/glue/seeds", [0.5], ["suites.glue.seeds[0] = 0.5", "integer"]),
        ("strategies/coto/p0", 1.5, ["strategies.coto.p0 = 1.5", "less than or equal to 1"]),
        ("strategies/coto", {"p0": 0.9, "p1": 0.5}, ["strategies.coto.p0 = 0.9", "p1 = 0.5"]),
        ("suites/glue/tasks", ["moveis"], ["suites.glue.tasks[0] = 'moveis'", "'movies'"]),
        ("suites/glue/adapters", ["lorra"], ["suites.glue.adapters[0] = 'lorra'", "'lora'"]),
        ("suites/glue/strategies", ["cotto"], ["suites.glue.strategies[0] = 'cotto'", "'coto'"]),
        ("suites/glue/backbone", "minilmm", ["suites.glue.backbone = 'minilmm'", "'minilm'"]),
        (
            "data/mirror",
            "/nowhere/at/all",
            ["data.mirror = '/nowhere/at/all'", "existing directory"],
        ),
        ("adapters/lora/rank", 385, ["adapters.lora.rank = 385", "at most 384"]),
        ("adapters/lora/rank", 0, ["adapters.lora.rank = 0", "greater than 0"]),
        ("adapters/lora/kind", "lohra", ["adapters.lora.kind", '"lohra"', "'lora'"]),
        ("suites/glue/train/epochs", 2, ["steps = ", "epochs = 2", "exactly one"]),
        ("suites/images/learning_rates", {"hira": [0.1]}, ["learning_rates.lora: missing"]),
        ("suites/glue/learning_rates/lora-cotto", [0.1], ["lora-cotto", "'lora-coto'"]),
        ("suites/glue/merge/weights", {"movies": 1.0}, ["merge.weights", "one weight for each"]),
        ("suites/glue/prune/keep", ["everyother"], ["suites.glue.prune.keep[0]", '"everyother"']),
        ("backbones/minilm/hub", "a/b", ["backbones.minilm = package, hub", "exactly one"]),
        ("suites/tables", DEFAULT["suites"]["glue"], ["suites.tables", "other than"]),
        ("suites/glue/train", {}, ["suites.glue.train", "exactly one"]),
        ("device", "gpu", ["device", '"gpu"', "'cuda'"]),
        ("suites/images/tasks", ["movies"], ["images.tasks[0] = 'movies'", "of text", "of image"]),
        (
            "adapters/lora/targets",
            ["query", "gate"],
            ["adapters.lora.targets: 'gate' has no name in backbone 'minilm'", "projections"],
        ),
        ("suites/glue/head", "prototypes", ["suites.glue.head = 'prototypes'", "family 'encoder'"]),
        ("suites/commonsense/head", "frozen", ["commonsense.head = 'frozen'", "expected linear"]),
        ("suites/images/backbone", "clip-b16", ["images.head = 'prototypes'", "family 'clip'"]),
        ("suites/images/head", "prototype", ["suites.images.head", '"prototype"', "'prototypes'"]),
        ("suites/images/logit_scale", 0, ["suites.images.logit_scale = 0", "greater than 0"]),
        ("suites/images/rows/shots", 0, ["suites.images.rows.shots = 0", "greater than 0"]),
        (
            "suites/images/rows",
            {"shots": None},
            ["suites.images.rows.shots = null", "train.steps_per_shot"],
        ),
        ("suites/glue/train/accumulation", 3, ["train.accumulation = 3", "divisor of"]),
        (
            "suites/glue/adapter_settings",
            {"lora": {"kind": "lora", "rank": 999}},
            ["suites.glue.adapter_settings.lora.rank = 999", "at most 384"],
        ),
        ("suites/glue/adapter_settings", {"lorra": {"kind": "lora"}}, ["lorra", "'lora'"]),
        ("studies/strategies/suite", "imagse", ["studies.strategies.suite", "'images'"]),
        ("studies/strategies/strategies", ["cotto"], ["studies.strategies.strategies[0]", "coto"]),
        ("studies/glue", {"suite": "images"}, ["studies.glue: expected a name"]),
        ("studies/schedules/snapshots", [0.0], ["schedules.snapshots[0] = 0.0", "greater than 0"]),
        ("studies/dependence/steps", [0.5, 0.5], ["dependence.steps = [0.5, 0.5]", "twice"]),
        ("studies/dependence/steps", [1.5], ["dependence.steps[0] = 1.5", "less than or equal"]),
        ("studies/dependence/steps", [0.001], ["dependence.steps = [0.001]", "a step or more"]),
        ("studies/dependence/learning_rates", [0.1, 0.1], ["dependence.learning_rates", "twice"]),
        ("studies/dependence/strategies", ["coto"], ["dependence.strategies", "vanilla and coto"]),
        ("studies/dependence/snapshots", [0.5], ["dependence.snapshots = [0.5]", "beside steps"]),
        ("suites/commonsense/evaluation/protocols", ["rank"], ["protocols[0]", '"rank"']),
        (
            "suites/glue/merging",
            {"settings": {"ties": {"kepe": 0.5}}},
            ["suites.glue.merging.settings.ties: ties: setting 'kepe'", "'keep'"],
        ),
        (
            "suites/glue/merging",
            {"settings": {"lora-lego": {"k": 2.5}}},
            ["merging.settings.lora-lego", "k = 2.5", "a whole number or null"],
        ),
        ("suites/glue/merging", {"settings": {"tise": {}}}, ["merging.settings.tise", "'ties'"]),
        (
            "suites/glue/prune",
            {"unstructured": {"sparsities": [0.5, 0.1]}},
            ["suites.glue.prune.unstructured.sparsities = [0.5, 0.1]", "ascending"],
        ),
        ("suites/glue/subnetworks", {"seeds": [7]}, ["glue.subnetworks.seeds[0] = 7", "0, 1"]),
        ("suites/glue/subnetworks", {"pairs": 1}, ["subnetworks.pairs = 1", "greater than or"]),
        ("suites/glue/geometry", {"tasks": ["new"]}, ["geometry.tasks[0] = 'new'", "'news'"]),
        ("suites/merge", DEFAULT["suites"]["glue"], ["suites.merge", "other than"]),
        ("suites/table_x", DEFAULT["suites"]["glue"], ["suites.table_x", "table_ or figure_"]),
        ("suites/glue/head", "prototypes", ["suites.glue.head = 'prototypes'", "linear or frozen"]),
        ("suites/commonsense/head", "frozen", ["suites.commonsense.head = 'frozen'", "linear"]),
        (
            "suites/glue/train/too_long",
            "drop",
            ['suites.glue.train.too_long = "drop"', "leave_out"],
        ),
        (
            "suites/images/train",
            {"steps": 4, "too_long": "leave_out"},
            ["suites.images.train.too_long = 'leave_out'", "expected cut"],
        ),
        (
            "suites/commonsense/train/layout",
            "packed",
            ["suites.commonsense.train.layout = 'packed'", "'shuffled'"],
        ),
        ("backbones", {"glyphs": {"blocks": 2}}, ["backbones.glyphs.blocks = 2", "'vit'"]),
        ("backbones", {"minilm": {"blocks": 0}}, ["backbones.minilm.blocks = 0", "greater than"]),
        (
            "suites/commonsense/tasks",
            ["commonsense", "commonsense-18k"],
            ["suites.commonsense.tasks", "scored by one task only"],
        ),
    ],
)
def test_bad_input_is_one_clear_line(path, value, words):
    with pytest.raises(ConfigError) as caught:
        validate(edited(path, value))
    lines = str(caught.value).splitlines()
    matching = [line for line in lines if all(word in line for word in words)]
    assert len(matching) == 1, lines


def test_a_suites_problem_is_not_told_again_by_its_studies():
    with pytest.raises(ConfigError) as caught:
        validate(overlay(DEFAULT, {"suites": {"images": {"tasks": ["movies"]}}}))
    assert len(str(caught.value).splitlines()) == 1


def test_a_task_that_the_mirror_lacks_is_told_before_any_job(tmp_path):
    raw = overlay(DEFAULT, {"data": {"mirror": str(tmp_path)}})
    raw["suites"]["glue"]["tasks"] = ["cola"]
    with pytest.raises(ConfigError, match="cola"):
        validate(raw)


def test_broken_yaml_and_missing_files_are_told(tmp_path):
    (tmp_path / "broken.yaml").write_text("suites: [")
    with pytest.raises(ConfigError, match=r"broken\.yaml"):
        load(tmp_path / "broken.yaml")
    with pytest.raises(ConfigError, match=r"absent\.yaml.*No such file"):
        load(tmp_path / "absent.yaml")


def test_null_takes_out_a_suite_and_a_study():
    found = validate(
        overlay(DEFAULT, {"suites": {"glue": None}, "studies": {"schedules": None}})
    ).config
    assert "glue" not in found.suites
    assert "schedules" not in found.studies
    with pytest.raises(ConfigError, match=r"suites = \{\}: expected"):
        validate(overlay(DEFAULT, {"suites": dict.fromkeys(DEFAULT["suites"]), "studies": None}))


def test_overlay_merges_mappings_and_replaces_lists():
    assert overlay({"a": {"b": 1, "c": [1, 2]}}, {"a": {"c": [3]}}) == {"a": {"b": 1, "c": [3]}}
