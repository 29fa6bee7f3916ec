import dataclasses
import inspect

import peft
import pytest
import torch
from transformers import Trainer, TrainerCallback, TrainerState, TrainingArguments

import coto
from coto import CoToCallback, Schedule, progressive_training
from coto.method.gate import adapter_layers
from coto.method.strategies import Options, make_strategy
from tools.tiny import tiny_batch, tiny_model

STEPS = 12
NAMES = ["vanilla", "coto", "coto-high", "coto-low", "stochastic-depth", "stochastic-depth-linear"]


def bert(**settings):
    torch.manual_seed(0)
    config = peft.LoraConfig(r=2, target_modules=["query", "value"], task_type="SEQ_CLS")
    return peft.get_peft_model(tiny_model("bert"), config)


def rows(count=96):
    batch = tiny_batch("bert", size=count)
    return [{key: value[index] for key, value in batch.items()} for index in range(count)]


class Spy(TrainerCallback):
    """Sees which LoRA layers every forward pass computes, and when."""

    def __init__(self, model):
        self.passes = []
        for name, module in model.named_modules():
            if name.endswith("query.lora_B.default"):
                module.register_forward_hook(self.note)
                self.layers = getattr(self, "layers", 0) + 1
        model.register_forward_pre_hook(lambda *_: self.passes.append([model.training, 0, None]))

    def note(self, *_):
        self.passes[-1][1] += 1

    def on_step_end(self, args, state, control, **kwargs):
        for one in self.passes:
            if one[2] is None:
                one[2] = state.global_step - 1


def train(tmp_path, callback, model=None, **arguments):
    model = model or bert()
    spy = Spy(model)
    settings = {
        "max_steps": STEPS,
        "per_device_train_batch_size": 4,
        "report_to": [],
        "use_cpu": True,
        "logging_steps": 1000,
        "save_strategy": "no",
        "disable_tqdm": True,
    }
    trainer = Trainer(
        model,
        TrainingArguments(str(tmp_path), **(settings | arguments)),
        train_dataset=rows(),
        eval_dataset=rows(8),
        callbacks=[callback, spy],
    )
    return trainer, spy


@pytest.mark.parametrize("name", NAMES)
def test_every_update_trains_the_groups_that_the_strategy_draws(tmp_path, name):
    callback = CoToCallback(name, seed=7)
    trainer, spy = train(tmp_path, callback)
    trainer.train()
    expected = [int(make_strategy(name).flags(7, s, STEPS, 3).sum()) for s in range(STEPS)]
    assert [active for training, active, _ in spy.passes if training] == expected
    assert callback.gate is None


def test_micro_batches_of_one_update_share_one_draw(tmp_path):
    trainer, spy = train(tmp_path, CoToCallback(seed=3), gradient_accumulation_steps=3)
    trainer.train()
    flags = [int(make_strategy("coto").flags(3, s, STEPS, 3).sum()) for s in range(STEPS)]
    assert [active for _, active, _ in spy.passes] == [count for count in flags for _ in range(3)]


def test_the_seed_defaults_to_the_trainers(tmp_path):
    trainer, spy = train(tmp_path, CoToCallback(), seed=99)
    trainer.train()
    expected = [int(make_strategy("coto").flags(99, s, STEPS, 3).sum()) for s in range(STEPS)]
    assert [active for _, active, _ in spy.passes] == expected


def test_evaluation_prediction_and_saving_see_the_whole_model(tmp_path):
    model = bert()
    callback = CoToCallback(p1=0.1)  # hardly ever more than one active group
    trainer, spy = train(
        tmp_path, callback, model, eval_strategy="steps", eval_steps=2, save_strategy="steps",
        save_steps=4, load_best_model_at_end=True, metric_for_best_model="loss",
    )  # fmt: skip
    whole = []

    class Look(TrainerCallback):
        def on_save(self, args, state, control, **kwargs):
            whole.append(callback.gate.active.all())
            whole.append(model.get_model_status().enabled is True)

    trainer.add_callback(Look())
    trainer.train()
    evaluations = [active for training, active, _ in spy.passes if not training]
    assert len(evaluations) >= STEPS // 2
    assert set(evaluations) == {3}
    assert whole == [True] * 6
    assert any(active < 3 for training, active, _ in spy.passes if training)
    spy.passes.clear()
    trainer.predict(rows(4))
    assert {active for _, active, _ in spy.passes} == {3}


