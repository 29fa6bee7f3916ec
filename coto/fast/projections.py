"""Linear layers with PEFT's adapters, computed by `coto.fast.products`.

A layer's ``forward`` is replaced on the instance. Its name, class, parameters and hooks stay, so
that the state dict, ``disable_adapter()``, CoTo's gate and gradient checkpointing work as ever. At
every call the layer is looked at anew: where PEFT would do more than we know, PEFT does it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from peft.tuners.hira.layer import Linear as HiraLinear
from peft.tuners.lora.dora import DoraLinearLayer
from peft.tuners.lora.layer import Linear as LoraLinear
from peft.tuners.lora.variants import DoraLinearVariant
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from coto.fast.changed import Part, squares
from coto.fast.products import adapted_product
from coto.method.gate import AdapterGate
from coto.models.images.vit import SplitProjections

# What blocks call the layers that read the same input.
_TOGETHER = (
    ("query", "key", "value"),
    ("q_proj", "k_proj", "v_proj"),
    ("q", "k", "v"),
    ("gate_proj", "up_proj"),
)


class Projection:
    """One frozen linear layer, with an adapter or without.

    `products` says whether layers with an active adapter are computed here, or left to PEFT.
    """

    def __init__(self, layer: nn.Module, products: bool) -> None:
        self.layer, self.products = layer, products
        self.linear = cast(nn.Linear, getattr(layer, "base_layer", layer))
        self.joint: Joint | None = None
        self.index = 0
        self._squares: tuple[tuple[int, int], Tensor] | None = None
        layer.forward = self.forward

    def restore(self) -> None:
        """Give the layer its own forward back."""
        vars(self.layer).pop("forward", None)

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """What the layer's own forward returns."""
        if not args and not kwargs:
            if (
                self.joint is not None
                and (together := self.joint.output(self.index, x)) is not None
            ):
                return together
            parts = self.parts(0)
            if parts is not None:
                return adapted_product(x, self.linear.weight, self.linear.bias, parts)
        return cast(Tensor, type(self.layer).forward(self.layer, x, *args, **kwargs))

    def parts(self, start: int) -> tuple[Part, ...] | None:
        """Its active adapter as a part whose rows begin at `start`; None if PEFT must do it."""
        linear, layer = self.linear, self.layer
        if linear.weight.requires_grad or _trains(linear.bias) or _is_watched(linear):
            return None
        if layer is linear:
            return ()
        tuner: Any = layer
        if tuner.merged:
            return None if tuner.disable_adapters else ()
        if tuner.disable_adapters or is_skipped(layer):
            return ()
        hira = isinstance(tuner, HiraLinear)
        have = tuner.hira_A if hira else tuner.lora_A
        names = [name for name in tuner.active_adapters if name in have]
        if len(names) != 1:
            return None if names else ()
        if not self.products or tuner.fan_in_fan_out or not tuner.cast_input_dtype_enabled:
            return None
        dropout = (tuner.hira_dropout if hira else tuner.lora_dropout)[names[0]]
        if not isinstance(dropout, nn.Identity) and (
            type(dropout) is not nn.Dropout or (dropout.training and dropout.p > 0)
        ):
            return None
        rows = slice(start, start + linear.out_features)
        if hira:
            return (Part(rows, tuner.hira_A[names[0]], tuner.hira_B[names[0]], masked=True),)
        return self._low_rank(tuner, names[0], rows)

    def _low_rank(self, tuner: Any, name: str, rows: slice) -> tuple[Part, ...] | None:
        a, b, variant = tuner.lora_A[name], tuner.lora_B[name], tuner.lora_variant.get(name)
        if type(a) is not nn.Linear or type(b) is not nn.Linear or b.bias is not None:
            return None
        if _is_watched(a) or _is_watched(b):
            return None
        if variant is None:
            return (Part(rows, a.weight, b.weight, tuner.scaling[name]),)
        if type(variant) is not DoraLinearVariant or tuner.ephemeral_gpu_offload:
            return None
        norm = tuner.lora_magnitude_vector[name]
        if type(norm) is not DoraLinearLayer or _is_watched(norm):
            return None
        weight = self.linear.weight
        state = (weight.data_ptr(), weight._version)
        if self._squares is None or self._squares[0] != state:
            self._squares = state, squares(weight.detach())
        square = self._squares[1]
        return (Part(rows, a.weight, b.weight, tuner.scaling[name], False, norm.weight, square),)


