"""Blocks of a transformer that are not computed again while nothing at or below them has changed.

A model that is scored many times, each time with other weights in some of its blocks, computes the
blocks below the lowest of these as before. Here every block's output is kept per forward call, so
that a scoring begins, in effect, at the lowest block that has changed since the one before it. With
states of blocks in lexicographic order this walks a trie whose nodes are states of the first few.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from coto.errors import CotoError

KEPT_BYTES = 2 * 2**30
"""Outputs that are kept; calls that do not fit are computed every time."""


class Replay:
    """Outputs of blocks by stack, place of the block, and number of the call in a scoring.

    Calls are told apart by their number alone: every scoring must make the same ones in the same
    order, no block may write to a KV cache, and no stack may feed another one.

    Args:
        limit: bytes of outputs that are kept.

    Attributes:
        computed: bytes that the blocks of each stack have put out, kept or not, replays left out:
            what the stack costs.
    """

    def __init__(self, limit: int = KEPT_BYTES) -> None:
        self.computed: Counter[str] = Counter()
        self._room = limit
        self._calls: Counter[tuple[str, int]] = Counter()
        self._outputs: dict[tuple[str, int], dict[int, Any]] = {}

    def begin(self, changed: Mapping[str, int]) -> None:
        """Begin a scoring.

        Args:
            changed: by stack, the lowest block whose weights have changed since the last scoring;
                a stack that is not there has not changed at all.
        """
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


@contextmanager
def replaying(model: nn.Module, stacks: Iterable[str], limit: int = KEPT_BYTES) -> Iterator[Replay]:
    """Let all blocks of these stacks be replayed; afterwards the model is as it was.

    Args:
        model: a model in evaluation mode.
        stacks: names of its lists of blocks, such as ``bert.encoder.layer``
            (:func:`coto.operators.place.place_of`).
        limit: bytes of outputs that are kept.

    Raises:
        CotoError: if a stack is no list of modules.
    """
    replay = Replay(limit)
    with ExitStack() as undo:
        for stack in stacks:
            for place, block in enumerate(_blocks(model, stack)):
                # Of the instance, which may have one of its own: what calls a block looks there.
                own = {"forward": block.forward} if "forward" in vars(block) else {}
                wrapped = replay.wrap(stack, place, block.forward)
                undo.callback(vars(block).update, own)
                undo.callback(vars(block).pop, "forward")
                vars(block)["forward"] = wrapped
        yield replay


def _blocks(model: nn.Module, stack: str) -> list[nn.Module]:
    found = dict(model.named_modules()).get(stack)
    if not isinstance(found, nn.ModuleList | nn.Sequential):
        raise CotoError(f"adapter: {stack!r}: expected a list of blocks of the backbone")
    return list(found)


def _bytes(output: Any) -> int:
    """Memory of a block's output: a tensor, or a tuple with some."""
    parts = output if isinstance(output, tuple) else (output,)
    return sum(part.nbytes for part in parts if isinstance(part, Tensor))