def test_early_stop_saves_a_checkpoint_where_p_reaches_it(tmp_path):
    trainer, _ = train(tmp_path, CoToCallback(p0=0.0, stop_at=0.5))
    trainer.train()
    assert trainer.state.global_step == make_strategy("coto", p0=0, stop_at=0.5).stop_step(STEPS)
    assert (tmp_path / f"checkpoint-{trainer.state.global_step}/adapter_config.json").exists()


@pytest.mark.parametrize("place", ["forward", "backward"])
def test_an_exception_in_training_leaves_a_whole_model(tmp_path, place):
    model = bert()

    class Broken(Trainer):
        def training_step(self, *args, **kwargs):
            loss = super().training_step(*args, **kwargs)
            if place == "backward" and self.state.global_step == 3:
                raise RuntimeError("boom")
            return loss

    callback = CoToCallback(p1=0.1)
    trainer, spy = train(tmp_path, callback, model)
    trainer.__class__ = Broken
    if place == "forward":

        def fail(*_):
            if trainer.state.global_step == 3:
                raise RuntimeError("boom")

        handle = model.base_model.model.classifier.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="boom"):
        trainer.train()
    if place == "forward":
        handle.remove()
    assert not any(layer.disable_adapters for _, layer in adapter_layers(model))
    spy.passes.clear()
    trainer.evaluate()
    assert {active for _, active, _ in spy.passes} == {3}
    callback.release()
    assert not any(layer._forward_pre_hooks for _, layer in adapter_layers(model))


def test_a_second_training_with_the_same_callback_starts_at_its_beginning(tmp_path):
    callback = CoToCallback(seed=7)
    counts = []
    for _ in range(2):
        trainer, spy = train(tmp_path, callback)
        trainer.train()
        counts.append([active for _, active, _ in spy.passes])
    assert counts[0] == counts[1]


@pytest.mark.parametrize("name", ["dropout", "progressive-dropout"])
def test_dropout_strategies_set_the_rate_and_put_the_old_one_back(tmp_path, name):
    model = bert()
    layer = model.base_model.model.bert.encoder.layer[0].attention.self.query
    rates = []

    class Look(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, **kwargs):
            rates.append(layer.lora_dropout["default"].p)
            assert layer.lora_dropout["default"].training

    trainer, _ = train(tmp_path, CoToCallback(name), model)
    trainer.add_callback(Look())
    trainer.train()
    strategy = make_strategy(name)
    assert rates == [strategy.dropout_rate(step, STEPS) for step in range(STEPS)]
    assert isinstance(layer.lora_dropout["default"], torch.nn.Identity)


def test_dropout_strategies_need_a_tuner_with_an_input_dropout():
    model = peft.get_peft_model(tiny_model("bert"), peft.IA3Config(
        target_modules=["query"], feedforward_modules=[]))  # fmt: skip
    with (
        pytest.raises(ValueError, match="these adapters have no input dropout"),
        progressive_training(model, total_steps=3, strategy="dropout"),
    ):
        pass


def test_a_model_without_adapters_is_refused_when_training_begins(tmp_path):
    trainer, _ = train(tmp_path, CoToCallback(), tiny_model("bert"))
    with pytest.raises(ValueError, match="has no active PEFT adapter layer"):
        trainer.train()


def test_forbidden_unused_parameters_are_refused(tmp_path):
    trainer, _ = train(tmp_path, CoToCallback(), ddp_find_unused_parameters=False)
    with pytest.raises(ValueError, match="ddp_find_unused_parameters: got False, expected"):
        trainer.train()


