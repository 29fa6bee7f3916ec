"""What the report makes, and which of it is which table or figure of the paper."""

# Outputs of the report, declared by its rules.
TABLES = (
    *("single_task", "interpolation", "multitask_merging", "seed_merging", "alignment"),
    *("pruning", "unstructured_pruning"),
    *("shapley", "dropout_stability", "theorem", "gradients", "geometry"),
    *("training_time", "learning_rate"),
)
FIGURES = (
    *("masks", "schedule", "interpolation", "merging", "alignment"),
    *("pruning", "unstructured_pruning"),
    *("shapley", "dropout_stability", "theorem", "gradients", "geometry", "embedding"),
    "training_time",
)
# The authors' rebuttal, table by table and figure by figure: what we make of each.
REBUTTAL_TABLES = {"table_r1": "multitask_merging"}
REBUTTAL_FIGURES = {
    "figure_r4": "geometry",
    "figure_r5": "shapley",
    "figure_r7": "pruning",
    "figure_r8": "alignment",
    "figure_r9": "embedding",
}
# Those that need runs of their own are studies; a config names them so.
REBUTTAL_STUDIES = {
    "table_r3": "strategies",
    "figure_r1": "schedules",
    "figure_r2": "strategies",
    "figure_r3": "strategies",
    "figure_r6": "lr_sweep",
}
