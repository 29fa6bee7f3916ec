"""What a configuration asks for: suites, studies, arms, runs, and what jobs have in common.

A job's settings are one canonical JSON string of exactly what it reads. Snakemake compares the
parameters of a job as an unordered set of values, so several named parameters would hide a swap of
two values and a reordered mapping would cause a rerun; one sorted string does neither. Lists that
only fan out, such as the seeds, stay out of the settings of single runs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from coto.adapters.kinds import Adapter
from coto.config import paths
from coto.config.models import Config, Facts, Suite
from coto.models.settings import (
    FAMILIES,
    LENGTHS,
    Loading,
    NamedBackbone,
    TaskEvaluation,
    TaskTraining,
    Training,
)


@dataclass(frozen=True)
class Variant:
    """One of the suites that a study is made of.

    Attributes:
        suite: the suite.
        home: name of the suite in whose folder its runs, and their rows, lie.
        share: of the steps of the suite that is varied; None where the study does not vary it.
        shorter: the suite called `home` where it is none of the configuration: it has the runs of a
            length and no more.
    """

    suite: Suite
    home: str
    share: float | None = None
    shorter: Suite | None = None


@dataclass(frozen=True)
class Plan:
    """Everything that there is to do.

    Attributes:
        config: the configuration.
        studied: the suites that the studies are made of, by study and name.
    """

    config: Config
    studied: Mapping[str, Mapping[str, Variant]] = field(default_factory=dict)

    @cached_property
    def variants(self) -> dict[str, Variant]:
        """The suites that all studies are made of, by name."""
        return {name: variant for of in self.studied.values() for name, variant in of.items()}

    @cached_property
    def suites(self) -> dict[str, Suite]:
        """All suites, those that the studies are made of among them."""
        found = dict(self.config.suites)
        for name, variant in self.variants.items():
            found[name] = variant.suite
            if variant.shorter is not None:
                found[variant.home] = variant.shorter
        return found

    def home(self, suite: str) -> str:
        """The suite in whose folder a suite's runs lie: itself, unless it is of a study."""
        return self.variants[suite].home if suite in self.variants else suite

    def adapter(self, suite: str, name: str) -> Adapter:
        """An adapter as a suite uses it."""
        return self.suites[suite].adapter_settings.get(name) or self.config.adapters[name]

    def grid(self, suite: str, adapter: str, strategy: str) -> tuple[str, ...]:
        """Learning rates of an arm, as they stand in paths."""
        grids = self.suites[suite].learning_rates
        values = grids.get(f"{adapter}-{strategy}") or grids[adapter]
        return tuple(paths.number(value) for value in values)

    def selection_seeds(self, suite: str) -> tuple[int, ...]:
        """Seeds whose validation scores choose the learning rate."""
        cfg = self.suites[suite]
        return cfg.seeds if cfg.selection_seeds is None else cfg.selection_seeds

    def training(self, suite: str, task: str) -> Training:
        """Training settings with the task's overrides applied."""
        train = self.suites[suite].train
        over = train.per_task.get(task, TaskTraining()).model_dump(exclude_none=True)
        if over.keys() & set(LENGTHS):
            over = dict.fromkeys(LENGTHS) | over
        return train.model_copy(update={"per_task": {}, **over})

    def backbone(self, suite: str) -> NamedBackbone:
        """A suite's backbone as jobs read it."""
        name = self.suites[suite].backbone
        backbone = self.config.backbones[name]
        return NamedBackbone(
            **{**backbone.model_dump(), "name": name, "projections": backbone.names}
        )

    def family(self, suite: str) -> str:
        """Family of a suite's backbone."""
        return self.config.backbones[self.suites[suite].backbone].family

    def loading(self, suite: str, *tasks: str, standard: bool = False) -> Loading:
        """What the model of a suite is loaded with, and these tasks are scored with.

        With `standard`, lm-eval's own tasks that the suite names are scored as well.
        """
        cfg, evaluation = self.suites[suite], self.suites[suite].evaluation
        asked = evaluation.standard if standard else ()
        lengths = {task: self.training(suite, task).max_length for task in tasks}
        changes = {"standard": asked, "max_lengths": lengths}
        return Loading(
            backbone=self.backbone(suite),
            evaluation=TaskEvaluation(**{**evaluation.model_dump(), **changes}),
            device=self.config.device,
            precision=self.config.precision,
            head=cfg.head,
            logit_scale=cfg.logit_scale if cfg.head == "prototypes" else None,
            mirror=self.config.data.mirror if asked else None,
        )

    def facts(self, suite: str) -> Facts:
        """What a reader of a suite's tables must know."""
        cfg, family = self.suites[suite], self.family(suite)
        causal = family == "causal"
        return Facts(
            backbone=cfg.backbone,
            kind=FAMILIES[family].kind,
            head=None if cfg.head == "linear" else cfg.head,
            shots=cfg.rows.shots,
            test_rows=cfg.rows.test,
            subnetwork_rows=getattr(getattr(cfg, "subnetworks", None), "rows", None),
            loss_on=cfg.train.loss_on if causal else None,
            protocol=cfg.evaluation.protocols[0] if causal else None,
        )