def test_several_gpus_in_one_process_are_refused(tmp_path):
    model = torch.nn.DataParallel(bert())
    expected = "got torch.nn.DataParallel .one process, several GPUs., expected one process per GPU"
    with pytest.raises(ValueError, match=expected), progressive_training(model, total_steps=3):
        pass


# --- the plain loop ------------------------------------------------------------------------------


def loop(model, steps=10, stop=None, **arguments):
    torch.manual_seed(1)
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=1e-2)
    model.train()
    with progressive_training(model, total_steps=steps, **arguments) as training:
        while not training.done:
            model(**tiny_batch("bert", seed=training.current_step)).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            training.step()
            if training.current_step == stop:
                raise RuntimeError("stop")
    return model


def test_the_loop_draws_what_the_callback_draws(tmp_path):
    trainer, spy = train(tmp_path, CoToCallback(seed=5))
    trainer.train()
    model = bert()
    looped = Spy(model)
    loop(model, steps=STEPS, seed=5)
    assert [p[:2] for p in looped.passes] == [p[:2] for p in spy.passes]


def test_leaving_the_loop_by_an_exception_makes_the_model_whole():
    model = bert()
    with pytest.raises(RuntimeError, match="stop"):
        loop(model, stop=2, p0=0.0)
    spy = Spy(model)
    model.train()(**tiny_batch("bert"))
    assert spy.passes[0][1] == 3
    assert not any(layer._forward_pre_hooks for _, layer in adapter_layers(model))


def test_start_step_resumes_the_draws():
    model = bert()
    with progressive_training(model, total_steps=20, seed=2, start_step=7) as training:
        resumed = training.gate.active.tolist()
    assert resumed == make_strategy("coto").flags(2, 7, 20, 3).tolist()


def test_an_early_stopped_loop_is_done_early():
    strategy = make_strategy("coto", p0=0.0, stop_at=0.5)
    with progressive_training(bert(), total_steps=20, strategy=strategy) as training:
        training.go_to(7)
        assert not training.done
        training.step()
        assert training.done


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"total_steps": None}, "total_steps: got None, expected the number of optimizer updates"),
        ({"total_steps": 0}, "total_steps: got 0, expected an integer of at least 1"),
        (
            {"total_steps": 5, "strategy": "CoTo"},
            "strategy 'CoTo': expected one of coto,",
        ),
        ({"total_steps": 5, "schedule": "cosine"}, "shape: got 'cosine', expected one of linear"),
        ({"total_steps": 5, "seed": -1}, "seed: got -1"),
        ({"total_steps": 5, "start_step": 0.5}, "start_step: got 0.5"),
    ],
)
def test_errors_are_one_clear_line(arguments, message):
    with (
        pytest.raises(ValueError, match=message) as caught,
        progressive_training(bert(), **arguments),
    ):
        pass
    assert "\n" not in str(caught.value)


def test_a_static_graph_is_refused_at_once(tmp_path):
    arguments = TrainingArguments(str(tmp_path), use_cpu=True, ddp_static_graph=True)
    with pytest.raises(ValueError, match="ddp_static_graph: got True, expected False"):
        CoToCallback().on_train_begin(arguments, TrainerState(max_steps=3), None, model=bert())


def test_defaults_are_stated_once():
    stated = {f.name: f.default for f in dataclasses.fields(Schedule)}
    stated["schedule"] = stated.pop("shape")
    options = {f.name: f.default for f in dataclasses.fields(Options) if f.name != "schedule"}
    for function in (CoToCallback, progressive_training, make_strategy):
        found = {n: p.default for n, p in inspect.signature(function).parameters.items()}
        known = stated | options
        assert {n: v for n, v in found.items() if n in known} == {
            n: v for n, v in known.items() if n in found
        }
        assert stated.keys() <= found.keys()


def test_exports_are_lazy_and_true():
    assert set(coto.__all__) >= {"CoToCallback", "AdapterGate", "Schedule", "progressive_training"}
    assert coto.Schedule is Schedule
    with pytest.raises(AttributeError, match="no attribute 'CotoCallback'"):
        coto.CotoCallback  # noqa: B018
