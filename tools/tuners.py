"""Which PEFT tuners the gate works with, found out by trying: the table in docs/tuners.md.

``python -m tools.tuners > docs/tuners.md`` makes it again; a test compares the two.
"""

import dataclasses
import tempfile
import warnings
from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any

import peft
import torch
from torch import nn

from coto.method.gate import AdapterGate
from coto.method.loop import InputDropout, progressive_training
from tools.tiny import LAYERS, tiny_batch, tiny_model

STEPS = 20


@dataclasses.dataclass(frozen=True)
class Tuner:
    """A PEFT configuration class by name, with settings that suit the tiny models."""

    config: str
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    note: str = ""
    norms: bool = False  # adapts layer norms instead of projections
    forward: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # further model inputs

    def make(self, model: str) -> peft.PeftConfig:
        """Return the configuration for the tiny model called ``model``."""
        targets = NORMS[model] if self.norms else PROJECTIONS[model]
        return getattr(peft, self.config)(
            target_modules=targets, task_type=TASKS[model], **self.settings
        )


PROJECTIONS = {
    "bert": ["query", "value"],
    "llama": ["q_proj", "v_proj"],
    "vit": ["q_proj", "v_proj"],
}
TASKS = {"bert": "SEQ_CLS", "llama": "CAUSAL_LM", "vit": None}
NORMS = {
    "bert": ["attention.output.LayerNorm", "output.LayerNorm"],
    "llama": ["input_layernorm", "post_attention_layernorm"],
    "vit": ["layernorm_before", "layernorm_after"],
}
_RESIDUAL = "warns: with adapters off the model is not the pretrained one"

TUNERS: dict[str, Tuner] = {
    "LoRA": Tuner("LoraConfig", {"r": 4}),
    "rsLoRA": Tuner("LoraConfig", {"r": 4, "use_rslora": True}),
    "DoRA": Tuner("LoraConfig", {"r": 4, "use_dora": True}),
    "PiSSA": Tuner("LoraConfig", {"r": 4, "init_lora_weights": "pissa"}, _RESIDUAL),
    "OLoRA": Tuner("LoraConfig", {"r": 4, "init_lora_weights": "olora"}, _RESIDUAL),
    "HiRA": Tuner("HiraConfig", {"r": 4}),
    "AdaLoRA": Tuner(
        "AdaLoraConfig",
        {"r": 4, "init_r": 6, "target_r": 4, "total_step": STEPS},
        "its orthogonality penalty, added by task-specific PEFT models, reaches skipped adapters; "
        "`update_and_allocate` needs every gradient: call it only once all adapters are active",
    ),
    "LoHa": Tuner("LoHaConfig", {"r": 4}),
    "LoKr": Tuner("LoKrConfig", {"r": 4}),
    "VeRA": Tuner("VeraConfig", {"r": 8}),
    "PVeRA": Tuner("PveraConfig", {"r": 8}),
    "RandLoRA": Tuner("RandLoraConfig", {"r": 4}),
    "VB-LoRA": Tuner("VBLoRAConfig", {"r": 2, "num_vectors": 16, "vector_length": 8}),
    "Uni-LoRA": Tuner("UniLoraConfig", {"r": 2, "theta_d_length": 64}),
    "TinyLoRA": Tuner("TinyLoraConfig", {"r": 2, "u": 8}),
    "GraLoRA": Tuner("GraloraConfig", {"r": 4, "alpha": 8}),
    "GLoRA": Tuner("GloraConfig", {"r": 4}),
    "DeLoRA": Tuner("DeloraConfig", {"r": 4}),
    "AdaMSS": Tuner("AdamssConfig", {"r": 8, "num_subspaces": 2}),
    "DEFT": Tuner("DeftConfig", {"r": 4}),
    "Lily": Tuner("LilyConfig", {"r": 4}),
    "PEANuT": Tuner("PeanutConfig", {"r": 4}),
    "Poly": Tuner(
        "PolyConfig",
        {"r": 4},
        "PEFT hands `task_ids` on only in models with a task type",
        forward={"task_ids": torch.tensor([0, 0])},
    ),
    "MiSS": Tuner("MissConfig", {"r": 4}),
    "OFT": Tuner("OFTConfig", {"oft_block_size": 8}),
    "BOFT": Tuner("BOFTConfig", {"boft_block_size": 8}),
    "HRA": Tuner("HRAConfig", {"r": 4}),
    "PSOFT": Tuner("PsoftConfig", {"r": 4}),
    "RoAd": Tuner("RoadConfig", {"group_size": 8}),
    "OSF": Tuner("OSFConfig", {"effective_rank": 8}),
    "SHiRA": Tuner("ShiraConfig", {"r": 2, "random_seed": 0}),
    "SuperTuning": Tuner("SupertuningConfig", {"sparsity": 0.9}),
    "FRoD": Tuner("FrodConfig", {"progressbar": False}),
    "FourierFT": Tuner("FourierFTConfig", {"n_frequency": 32}),
    "WaveFT": Tuner("WaveFTConfig", {"n_frequency": 32}),
    "C3A": Tuner("C3AConfig", {"block_size": 8}),
    "IA³": Tuner("IA3Config", {"feedforward_modules": []}),
    "BEFT": Tuner("BeftConfig"),
    "LN tuning": Tuner("LNTuningConfig", norms=True),
}

