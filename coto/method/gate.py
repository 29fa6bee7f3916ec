"""Skip whole groups of PEFT adapters in the training forward pass, and never anywhere else."""

import re
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from peft.tuners.trainable_tokens.layer import TrainableTokensLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from torch.utils.hooks import RemovableHandle
from transformers.modeling_layers import GradientCheckpointingLayer

Unit = str | Callable[[str], str | None]

# LoRA initialisations that move part of the pretrained weight into the adapter.
_RESIDUAL_INITS = ("pissa", "olora", "corda", "loftq", "lora_ga")


class AdapterGate:
    """Switches groups of adapters of a PEFT model off, for training forward passes only.

    A skipped adapter is not computed: the layer returns what it returns in ``disable_adapter()``,
    the adapter's ``.grad`` stays None, and AdamW therefore leaves its weights and moments alone.
    PEFT's own flag is up only while the layer's forward runs, so a model that is evaluated, saved,
    merged or copied in the middle of training is whole, and an exception leaves nothing behind.
    ``modules_to_save`` are untouched, and so are active adapters that are frozen: a layer that has
    one as well is left with that one alone.

    Under gradient checkpointing, transformers and PEFT make the output of the input embeddings
    require a gradient, which computes also the blocks below the lowest active adapter again. Only
    reentrant checkpoints of blocks that train need that; the gate undoes it elsewhere.

    ::

        with AdapterGate(model) as gate:
            gate.set([True, False, True])  # skip the second group from the next forward pass on

    Args:
        model: a PEFT model, or any module that contains PEFT layers. Every tuner works whose layers
            honour ``disable_adapter()``; docs/tuners.md lists them.
        unit: what is switched as one. ``"block"``: all adapters of a transformer block, as in the
            authors' snippet, which is the outermost numbered container of a module's name
            (``encoder.layer.3``); an adapter outside all blocks is a group of its own.
            ``"module"``: every adapter alone. Or a function from a module's name to its group's.
        adapters: PEFT names of those to switch, as for :func:`trained_adapters`; others stay on.

    Attributes:
        groups: group name -> qualified names of its layers, in the model's order.
        depth: relative depth in (0, 1] of every group, counted within its encoder; shape (groups,).
        active: which groups are active now; shape (groups,).

    ValueError if the model has no adapter, ``adapters`` or ``unit`` is unknown, or a group function
    leaves a layer without a name.
    """

    def __init__(
        self, model: nn.Module, unit: Unit = "block", adapters: Collection[str] | None = None
    ) -> None:
        self.adapters = trained_adapters(model, adapters)
        layers = {
            name: layer
            for name, layer in adapter_layers(model)
            if not _names(layer) or _names(layer) & self.adapters
        }
        units: dict[str, Callable[[str], str | None]] = {"block": block_name, "module": str}
        name_of = unit if callable(unit) else units.get(str(unit))
        if name_of is None:
            raise ValueError(
                f"unit: got {unit!r}, expected 'block', 'module' or a function of the name"
            )
        self.groups: dict[str, list[str]] = {}
        for name in layers:
            group = name_of(name)
            if not isinstance(group, str) or not group:
                raise ValueError(f"unit: group of {name!r} is {group!r}, expected a non-empty name")
            self.groups.setdefault(group, []).append(name)
        self.depth = _depths(list(self.groups))
        self.active: NDArray[np.bool_] = np.ones(len(self.groups), dtype=bool)
        self._model, self._layers = model, layers
        self._blocks: list[GradientCheckpointingLayer] = []
        self._skipped: set[nn.Module] = set()
        # Layers that this gate has changed for a forward pass, and PEFT's active adapters there.
        self._raised: dict[nn.Module, Any] = {}
        self._handles: list[RemovableHandle] = []
        _warn_about_residual_inits(model)

    def __len__(self) -> int:
        return len(self.groups)

    def __repr__(self) -> str:
        groups = f"{int(self.active.sum())} of {len(self)} groups active"
        return f"{type(self).__name__}({len(self._layers)} adapters, {groups})"

    def __deepcopy__(self, memo: dict[int, Any]) -> "AdapterGate":
        # A copied model (an average, a reference model) carries our hooks along: make them inert.
        clone = object.__new__(type(self))
        memo[id(self)] = clone
        vars(clone).update(vars(self), active=np.ones_like(self.active), _model=nn.Module())
        clone._layers, clone._skipped, clone._raised = {}, set(), {}
        clone._blocks, clone._handles = [], []
        return clone

    def set(self, flags: Sequence[bool] | NDArray[np.bool_]) -> None:
        """Choose the active groups; ``flags`` has one truth value per group, in their order."""
        wanted = np.asarray(flags, dtype=bool)
        if wanted.shape != self.active.shape:
            raise ValueError(f"flags: got shape {wanted.shape}, expected {self.active.shape}")
        # Only a KeyboardInterrupt inside a layer's forward leaves a flag up: hooks do not see it.
        for layer in list(self._raised):
            self._lower_flag(layer, None, None)
        self.active = wanted.copy()
        groups = zip(wanted, self.groups.values(), strict=True)
        self._skipped = {self._layers[name] for on, names in groups if not on for name in names}

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

    def skips(self, layer: nn.Module) -> bool:
        """Whether the next forward pass of a layer is that of ``disable_adapter()``."""
        return (
            layer in self._skipped
            and layer.training
            and not layer.merged
            and _names(layer) <= self.adapters
        )

    def attach(self) -> Self:
        """Hook the gate into the model; a gate that an interrupted training left there goes."""
        self.detach()
        hooks = [h for layer in self._layers.values() for h in layer._forward_pre_hooks.values()]
        for owner in (getattr(hook, "__self__", None) for hook in hooks):
            if isinstance(owner, AdapterGate):
                owner.detach()
        for layer in self._layers.values():
            self._handles.append(layer.register_forward_pre_hook(self._raise_flag))
            self._handles.append(layer.register_forward_hook(self._lower_flag, always_call=True))
        modules = list(self._model.modules())
        self._blocks = [m for m in modules if isinstance(m, GradientCheckpointingLayer)]
        for block in self._blocks:
            self._handles.append(block.register_forward_pre_hook(self._require_input_grad))
        for embedding in _input_embeddings(modules):
            self._handles.append(embedding.register_forward_hook(self._release_output))
        return self

    def detach(self) -> None:
        """Take all hooks out of the model and switch every group on."""
        self.activate_all()
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._blocks.clear()

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
            self._raised[layer] = layer._active_adapter
            others = _names(layer) - self.adapters
            if others:
                active = cast(BaseTunerLayer, layer).active_adapters
                layer._active_adapter = [name for name in active if name in others]  # type: ignore[assignment]
            else:
                # not enable_adapters(False): that also flips requires_grad, which optimizers and
                # DistributedDataParallel must not see
                layer._disable_adapters = True  # type: ignore[assignment]

    def _lower_flag(self, layer: nn.Module, args: Any, output: Any) -> None:
        if layer in self._raised:
            layer._active_adapter = self._raised.pop(layer)
            layer._disable_adapters = False  # type: ignore[assignment]

    def _release_output(self, embedding: nn.Module, args: Any, output: Any) -> Any:
        # A leaf that requires a gradient was made to by a hook: an embedding that trains, or one
        # with an active adapter, puts out a result of autograd. Without blocks known to us, we
        # could not serve a reentrant checkpoint, and let things be.
        made = isinstance(output, torch.Tensor) and output.requires_grad and output.is_leaf
        return output.detach() if made and embedding.training and self._blocks else output

    def _require_input_grad(self, block: nn.Module, args: Any) -> Any:
        # A reentrant checkpoint trains the parameters inside only if an input requires a gradient.
        if (
            block.training
            and _is_reentrant(block)
            and torch.is_grad_enabled()
            and args
            and isinstance(args[0], torch.Tensor)
            and not any(isinstance(a, torch.Tensor) and a.requires_grad for a in args)
            and self._trains(block)
        ):
            return args[0].detach().requires_grad_(True), *args[1:]
        return args

    def _trains(self, block: nn.Module) -> bool:
        """Whether a parameter inside a block trains and is not off now."""
        off = {
            parameter
            for layer in block.modules()
            if layer in self._skipped
            for name, parameter in layer.named_parameters()
            if (_names(layer) - self.adapters).isdisjoint(name.split("."))
        }
        return any(p.requires_grad and p not in off for p in block.parameters())


