"""The suites that a study is made of, and what is wrong with a study."""

from collections.abc import Iterator

from coto.config import paths
from coto.config.models import ARMS, Config, Study, Suite
from coto.config.plan import Plan, Variant
from coto.measurements import MEASUREMENTS
from coto.models.settings import TaskTraining, Training

_AXES = ("tasks", "adapters", "strategies", "seeds")


def plan_of(config: Config) -> Plan:
    """The plan of a sound configuration."""
    return Plan(config, {name: variants(config, name) for name in config.studies})


def variants(config: Config, name: str) -> dict[str, Variant]:
    """The suites that a study is made of: one for each learning rate and length that it tries.

    Runs lie where a suite of the configuration has the same ones, and those of one length where
    other studies of that suite have theirs. Only with snapshots they are a study's own.
    """
    study = config.studies[name]
    base = config.suites[study.suite]
    changes = {axis: given for axis in _AXES if (given := getattr(study, axis)) is not None}
    varied = _measured(base, study).model_copy(update=changes)
    found = {}
    for rate in study.learning_rates or (None,):
        for share in study.steps or (1.0,):
            suite, place = varied, name
            if rate is not None:
                place += f"-{paths.number(rate)}"
                rates = dict.fromkeys(suite.adapters, (rate,))
                suite = suite.model_copy(update={"learning_rates": rates})
            if share < 1:
                place += _ending(share)
                suite = suite.model_copy(update={"train": shortened(suite, share)})
            home, shorter = study.suite, None
            if study.snapshots:
                home = place
            elif share < 1:
                home += _ending(share)
                # Of any study, so that all agree: what all runs of this length have in common.
                shorter = _measured(base, Study(suite=study.suite))
                shorter = shorter.model_copy(update={"train": shortened(shorter, share)})
            found[place] = Variant(suite, home, share if study.steps else None, shorter)
    return found


def _ending(share: float) -> str:
    """How names of folders with shorter runs end; no suite of a configuration has a dot."""
    return f"-{paths.number(share)}-of-steps"


def _measured(base: Suite, study: Study) -> Suite:
    """A suite with a study's snapshots and the measurements that studies have."""
    changes: dict[str, object] = {
        "train": base.train.model_copy(update={"snapshots": study.snapshots})
    }
    for measurement in MEASUREMENTS.values():
        if measurement.section is not None:
            section = base.section(measurement.section)
            changes[measurement.name] = section and measurement.in_study(section)
    return base.model_copy(update=changes)


def shortened(suite: Suite, share: float) -> Training:
    """A suite's training with a share of its steps, and of those of its tasks.

    The learning rate and the strategy's schedule fall and rise over the steps that there are.
    """
    train, shots = suite.train, suite.rows.shots
    tasks = {task: _shorter(over, share, shots) for task, over in train.per_task.items()}
    whole = TaskTraining(
        steps=train.steps, epochs=train.epochs, steps_per_shot=train.steps_per_shot
    )
    lengths = _shorter(whole, share, shots).model_dump(exclude={"max_length"})
    return train.model_copy(update={**lengths, "per_task": tasks})


def _shorter(over: TaskTraining, share: float, shots: int | None) -> TaskTraining:
    steps = over.steps
    if over.steps_per_shot is not None:
        steps = over.steps_per_shot * (shots or 1)
    return over.model_copy(
        update={
            "steps": None if steps is None else round(share * steps),
            "epochs": None if over.epochs is None else share * over.epochs,
            "steps_per_shot": None,
        }
    )


def problems(at: str, study: Study, base: Suite) -> Iterator[str]:
    """What single fields of a study cannot see; its suite is sound."""
    for axis in ("learning_rates", "steps"):
        values = list(getattr(study, axis) or ())
        if len({paths.number(value) for value in values}) < len(values):
            yield f"{at}.{axis} = {values}: expected no value twice"
    if study.steps is None:
        return
    if study.snapshots:
        yield (
            f"{at}.snapshots = {list(study.snapshots)}: expected none beside steps: a run of half "
            "the steps is no run that is half done"
        )
    strategies = base.strategies if study.strategies is None else study.strategies
    if not set(ARMS) <= set(strategies):
        yield (
            f"{at}.strategies = {list(strategies)}: expected {' and '.join(ARMS)} among them: "
            "with steps, the study is of the effect of CoTo"
        )
    for share in study.steps:
        train = shortened(base, share)
        if 0 in (train.steps, *(over.steps for over in train.per_task.values())):
            yield f"{at}.steps = {list(study.steps)}: expected a step or more, {share:g} has none"
