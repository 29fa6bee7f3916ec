"""Captions are valid reStructuredText that quotes the run's own configuration."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from docutils.core import publish_doctree
from jinja2 import Environment

from coto.findings import FIGURES, TABLES, Finding
from coto.measurements import columns
from coto.workflow.load import validate
from coto.workflow.rules import Rules

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "rules" / "captions"
ASK = Rules(validate(yaml.safe_load((ROOT / "config.yaml").read_text())))
# As the Snakefile leaves it.
CONFIG = {**ASK.plan.config.model_dump(), "captions": ASK.captions()}


def render(template: str, config: dict | None = None, **wildcards: str) -> str:
    # As Snakemake does it.
    environment = Environment(trim_blocks=True, lstrip_blocks=True)
    job = SimpleNamespace(config=config or CONFIG, wildcards=SimpleNamespace(**wildcards))
    text = environment.from_string((FOLDER / f"{template}.rst").read_text()).render(snakemake=job)
    publish_doctree(text, settings_overrides={"halt_level": 2, "report_level": 5})
    assert "None" not in text
    return text


@pytest.mark.parametrize(
    "finding", [*TABLES.values(), *FIGURES.values()], ids=lambda finding: finding.code
)
def test_every_table_and_figure_has_a_caption_and_names_its_records(finding: Finding) -> None:
    kind = "table" if finding in TABLES.values() else "figure"
    text = render("finding", **{kind: finding.name})
    assert finding.caption.partition("\n")[0] in text
    assert "Suite *glue*: adapters lora; strategies vanilla, coto; tasks movies" in text
    assert set(finding.needs) <= {"claims", *columns()}


def test_the_caption_of_a_study_says_what_it_varies() -> None:
    text = render("finding", study="lr_sweep")
    assert "Study *lr_sweep* varies suite *images*; adapters lora; learning rates 5e-05" in text


def test_captions_quote_the_live_config() -> None:
    statistics = {"confidence": 0.95, "margin": 1.5}
    assert "margin 1.5 points" in render("claims", {"report": {"statistics": statistics}})
    assert "rises from 0.1 to 1.0 over the first 0.75 of" in render("workflow")
