"""Skip whole groups of PEFT adapters in the training forward pass, and never anywhere else."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self, cast

import numpy as np
from numpy.typing import NDArray
from peft.tuners.trainable_tokens.layer import TrainableTokensLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from torch.utils.hooks import RemovableHandle

from coto.method.checkpointing import CheckpointingHooks

Unit = str | Callable[[str], str | None]

# LoRA initialisations that move part of the pretrained weight into the adapter.
_RESIDUAL_INITS = ("pissa", "olora", "corda", "loftq", "lora_ga")


class AdapterGate:
    """Switches groups of adapters of a PEFT model off, for training forward passes only.

    A skipped adapter is not computed: the layer returns what it returns in ``disable_adapter()``,
    no gradient reaches the adapter (its ``.grad`` stays None), and AdamW therefore leaves its
    weights, moments and weight decay alone. PEFT's own flag is up only while the layer's forward
    runs, so a model that is evaluated (``model.eval()``), saved, merged or copied in the middle of
    training is whole, and an exception leaves nothing behind. Inside ``disable_adapter()`` all
    adapters are off, as without the gate. The outputs of trainable modules that are no adapters,
    ``modules_to_save`` for one, are untouched.

    ::

        with AdapterGate(model) as gate:
            gate.set([True, False, True])  # skip the second group from the next forward pass on

    Args:
        model: a PEFT model, or any module that contains PEFT layers (a ``DistributedDataParallel``
            wrapper, a pipeline's encoder). Every tuner works whose layers honour
            ``disable_adapter()``; docs/tuners.md lists them.
        unit: what is switched as one. ``"block"``: all adapters of a transformer block, as in the
            authors' snippet; the block is the outermost numbered container of the module's name
            (``encoder.layer.3``, ``vision_model.encoder.layers.3``), so that CLIP ViT-B has 24 of
            them; an adapter outside all blocks is a group of its own. ``"module"``: every adapter
            alone (72 for CLIP's q, k, v). Or a function from the module's qualified name to the
            name of its group.

    Attributes:
        groups: group name -> qualified names of its layers, in the model's order.
        depth: relative depth in (0, 1] of every group, counted within its encoder; shape (groups,).
        active: which groups are active now; shape (groups,).

    Raises:
        ValueError: the model has no adapter, ``unit`` is unknown, or a group function leaves a
            layer without a name.
    """

    def __init__(self, model: nn.Module, unit: Unit = "block") -> None:
        layers = dict(adapter_layers(model))
        if not layers:
            raise ValueError(
                f"model: {type(model).__name__} has no active PEFT adapter layer, "
                "expected a model made by peft.get_peft_model or PeftModel.from_pretrained"
            )
        name_of = _unit_function(unit)
        self.groups: dict[str, list[str]] = {}
        for name in layers:
            group = name_of(name)
            if not isinstance(group, str) or not group:
                raise ValueError(f"unit: group of {name!r} is {group!r}, expected a non-empty name")
            self.groups.setdefault(group, []).append(name)
        self.depth = _depths(list(self.groups))
        self.active: NDArray[np.bool_] = np.ones(len(self.groups), dtype=bool)
        self._layers = layers
        self._skipped: set[nn.Module] = set()
        self._raised: set[nn.Module] = set()  # layers whose PEFT flag this gate has put up
        self._handles: list[RemovableHandle] = []
        self._checkpointing = CheckpointingHooks(model, self._skipped)
        _warn_about_residual_inits(model)

    def __len__(self) -> int:
        return len(self.groups)

    def __repr__(self) -> str:
        active = f"{int(self.active.sum())} of {len(self)} groups active"
        return f"{type(self).__name__}({len(self._layers)} adapters, {active})"

    def __deepcopy__(self, memo: dict[int, Any]) -> "AdapterGate":
        # A copied model (an average, a reference model) carries our hooks along: make them inert.
        clone = object.__new__(type(self))
        memo[id(self)] = clone
        clone.groups, clone.depth, clone.active = self.groups, self.depth, np.ones_like(self.active)
        clone._layers, clone._skipped, clone._raised, clone._handles = {}, set(), set(), []
        clone._checkpointing = CheckpointingHooks(nn.Module(), clone._skipped)
        return clone

    def set(self, flags: Sequence[bool] | NDArray[np.bool_]) -> None:
        """Choose the active groups; ``flags`` has one truth value per group, in their order."""
        wanted = np.asarray(flags, dtype=bool)
        if wanted.shape != self.active.shape:
            raise ValueError(f"flags: got shape {wanted.shape}, expected {self.active.shape}")
        self._lower()
        self.active = wanted.copy()
        self._skipped.clear()
        for on, names in zip(wanted, self.groups.values(), strict=True):
            if not on:
                self._skipped.update(self._layers[name] for name in names)

    def activate_all(self) -> None:
        """Switch every group on."""
        self.set(np.ones(len(self), dtype=bool))

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Switch every group on inside the block, for a look at the whole model in train mode."""
        flags = self.active
        self.activate_all()
        try:
            yield
        finally:
            self.set(flags)

    def attach(self) -> Self:
        """Hook the gate into the model; a gate that an interrupted training left there goes."""
        self.detach()
        for layer in self._layers.values():
            for other in _gates_on(layer):
                other.detach()
        for layer in self._layers.values():
            self._handles.append(layer.register_forward_pre_hook(self._raise_flag))
            self._handles.append(layer.register_forward_hook(self._lower_flag, always_call=True))
        self._checkpointing.attach()
        return self

    def detach(self) -> None:
        """Take all hooks out of the model and switch every group on."""
        self.activate_all()
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._checkpointing.detach()

    def __enter__(self) -> Self:
        return self.attach()

    def __exit__(self, *exc_info: object) -> None:
        self.detach()

    def _raise_flag(self, layer: nn.Module, args: Any) -> None:
        if layer in self._raised:  # left up by a KeyboardInterrupt, which no hook sees
            self._lower_flag(layer, args, None)
        # A merged layer has no separate adapter to skip: PEFT would unmerge it behind our back.
        if layer not in self._skipped or layer.merged or layer.disable_adapters:
            return
        if layer.training:
            # not enable_adapters(False): that also flips requires_grad, which optimizers and
            # DistributedDataParallel must not see
            layer._disable_adapters = True  # type: ignore[assignment]
            self._raised.add(layer)

    def _lower_flag(self, layer: nn.Module, args: Any, output: Any) -> None:
        if layer in self._raised:
            self._raised.discard(layer)
            layer._disable_adapters = False  # type: ignore[assignment]

    def _lower(self) -> None:
        # Only a KeyboardInterrupt inside a layer's forward leaves a flag up: hooks do not see it.
        for layer in list(self._raised):
            self._lower_flag(layer, None, None)


def adapter_layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield (qualified name, layer) of every layer that holds one of its active adapters.

    Trainable token embeddings are no adapters of a block and are left out.
    """
    for name, module in model.named_modules():
        if not isinstance(module, BaseTunerLayer) or isinstance(module, TrainableTokensLayer):
            continue
        available = module._get_available_adapters()
        if not available or available & set(module.active_adapters):
            yield name, cast(nn.Module, module)


def block_name(name: str) -> str:
    """Return the part of a qualified module name up to its first number; all of it if none.

    >>> block_name("base_model.model.bert.encoder.layer.3.attention.self.query")
    'base_model.model.bert.encoder.layer.3'
    """
    parts = name.split(".")
    for index, part in enumerate(parts):
        if part.isdigit() and index:
            return ".".join(parts[: index + 1])
    return name


def _unit_function(unit: Unit) -> Callable[[str], str | None]:
    if callable(unit):
        return unit
    if unit == "block":
        return block_name
    if unit == "module":
        return lambda name: name
    raise ValueError(f"unit: got {unit!r}, expected 'block', 'module' or a function of the name")


def _depths(groups: Iterable[str]) -> NDArray[np.float64]:
    """Return relative depths; groups whose names differ only after a number share an encoder.

    Two encoders (CLIP) thus both run from the lowest to the highest depth.
    """
    encoders: dict[str, list[int]] = {}
    for index, name in enumerate(groups):
        stem = block_name(name)
        encoder = stem.rpartition(".")[0] if stem.rpartition(".")[2].isdigit() else ""
        encoders.setdefault(encoder, []).append(index)
    depths = np.empty(sum(map(len, encoders.values())))
    for members in encoders.values():
        depths[members] = np.arange(1, len(members) + 1) / len(members)
    return depths


def _gates_on(layer: nn.Module) -> list[AdapterGate]:
    owners = [getattr(hook, "__self__", None) for hook in layer._forward_pre_hooks.values()]
    return [owner for owner in owners if isinstance(owner, AdapterGate)]


def _warn_about_residual_inits(model: nn.Module) -> None:
    config = getattr(model, "peft_config", None)
    for adapter in config.values() if isinstance(config, dict) else ():
        init = getattr(adapter, "init_lora_weights", None)
        if isinstance(init, str) and init.lower().startswith(_RESIDUAL_INITS):
            warnings.warn(
                f"init_lora_weights={init!r} moves a part of the pretrained weights into the "
                "adapter: with adapters off the model is not the pretrained one but what is left "
                "of it, so skipping adapters trains the others against damaged layers. Prefer an "
                "initialisation with a zero update, or report it as another method than CoTo.",
                stacklevel=3,
            )
