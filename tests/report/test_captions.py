"""Captions render with a raw config and with a complete one, and are valid reStructuredText."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from docutils.core import publish_doctree
from jinja2 import Environment

from coto.report.figures import FIGURES
from coto.report.tables import TABLES

FOLDER = Path(__file__).parents[2] / "rules" / "captions"
SHORT = {
    "suites": {
        "glue": {
            "tasks": ["movies", "news"],
            "adapters": ["lora"],
            "learning_rates": {"lora": [0.004]},
            "train": {"steps": 123},
        }
    }
}
FULL = {
    "suites": {
        "glue": SHORT["suites"]["glue"]
        | {"strategies": ["vanilla", "coto"], "seeds": [4, 5], "backbone": "minilm"}
        | {"train": {"steps": 123, "batch_size": 16}, "interpolate": {"weights": [0.0, 0.5, 1.0]}}
        | {"prune": {"keep": ["all", "odd"]}, "overhead": {"steps": 40}}
    },
    "strategies": {"coto": {"p0": 0.125, "ramp": 0.75}},
    "report": {"statistics": {"margin": 1.5, "confidence": 0.95}},
}
CAPTIONS = sorted(path.stem for path in FOLDER.glob("*.rst"))


def render(name: str, config: dict) -> str:
    # As Snakemake does it.
    environment = Environment(trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((FOLDER / f"{name}.rst").read_text())
    return template.render(snakemake=SimpleNamespace(config=config))


@pytest.mark.parametrize("name", CAPTIONS)
@pytest.mark.parametrize("config", [SHORT, FULL], ids=["short", "full"])
def test_caption_is_valid(name: str, config: dict) -> None:
    text = render(name, config)
    publish_doctree(text, settings_overrides={"halt_level": 2, "report_level": 5})
    assert "None" not in text


def test_captions_quote_the_live_config() -> None:
    assert "movies, news" in render("table_single_task", FULL)
    assert "seeds 4, 5; 123 optimizer steps of 16" in render("table_single_task", FULL)
    assert "0.0, 0.5, 1.0" in render("table_interpolation", FULL)
    assert "margin 1.5 points" in render("claims", FULL)
    assert "0.125" in render("figure_schedule", FULL)
    assert "rises from 0.125 to 1 over the first 0.75 of" in render("workflow", FULL)


def test_every_table_and_figure_has_a_caption() -> None:
    expected = {f"table_{name}" for name in TABLES} | {f"figure_{name}" for name in FIGURES}
    assert expected | {"claims", "workflow"} <= set(CAPTIONS)
