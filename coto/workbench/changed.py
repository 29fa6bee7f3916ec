"""A model whose weights are others for a while."""

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager

from torch import Tensor, nn

from coto.errors import CotoError
from coto.operators.adapter import Deltas


def base_weights(model: nn.Module, modules: Sequence[str]) -> dict[str, Tensor]:
    """Base weights W₀ by module name, fp32 on the CPU."""
    return {name: _weight(model, name).detach().float().cpu() for name in modules}


@contextmanager
def changed(model: nn.Module, deltas: Deltas, heads: Mapping[str, Tensor]) -> Iterator[nn.Module]:
    """The model with W₀ + ΔW and other heads; W₀ is back, bit for bit, afterwards.

    A head may have another shape than the model's: tasks differ in their number of classes.

    Raises:
        CotoError: if the model has no such parameter.
    """
    changes: dict[nn.Parameter, Tensor] = {}
    for name, delta in deltas.items():
        weight = _weight(model, name)
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
    """A function that puts W₀ + ΔW into the modules it is told, and W₀ into the others.

    Both weights of a module are parameters that stay, where :func:`changed` gives one parameter
    other data: autocast would go on with what it has cast of that parameter before. Afterwards the
    model has its own parameters again.

    Raises:
        CotoError: if the model has no such module.
    """
    off = {name: _weight(model, name) for name in deltas}
    on = {
        name: nn.Parameter(_added(off[name], delta), off[name].requires_grad)
        for name, delta in deltas.items()
    }
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


def _weight(model: nn.Module, module: str) -> nn.Parameter:
    return _parameter(model, f"{module}.weight")


def _parameter(model: nn.Module, name: str) -> nn.Parameter:
    try:
        return model.get_parameter(name)
    except AttributeError:
        raise CotoError(
            f"adapter: the backbone has no parameter {name!r}: expected the backbone that the "
            "adapter was trained on"
        ) from None
