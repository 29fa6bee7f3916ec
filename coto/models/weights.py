"""A model whose weights are others for a while, or others again and again.

In a :func:`sweep` every block's output is kept per forward call, so that a scoring begins, in
effect, at the lowest block that has changed since the one before it. With states of blocks in
lexicographic order this walks a trie whose nodes are states of the first few.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import ExitStack, contextmanager
from typing import Any

import pandas as pd
from torch import Tensor, nn

from coto.adapters.delta import Deltas, place_of
from coto.errors import CotoError
from coto.models.base import Scores, TaskModel
from coto.tasks.task import Task

KEPT_BYTES = 2 * 2**30
"""Outputs that are kept; calls that do not fit are computed every time."""
Mask = frozenset[str]
"""The modules that are on: their weights are W₀ + ΔW, those of the others W₀."""


def base_weights(model: nn.Module, modules: Sequence[str]) -> dict[str, Tensor]:
    """Base weights W₀ by module name, fp32 on the CPU."""
    return {m: _parameter(model, f"{m}.weight").detach().float().cpu() for m in modules}


@contextmanager
def changed(model: nn.Module, deltas: Deltas, heads: Mapping[str, Tensor]) -> Iterator[nn.Module]:
    """The model with W₀ + ΔW and other heads; W₀ is back, bit for bit, afterwards.

    A head may have another shape than the model's: tasks differ in their number of classes. Raises
    CotoError if the model has no such parameter.
    """
    changes: dict[nn.Parameter, Tensor] = {}
    for name, delta in deltas.items():
        weight = _parameter(model, f"{name}.weight")
        changes[weight] = _added(weight, delta)
    for name, tensor in heads.items():
        head = _parameter(model, name)
        changes[head] = tensor.to(head.device, head.dtype)
    originals = {parameter: parameter.data for parameter in changes}
    try:
        for parameter, value in changes.items():
            parameter.data = value
        yield model
    finally:
        for parameter, value in originals.items():
            parameter.data = value


@contextmanager
def switchable(model: nn.Module, deltas: Deltas) -> Iterator[Callable[[Set[str]], None]]:
    """A function that puts W₀ + ΔW into the modules it is given, and W₀ into the others.

    Both weights of a module are parameters that stay, where :func:`changed` gives one parameter
    other data: autocast would go on with what it has cast of that parameter before. Afterwards the
    model has its own parameters again. Raises CotoError if the model has no such module.
    """
    off = {name: _parameter(model, f"{name}.weight") for name in deltas}
    added = {name: _added(off[name], delta) for name, delta in deltas.items()}
    on = {name: nn.Parameter(value, off[name].requires_grad) for name, value in added.items()}
    modules = {name: model.get_submodule(name) for name in deltas}

    def switch(chosen: Set[str]) -> None:
        for name, module in modules.items():
            module._parameters["weight"] = on[name] if name in chosen else off[name]

    try:
        yield switch
    finally:
        switch(frozenset())


def _added(weight: nn.Parameter, delta: Tensor) -> Tensor:
    """W₀ + ΔW, added in fp32: half precision would round a weight and a small change twice."""
    return (weight.detach().float() + delta.to(weight.device)).to(weight.dtype)


def _parameter(model: nn.Module, name: str) -> nn.Parameter:
    try:
        return model.get_parameter(name)
    except AttributeError:
        expected = "expected the backbone that the adapter was trained on"
        raise CotoError(f"adapter: the backbone has no parameter {name!r}: {expected}") from None


class Replay:
    """Outputs of blocks by stack, place of the block, and number of the call in a scoring.

    Calls are distinguished by their number alone: every scoring must make the same ones in the
    same order, no block may write to a KV cache, and no stack may feed another one. `limit` is in
    bytes of outputs. ``computed`` has the bytes that the blocks of each stack have put out, kept or
    not, replays left out: what the stack costs.
    """

    def __init__(self, limit: int = KEPT_BYTES) -> None:
        self.computed: Counter[str] = Counter()
        self._room = limit
        self._calls: Counter[tuple[str, int]] = Counter()
        self._outputs: dict[tuple[str, int], dict[int, Any]] = {}

    def begin(self, changed: Mapping[str, int]) -> None:
        """Begin a scoring; `changed` has the lowest block with new weights, by stack with any."""
        self._calls.clear()
        for (stack, place), outputs in self._outputs.items():
            if place >= changed.get(stack, place + 1):
                self._room += sum(map(_bytes, outputs.values()))
                outputs.clear()

    def wrap(self, stack: str, place: int, forward: Callable[..., Any]) -> Callable[..., Any]:
        """A block's ``forward`` that is replayed where it can be."""
        at = stack, place
        outputs = self._outputs.setdefault(at, {})

        def replayed(*args: Any, **kwargs: Any) -> Any:
            if kwargs.get("past_key_values") is not None:
                raise CotoError(f"{stack}.{place}: a block with a KV cache cannot be replayed")
            call = self._calls[at]
            self._calls[at] += 1
            if call in outputs:
                return outputs[call]
            output = forward(*args, **kwargs)
            size = _bytes(output)
            self.computed[stack] += size
            if size <= self._room:
                self._room -= size
                outputs[call] = output
            return output

        return replayed