class Joint:
    """Layers that read the same input, as one product with their stacked weights.

    While their parent's forward runs, the first of them that is called computes all, and the others
    find their outputs made. Their weights become views of one tensor until :meth:`restore`.
    """

    def __init__(self, parent: nn.Module, projections: list[Projection]) -> None:
        self.parent, self.projections = parent, projections
        linears = [projection.linear for projection in projections]
        self.sizes = [linear.out_features for linear in linears]
        self.weight = torch.cat([linear.weight.detach() for linear in linears])
        self.bias: Tensor | None = None
        if any(linear.bias is not None for linear in linears):
            biases = [
                w.new_zeros(len(w)) if b is None else b.detach()
                for w, b in ((linear.weight, linear.bias) for linear in linears)
            ]
            self.bias = torch.cat(biases)
        self._places: list[tuple[nn.Parameter, Tensor]] = []
        for whole, name in ((self.weight, "weight"), (self.bias, "bias")):
            if whole is not None:
                for linear, rows in zip(linears, whole.split(self.sizes), strict=True):
                    if (parameter := getattr(linear, name)) is not None:
                        parameter.data = rows
                        self._places.append((parameter, rows))
        for index, projection in enumerate(projections):
            projection.joint, projection.index = self, index
        self._open = False
        self._apart = False  # it has turned out that their inputs differ
        self._input: Tensor | None = None
        self._outputs: dict[int, Tensor] = {}
        self._handles: list[RemovableHandle] = []
        if isinstance(parent, SplitProjections):
            parent.forward = self.side_by_side  # type: ignore[method-assign]
        else:
            self._handles = [
                parent.register_forward_pre_hook(self._begin),
                parent.register_forward_hook(self._end, always_call=True),
            ]

    def restore(self) -> None:
        """Give the layers weights of their own, and the parent its forward."""
        for handle in self._handles:
            handle.remove()
        vars(self.parent).pop("forward", None)
        for projection in self.projections:
            projection.joint = None
        for parameter, rows in self._places:
            if parameter.data_ptr() == rows.data_ptr():
                parameter.data = rows.clone()
        self._places.clear()

    def side_by_side(self, x: Tensor) -> Tensor:
        """The forward of :class:`SplitProjections`."""
        if not any(_is_watched(projection.layer) for projection in self.projections):
            together = self._product(x)
            if together is not None:
                return together
        return cast(Tensor, type(self.parent).forward(self.parent, x))

    def output(self, index: int, x: Tensor) -> Tensor | None:
        """The output of one layer; None if it has to be computed alone."""
        if not self._open or self._apart:
            return None
        if self._input is None:
            together = self._product(x)
            # Unsafe is the split without the ban on changing its results in place.
            outputs = () if together is None else together.unsafe_split_with_sizes(self.sizes, -1)
            self._input, self._outputs = x, dict(enumerate(outputs))
        elif x is not self._input:
            self._apart = True
            return None
        return self._outputs.pop(index, None)

    def _product(self, x: Tensor) -> Tensor | None:
        """All outputs side by side (…, sum of sizes)."""
        parts, start = list[Part](), 0
        if any(parameter.data_ptr() != rows.data_ptr() for parameter, rows in self._places):
            return None  # somebody has given a layer another weight
        for projection, size in zip(self.projections, self.sizes, strict=True):
            found = projection.parts(start)
            if found is None:
                return None
            parts += found
            start += size
        return adapted_product(x, self.weight, self.bias, parts)

    def _begin(self, *_: Any) -> None:
        self._open, self._input, self._outputs = True, None, {}

    def _end(self, *_: Any) -> None:
        self._open, self._input, self._outputs = False, None, {}


@contextmanager
def fast_projections(model: nn.Module, *, products: bool, joint: bool) -> Iterator[None]:
    """Compute a model's projections fast inside; its frozen weights stay in their precision.

    With `products` those with an active adapter, by `coto.fast.products`; with `joint` queries,
    keys and values, and the two inputs of a gated MLP, as one product each, unless PEFT has to
    compute one of them. Afterwards all is as it was.
    """
    groups = list(_groups(model)) if joint else []
    layers = [layer for _, group in groups for layer in group]
    if products:
        layers += [m for m in model.modules() if isinstance(m, BaseTunerLayer) and _fits(m)]
    made = {layer: Projection(layer, products) for layer in dict.fromkeys(layers)}
    joints = [Joint(parent, [made[layer] for layer in group]) for parent, group in groups]
    try:
        yield
    finally:
        for one in joints:
            one.restore()
        for projection in made.values():
            projection.restore()


def is_skipped(layer: nn.Module) -> bool:
    """Whether CoTo's gate skips a layer in its next forward pass."""
    owners = (getattr(hook, "__self__", None) for hook in layer._forward_pre_hooks.values())
    return any(isinstance(owner, AdapterGate) and owner.skips(layer) for owner in owners)


def _groups(model: nn.Module) -> Iterator[tuple[nn.Module, list[nn.Module]]]:
    """Parents, and those of their layers that can be one product."""
    for parent in model.modules():
        for names in _TOGETHER:
            found: list[Any] = [getattr(parent, name, None) for name in names]
            layers = [layer for layer in found if _fits(layer)]
            if len(layers) == len(names) and _agree(layers):
                yield parent, layers


def _fits(layer: Any) -> bool:
    """Whether a layer is a plain linear one, frozen, with an adapter of a known kind or without."""
    linear = layer.base_layer if type(layer) in (LoraLinear, HiraLinear) else layer
    return (
        type(linear) is nn.Linear
        and not linear.weight.requires_grad
        and not _trains(linear.bias)
        and "forward" not in vars(layer)
        and "forward" not in vars(linear)
    )


def _agree(layers: list[Any]) -> bool:
    """Whether weights can be stacked."""
    weights = [getattr(layer, "base_layer", layer).weight for layer in layers]
    return len({(w.shape[1], w.dtype, w.device) for w in weights}) == 1


def _trains(bias: Tensor | None) -> bool:
    return bias is not None and bias.requires_grad


def _is_watched(module: nn.Module) -> bool:
    """Whether a module has hooks that only its own call would run, but for those of the gate."""
    hooks = (*module._forward_pre_hooks.values(), *module._forward_hooks.values())
    return (
        any(not isinstance(getattr(hook, "__self__", None), AdapterGate) for hook in hooks)
        or bool(module._backward_hooks)
        or bool(module._backward_pre_hooks)
    )