def adapter_layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield (name, layer) of layers with an active adapter, trainable token embeddings left out."""
    for name, module in model.named_modules():
        if not isinstance(module, BaseTunerLayer) or isinstance(module, TrainableTokensLayer):
            continue
        available = module._get_available_adapters()
        if not available or available & set(module.active_adapters):
            yield name, cast(nn.Module, module)


def trained_adapters(model: nn.Module, names: Collection[str] | None = None) -> frozenset[str]:
    """Return the `names`; or all active adapters that train, or all active ones if none does.

    ValueError if the model has no active adapter, or none of one of the names.
    """
    layers = [layer for _, layer in adapter_layers(model)]
    if not layers:
        raise ValueError(
            f"model: {type(model).__name__} has no active PEFT adapter layer, "
            "expected a model made by peft.get_peft_model or PeftModel.from_pretrained"
        )
    active = frozenset().union(*map(_names, layers))
    if names is not None:
        if unknown := sorted(set(names) - active):
            known = ", ".join(sorted(active))
            raise ValueError(f"adapters: got {unknown[0]!r}, expected active ones: {known}")
        return frozenset(names)
    parts = (name.split(".") for layer in layers for name, _ in own_parameters(layer))
    return active & frozenset().union(*parts) or active


def own_parameters(layer: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield (name, parameter) of what trains in an adapter layer, but for the layer it wraps."""
    for name, parameter in layer.named_parameters():
        if parameter.requires_grad and not name.startswith("base_layer."):
            yield name, parameter