def _bytes(output: Any) -> int:
    """Memory of a block's output: a tensor, or a tuple with some."""
    parts = output if isinstance(output, tuple) else (output,)
    return sum(part.nbytes for part in parts if isinstance(part, Tensor))


@contextmanager
def replaying(model: nn.Module, stacks: Iterable[str], limit: int = KEPT_BYTES) -> Iterator[Replay]:
    """Let all blocks of these stacks be replayed; afterwards the model is as it was.

    The model is in evaluation mode; a stack is a list of its blocks, ``bert.encoder.layer``, or
    CotoError is raised.
    """
    replay, modules = Replay(limit), dict(model.named_modules())
    with ExitStack() as undo:
        for stack in stacks:
            blocks = modules.get(stack)
            if not isinstance(blocks, nn.ModuleList | nn.Sequential):
                raise CotoError(f"adapter: {stack!r}: expected a list of blocks of the backbone")
            for place, block in enumerate(blocks):
                # Of the instance, which may have one of its own: what calls a block looks there.
                own = {"forward": block.forward} if "forward" in vars(block) else {}
                wrapped = replay.wrap(stack, place, block.forward)
                undo.callback(vars(block).update, own)
                undo.callback(vars(block).pop, "forward")
                vars(block)["forward"] = wrapped
        yield replay


def sweep(
    on: TaskModel,
    task: Task,
    rows: pd.DataFrame,
    change: Deltas,
    heads: Mapping[str, Tensor],
    masks: Sequence[Mask],
    limit: int = KEPT_BYTES,
) -> list[list[Scores]]:
    """Scores of every mask, in the same order; equal ones are scored once.

    Scores are bit for bit those of :func:`changed` with the ΔW of the modules that are on, except
    that a language model is scored by ranking alone, without the KV cache of what all prompts begin
    with (:meth:`TaskModel.replayable`). The model is ready for the task
    (:meth:`TaskModel.set_task`); masks are sets of modules of `change`, and heads are the same for
    all of them. `limit` is in bytes of blocks' outputs that are kept to be shared. Raises CotoError
    if a mask or the model lacks a module, an output is not finite, or there are no candidate
    answers that a language model could rank.
    """
    for unknown in sorted(frozenset[str]().union(*masks) - change.keys())[:1]:
        raise CotoError(f"mask: module {unknown!r}: expected one of the adapter's {len(change)}")
    places = {module: place_of(module) for module in change}
    found: dict[Mask, list[Scores]] = {}
    state = Mask()
    with (
        changed(on.model, {}, heads) as model,
        switchable(model, change) as switch,
        replaying(model, {stack for stack, _ in places.values()}, limit) as replay,
        on.replayable(),
    ):
        for mask in _ordered(masks, places, replay.computed):
            switch(mask)
            moved = sorted((places[module] for module in mask ^ state), reverse=True)
            replay.begin(dict(moved))  # of a stack's places the last one, the lowest, stays
            found[mask] = on.score(model, task, rows)
            state = mask
    return [found[mask] for mask in masks]


def _ordered(
    masks: Sequence[Mask], places: Mapping[str, tuple[str, int]], costs: Counter[str]
) -> Iterator[Mask]:
    """Different masks so that neighbours agree in as many of the lowest blocks as they can.

    `places` are stack and block of every module. `costs` of the stacks are there once the first
    mask has been scored; of several stacks the costliest then changes most rarely.
    """

    def states(mask: Mask) -> list[bool]:
        ranks = {stack: rank for rank, (stack, _) in enumerate(costs.most_common())}
        network = sorted(places, key=lambda m: (ranks.get(places[m][0]), places[m][1]))
        return [module in mask for module in network]

    waiting = set(masks)
    if waiting:
        first = min(waiting, key=states)
        yield first
        yield from sorted(waiting - {first}, key=states)
