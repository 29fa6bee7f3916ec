"""The figures, found by name.

To add one, write a drawer in a ``figure_*`` module and decorate it with its name.
"""

# Importing a module registers its figures.
from coto.report import (
    figure_alignment,
    figure_embedding,
    figure_geometry,
    figure_gradients,
    figure_interpolation,
    figure_merging,
    figure_method,
    figure_pruning,
    figure_shapley,
    figure_subnetworks,
    figure_time,
)
from coto.report.drawing import FIGURES

__all__ = [
    "FIGURES",
    "figure_alignment",
    "figure_embedding",
    "figure_geometry",
    "figure_gradients",
    "figure_interpolation",
    "figure_merging",
    "figure_method",
    "figure_pruning",
    "figure_shapley",
    "figure_subnetworks",
    "figure_time",
]
