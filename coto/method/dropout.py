"""Element-wise dropout on the adapters' inputs, at a rate that may change from step to step."""

from torch import nn

from coto.method.gate import adapter_layers

# These drop blocks of a rotation.
_NOT_ON_INPUT = ("oft_dropout", "boft_dropout")


class InputDropout:
    """Replaces the input dropout of all adapters of a PEFT model; :meth:`restore` puts it back.

    Args:
        model: a PEFT model whose adapters have an input dropout (LoRA, DoRA, HiRA, VeRA and more:
            their layers hold a ``*_dropout`` module per adapter name).

    Raises:
        ValueError: no adapter has one (LoHa, IA³ and others).
    """

    def __init__(self, model: nn.Module) -> None:
        self._places: list[tuple[nn.ModuleDict, str, nn.Module, nn.Dropout]] = [
            (modules, adapter, module, nn.Dropout())
            for _, layer in adapter_layers(model)
            for name, modules in layer.named_children()
            if name.endswith("_dropout") and name not in _NOT_ON_INPUT
            if isinstance(modules, nn.ModuleDict)
            for adapter, module in modules.items()
            if isinstance(module, nn.Dropout | nn.Identity)
        ]
        if not self._places:
            raise ValueError(
                "strategy: got 'dropout', but these adapters have no input dropout, "
                "expected LoRA, DoRA, HiRA or another tuner with one"
            )

    def set(self, rate: float) -> None:
        """Drop every element of the adapters' inputs with chance ``rate`` in train mode."""
        for modules, adapter, _, ours in self._places:
            ours.p = rate
            modules[adapter] = ours.train(modules.training)

    def restore(self) -> None:
        """Put the model's own dropout modules back."""
        for modules, adapter, original, _ in self._places:
            modules[adapter] = original.train(modules.training)