def block_name(name: str) -> str:
    """Return the part of a qualified module name up to its first number; all of it if none.

    >>> block_name("base_model.model.bert.encoder.layer.3.attention.self.query")
    'base_model.model.bert.encoder.layer.3'
    """
    numbered = re.match(r".*?\.\d+(?=\.|$)", name)
    return numbered[0] if numbered else name


def _names(layer: nn.Module) -> frozenset[str]:
    """Names of the active adapters that a layer has."""
    tuner = cast(BaseTunerLayer, layer)
    return frozenset(tuner._get_available_adapters() & set(tuner.active_adapters))


def _depths(groups: Iterable[str]) -> NDArray[np.float64]:
    """Return depths in (0, 1], counted within each encoder, the name before a group's number."""
    encoders: dict[str, list[int]] = {}
    for index, name in enumerate(groups):
        encoder, _, number = block_name(name).rpartition(".")
        encoders.setdefault(encoder if number.isdigit() else "", []).append(index)
    depths = np.empty(sum(map(len, encoders.values())))
    for members in encoders.values():
        depths[members] = np.arange(1, len(members) + 1) / len(members)
    return depths


def _input_embeddings(modules: list[nn.Module]) -> list[nn.Module]:
    embeddings: dict[nn.Module, None] = {}  # in order, each once
    for module in modules:
        try:
            embedding = module.get_input_embeddings()  # type: ignore[operator]
        except (AttributeError, NotImplementedError, TypeError):
            continue
        if isinstance(embedding, nn.Module):
            embeddings[embedding] = None
    return list(embeddings)


def _is_reentrant(block: nn.Module) -> bool:
    if not getattr(block, "gradient_checkpointing", False):
        return False
    function = getattr(block, "_gradient_checkpointing_func", None)
    # not known (a user's own function): the cautious answer only costs one gradient too many
    return bool(getattr(function, "keywords", {}).get("use_reentrant", True))


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
