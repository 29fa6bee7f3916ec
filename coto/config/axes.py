"""What jobs need of the plan: canonical settings, and the records of a suite's axes."""

import json
from collections.abc import Mapping, Sequence
from itertools import combinations, product
from typing import Any

from coto.config import paths

# Stages whose records the report reads.
STAGES = (
    *("baseline", "train", "gradients", "select"),
    *("interpolate", "merge", "prune"),
    *("subnetworks", "geometry", "trajectory", "overhead"),
)


def record_paths(axes: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Paths of all records by stage, from the axes of suites (:meth:`Plan.axes`).

    The report's jobs call this instead of being told thousands of paths, which would not fit on a
    command line.
    """
    found: dict[str, list[str]] = {stage: [] for stage in STAGES}
    for suite in axes:
        name, seeds, wanted = suite["suite"], suite["seeds"], suite["stages"]
        if "baseline" in wanted:
            found["baseline"].append(paths.baseline_record(name))
        for adapter in suite["adapters"]:
            for strategy in suite["strategies"]:
                grid = suite["grids"][f"{adapter}-{strategy}"]
                for task in suite["tasks"]:
                    at = (name, task, adapter, strategy)
                    runs = [paths.run(*at, lr, seed) for lr, seed in product(grid, seeds)]
                    found["train"] += map(paths.train_record, runs)
                    found["gradients"] += map(paths.gradients_record, runs)
                    if len(grid) > 1:
                        found["select"].append(paths.select_record(*at))
                arm = (name, adapter, strategy)
                if "prune" in wanted:
                    found["prune"] += [paths.prune_record(*arm, seed) for seed in seeds]
                if "interpolate" in wanted:
                    # Neighbours make the three-way mixes: all triples would soon be too many.
                    mixes = [
                        *combinations(seeds, 2),
                        *zip(seeds[:-2], seeds[1:-1], seeds[2:], strict=True),
                    ]
                    found["interpolate"] += [
                        paths.interpolate_record(*arm, "-".join(map(str, mixed))) for mixed in mixes
                    ]
                if "subnetworks" in wanted:
                    found["subnetworks"] += [
                        paths.subnetworks_record(*arm, seed) for seed in suite["subnetwork_seeds"]
                    ]
                if "trajectory" in wanted:
                    found["trajectory"].append(paths.trajectory_record(*arm))
                if "merge" in wanted and len(suite["tasks"]) > 1:
                    found["merge"] += [paths.merge_record(*arm, seed) for seed in seeds]
            if "geometry" in wanted:
                found["geometry"].append(paths.geometry_record(name, adapter))
            if "overhead" in wanted:
                found["overhead"].append(paths.overhead_record(name, adapter))
    return found


def canonical(settings: Any) -> str:
    """JSON with sorted keys, no spaces and one spelling per number."""
    return json.dumps(settings, sort_keys=True, separators=(",", ":"), allow_nan=False)
