"""Families of backbones: which tasks they do, which module puts them on the bench, their names.

Light, and a table of entries: a job's settings hold what it uses of it.
"""

from dataclasses import dataclass

from coto.tasks.task import Kind


@dataclass(frozen=True)
class Family:
    """One family.

    Attributes:
        kind: the tasks that its models can do.
        bench: module and class of its :class:`coto.workbench.base.Workbench`.
        projections: what its models call the projections of a block, where they all agree.
    """

    kind: Kind
    bench: tuple[str, str]
    projections: tuple[tuple[str, str], ...]


FAMILIES: dict[str, Family] = {
    "encoder": Family(
        "text",
        ("coto.workbench.encoder", "EncoderBench"),
        (("query", "query"), ("key", "key"), ("value", "value")),
    ),
    "causal": Family(
        "language",
        ("coto.workbench.causal", "CausalBench"),
        (
            ("query", "q_proj"),
            ("key", "k_proj"),
            ("value", "v_proj"),
            ("output", "o_proj"),
            ("gate", "gate_proj"),
            ("up", "up_proj"),
            ("down", "down_proj"),
        ),
    ),
    "vit": Family(
        "image",
        ("coto.workbench.image", "ImageBench"),
        (
            ("query", "q"),
            ("key", "k"),
            ("value", "v"),
            ("output", "attn.proj"),
            ("up", "fc1"),
            ("down", "fc2"),
        ),
    ),
    "clip": Family(
        "image",
        ("coto.workbench.image", "ImageBench"),
        (
            ("query", "q_proj"),
            ("key", "k_proj"),
            ("value", "v_proj"),
            ("output", "out_proj"),
            ("up", "fc1"),
            ("down", "fc2"),
        ),
    ),
}