# PEFT types that the table leaves out, and why.
LEFT_OUT: dict[str, str] = {
    "PROMPT_TUNING": "no adapter in any layer: learns input embeddings",
    "MULTITASK_PROMPT_TUNING": "no adapter in any layer: learns input embeddings",
    "P_TUNING": "no adapter in any layer: learns input embeddings",
    "PREFIX_TUNING": "no adapter in any layer: learns keys and values",
    "CPT": "no adapter in any layer: learns input embeddings",
    "CARTRIDGE": "no adapter in any layer: learns keys and values",
    "ADAPTION_PROMPT": "its layers are no PEFT tuner layers",
    "TRAINABLE_TOKENS": "no adapter of a block: learns rows of the embedding, which stay active",
    "XLORA": "mixes LoRA adapters that are already trained",
    "SHADOW": "one side network spans all blocks, so that a block cannot be skipped alone",
}


@dataclasses.dataclass(frozen=True)
class Finding:
    """What trying a tuner on a model showed; empty ``problems`` means that it works."""

    problems: tuple[str, ...] = ()
    shared: int = 0  # parameters that skipped and active layers have in common
    input_dropout: bool = False

    def __str__(self) -> str:
        return "; ".join(self.problems) or "yes"


def try_tuner(tuner: Tuner, model_name: str) -> Finding:
    """Train, gate, save and reload one tuner on one tiny model, and say what is not as it should.

    CoTo trains `STEPS` updates. Then, with the trained adapter: a skipped layer's own parameters
    must get no gradient and an active one's must; with every group skipped, the output must equal
    that of ``disable_adapter()`` bit for bit; and the adapter must load into a fresh base model
    with PEFT alone and give the same output.
    """
    base = tiny_model(model_name)
    batch = tiny_batch(model_name, size=2) | dict(tuner.forward)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(1)
        model = peft.get_peft_model(deepcopy(base), tuner.make(model_name))
        try:
            problems = [*_train(model, batch)]
            gate_problems, shared = _try_gate(model, batch)
            problems += [*gate_problems, *_try_reload(model, base, batch)]
        except Exception as error:  # whatever PEFT raises is a finding
            return Finding((f"{type(error).__name__}: {error}".splitlines()[0],))
    return Finding(tuple(problems), shared, _has_input_dropout(model))


def _train(model: nn.Module, batch: dict[str, Any]) -> Iterable[str]:
    before = _outputs(model.eval(), batch)[0]
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=1e-2)
    model.train()
    with progressive_training(model, total_steps=STEPS) as training:
        for _ in range(STEPS):
            model(**batch).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            training.step()
    after = _outputs(model.eval(), batch)[0]
    if not after.isfinite().all():
        yield "output is not finite after training"
    elif torch.equal(before, after):
        yield "training changes nothing"


