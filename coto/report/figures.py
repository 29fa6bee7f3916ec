"""The figures, found by name.

To add one, write a drawer in a ``figure_*`` module and decorate it with its name.
"""

# Importing a module registers its figures.
from coto.report import figure_method, figure_operators, figure_time
from coto.report.drawing import FIGURES

__all__ = ["FIGURES", "figure_method", "figure_operators", "figure_time"]
