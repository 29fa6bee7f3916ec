"""The table of training time."""

import pandas as pd

from coto.report import quantities
from coto.report.comparison import compare
from coto.report.context import time_saved
from coto.report.display import cell
from coto.report.quantities import ARM, BASELINE, ranked
from coto.report.settings import Settings, Style
from coto.report.statistics import mean_interval
from coto.report.suites import descriptions
from coto.report.table_base import Frames, empty, ordered, table
from coto.report.writing import Table


@table("training_time")
def training_time(frames: Frames, settings: Settings, style: Style) -> Table:
    """Seconds per step of each arm, and the share of the baseline's time that an arm saves."""
    title = "Training time"
    if frames["overhead"].empty:
        return empty(title, "Training time was not measured.")
    times = quantities.step_times(frames["overhead"])
    saved = compare(quantities.time_saved(frames["overhead"]), settings, average=False)
    saved = saved.rename(columns={"mean": "saved", "low": "saved_low", "high": "saved_high"})
    saved = saved[[*ARM, "saved", "saved_low", "saved_high"]]
    lines = []
    for _, arm in times.groupby(ARM):
        interval = mean_interval(arm["value"], settings.confidence)
        first = arm.iloc[0]
        line = {name: first[name] for name in ARM} | {
            "seconds_per_step": interval.mean,
            "seconds_low": interval.low,
            "seconds_high": interval.high,
            "repeats": interval.n,
            "steps": int(arm["steps"].sum()),
            "active_share": arm["active_share"].mean(),
            **{name: first[name] for name in ("batch_size", "threads", "device", "hardware")},
        }
        reported = time_saved(first["adapter"]) if first["strategy"] == "coto" else None
        line["paper_saved"] = reported.value / 100 if reported else float("nan")
        lines.append(line)
    order = ranked("strategy", list(times["strategy"]))
    lines.sort(key=lambda line: order.index(line["strategy"]))
    data = ordered(pd.DataFrame(lines).merge(saved, on=ARM, how="left"))
    several = data["suite"].nunique() > 1
    display = pd.DataFrame(
        ({"suite": line["suite"]} if several else {})
        | {
            "adapter": line["adapter"],
            "strategy": line["strategy"],
            "ms per step": f"{1000 * line['seconds_per_step']:.{style.decimals}f}",
            "time saved": ""
            if line["strategy"] == BASELINE
            else cell(line["saved"], style.decimals, (line["saved_low"], line["saved_high"])),
            "active adapters": cell(line["active_share"], style.decimals),
            "steps timed": str(line["steps"]),
            "hardware": f"{line['hardware']}, {line['threads']} threads, "
            f"batch {line['batch_size']}",
            "paper, LLaMA-2-7B, time saved": cell(line["paper_saved"], 1),
        }
        for _, line in data.iterrows()
    )
    source = time_saved("lora")
    assert source is not None
    notes = (
        "Percent where not said otherwise. Both arms run interleaved in one process; intervals "
        f"({100 * settings.confidence:.0f} %) where the measurement was repeated.",
        "Active adapters: mean share of adapters that the timed steps had switched on.",
        f"Paper: wall-clock time of math fine-tuning on one A6000 ({source.provenance}).",
        *descriptions(list(dict.fromkeys(data["suite"])), settings),
    )
    return Table(title, data, display, notes)