def _try_gate(model: nn.Module, batch: dict[str, Any]) -> tuple[list[str], int]:
    problems = []
    model.train()
    with AdapterGate(model) as gate:
        if len(gate) != LAYERS:
            problems.append(f"{len(gate)} groups instead of {LAYERS}")
        gate.set([index == 1 for index in range(len(gate))])
        model(**batch).loss.backward()
        owned = [
            {p for name in names for p in model.get_submodule(name).parameters() if p.requires_grad}
            for names in gate.groups.values()
        ]
        active, skipped = owned[1], owned[0] | owned[2]
        if any(p.grad is not None for p in skipped - active):
            problems.append("skipped layers get gradients")
        if all(p.grad is None for p in active):
            problems.append("active layers get no gradient")
        gate.set([False] * len(gate))
        masked, _ = _outputs(model, batch)  # the logits: disable_adapter() turns off the head, too
    with model.disable_adapter():  # type: ignore[operator]
        if not torch.equal(masked, _outputs(model, batch)[0]):
            problems.append("skipping all differs from disable_adapter()")
    return problems, len(active & skipped)


def _try_reload(model: nn.Module, base: nn.Module, batch: dict[str, Any]) -> Iterable[str]:
    model.eval()
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)  # type: ignore[operator]
        reloaded = peft.PeftModel.from_pretrained(deepcopy(base), folder).eval()
    error = (_outputs(model, batch)[1] - _outputs(reloaded, batch)[1]).abs().max().item()
    if not error < 1e-5:
        yield f"reloaded output differs by {error:.1e}"


def _has_input_dropout(model: nn.Module) -> bool:
    try:
        InputDropout(model)
    except ValueError:
        return False
    return True


def _outputs(model: nn.Module, batch: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the last hidden state and the logits."""
    inputs = {key: value for key, value in batch.items() if key != "labels"}
    with torch.no_grad():
        outputs = model(**inputs, output_hidden_states=True)
    return outputs.hidden_states[-1], outputs.logits


_PAGE = """# Which PEFT tuners work with CoTo

Made by `python -m tools.tuners > docs/tuners.md` with PEFT {version}; a test fails if it is
out of date.

Every tuner was put on a randomly initialised BERT, Llama and ViT of {layers} layers and trained for
{steps} updates with CoTo. "yes" means that all of this held: the gate finds one group per block; a
skipped adapter gets no gradient (`.grad` is None) and an active one does; with everything skipped,
the last hidden state equals that of `disable_adapter()` bit for bit; and the saved adapter loads
with plain `PeftModel.from_pretrained` and gives the same output. *Input dropout* says whether the
strategies `dropout` and `progressive-dropout` apply.

| Tuner | BERT | Llama | ViT | Input dropout | Remarks |
| --- | --- | --- | --- | --- | --- |
{rows}

Left out, because they have no adapter per layer that could be skipped alone:

{left_out}
"""


def render(findings: Mapping[tuple[str, str], Finding]) -> str:
    """Return the page docs/tuners.md for the findings of every (tuner, model)."""
    rows = []
    for name, tuner in TUNERS.items():
        found = [findings[name, model] for model in PROJECTIONS]
        remarks = [tuner.note] if tuner.note else []
        if shared := found[0].shared:
            remarks.append(f"{shared} parameter(s) shared with active layers train on regardless")
        dropout = "yes" if found[0].input_dropout else "no"
        cells = [name, *map(str, found), dropout, "; ".join(remarks)]
        rows.append(f"| {' | '.join(cells)} |".replace("  ", " "))
    left_out = "\n".join(f"- {name}: {reason}." for name, reason in LEFT_OUT.items())
    return _PAGE.format(
        version=peft.__version__,
        steps=STEPS,
        layers=LAYERS,
        rows="\n".join(rows),
        left_out=left_out,
    )


if __name__ == "__main__":
    print(render({(t, m): try_tuner(TUNERS[t], m) for t in TUNERS for m in PROJECTIONS}), end="")
