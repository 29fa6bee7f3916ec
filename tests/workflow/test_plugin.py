"""One thing of each kind, added from outside the package, runs through the workflow."""

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.workflow.conftest import Checkout

PLUGIN = Path(__file__).with_name("plugin.py")
CONFIG = {
    "plugins": ["plugin.py"],
    "results": "results/plugin",
    "suites": {
        "glue": {
            "tasks": ["parity", "movies"],
            "adapters": ["loha"],
            "strategies": ["vanilla", "coin"],
            "seeds": [0],
            "learning_rates": {"loha": [4.0e-3]},
            "train": {"steps": 2},
            "merge": {"operators": ["first", "ensemble"]},
            "prune": {
                "keep": ["all", "odd"],
                "unstructured": {"methods": ["sign-delta"], "sparsities": [0.0, 0.5]},
            },
            "subnetworks": None,
            "geometry": None,
            "overhead": None,
        },
        "glue-frozen": None,
        "images": None,
        "commonsense": None,
    },
    "studies": {"strategies": None, "schedules": None, "lr_sweep": None, "dependence": None},
}
FILES = ("tables/norms.csv", "figures/norms.svg", "claims.json")


@pytest.fixture(scope="module")
def extended(checkout: Checkout) -> Checkout:
    """The checkout with a plugin beside it, run as far as these tests look."""
    (checkout.root / "plugin.py").write_text(PLUGIN.read_text())
    (checkout.root / "plugin.yaml").write_text(yaml.safe_dump(CONFIG))
    targets = [f"results/plugin/{name}" for name in FILES]
    files = ("--configfile", "configs/smoke.yaml", "plugin.yaml")
    done = checkout.run(*targets, *files, module="coto.reproduce")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return checkout


def rows_of(checkout: Checkout, name: str) -> pd.DataFrame:
    paths = sorted((checkout.root / "results/plugin/glue").glob(name))
    return pd.DataFrame([row for path in paths for row in json.loads(path.read_text())["rows"]])


def test_every_kind_of_thing_was_used(extended: Checkout):
    trained = rows_of(extended, "*/*/*/seed0/train.json")
    assert set(trained["task"]) == {"parity", "movies"}
    assert set(trained["adapter"]) == {"loha"}
    assert set(trained["strategy"]) == {"vanilla", "coin"}
    assert set(rows_of(extended, "merge/*/*.json")["operator"]) == {"first", "ensemble"}
    assert "sign-delta" in set(rows_of(extended, "prune/*/*.json")["method"])
    assert (rows_of(extended, "norms/*/*.json")["value"] > 0).all()


def test_the_report_has_the_table_the_figure_and_the_claim(extended: Checkout):
    results = extended.root / "results/plugin"
    assert len(pd.read_csv(results / "tables/norms.csv")) == 4
    assert (results / "figures/norms.svg").stat().st_size > 1000
    claims = json.loads((results / "claims.json").read_text())
    assert "smaller-norms" in json.dumps(claims)


def test_an_edit_of_the_plugin_reruns_what_uses_it(extended: Checkout):
    file = extended.root / "plugin.py"
    text = file.read_text()
    old = 'rows = frames["norms"]\n    return Table'
    assert old in text
    file.write_text(text.replace(old, old.replace("rows =", "rows = 1 *")))
    try:
        planned = extended.planned("plugin.yaml")
    finally:
        file.write_text(text)
    ran = {job for job in planned if job.rule == "table" and job.table == "norms"}
    assert ran
    assert not any(job.rule in ("train", "norms", "prune") for job in planned)
