"""Two gloo processes, started once, that do everything the tests of `tests/distributed` ask of several ranks."""

import copy
import functools
import multiprocessing
import os
import socket
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor

from kdrobust.attacks import GradientAttack, Threat
from kdrobust.config import compose, numbers, register
from kdrobust.data import Batch
from kdrobust.distributed import ConfigDDPStrategy, SameConfig
from kdrobust.errors import KdrobustError
from kdrobust.losses import Objective
from kdrobust.losses.terms import LOSS_MODULES, bind
from kdrobust.losses.weighting import distance_compensated
from kdrobust.models import checkpoint_payload
from kdrobust.modules import DistillationModule, WeightPerturbation
from kdrobust.spec import InputSpec
from kdrobust.stages.run import run_stage
from kdrobust.stages.setup import model_config, new_classifier
from tests.methods import CLASSES, METHODS, batch, loss_of, network

WORLD = 2
#: a batch of ten on two processes
UNEQUAL, EQUAL = ((0, 6), (6, 10)), ((0, 5), (5, 10))

#: a method's own file, and what carries state beyond
AROUND = {
    "ema": ["method=rslad", "+average=ema"],
    "swa": ["method=rslad", "+average=swa", "callbacks.average.begin=0"],
    "awp": ["method=rslad", "+wrap=awp"],
    "hint": ["method=kd", "+features=hint", "features.student=layer1", "features.teacher=layer2"],
    "whole": ["method=adaad"],
    "sharded": ["method=adaad", "+trainer.strategy.shard_teachers=true"],
    "global": ["method=kd", "method.knowledge=dist", "+method.terms.knowledge.scope=global"],
    "curriculum": ["method=kd", "method.knowledge=CurriculumTemperature", "~method.temperature"],
    **{
        name: ["method=dtkd", f"weighting@method.weighting={name}"]
        for name in ("triangle", "entropy", "transferability")
    },
}
RUNS = {**{name: [f"method={name}"] for name in METHODS}, **AROUND}
#: what is trained on shares of a batch, and on the whole of it
CASES = [*METHODS, "curriculum", "triangle", "entropy", "transferability"]
ADAPTED = {
    "attack": {"goal": "cross_entropy", "start": "uniform", "momentum": 0.0},
    "terms": {
        "hint": {"loss": "hint", "student": "0", "teacher": "0", "adapter": "conv", "view": "adversarial"},
        "labels": {"loss": "cross_entropy", "student": "adversarial"},
    },
}


def own(given, share):
    """One process's samples of a batch."""
    rows = slice(*share)
    return Batch(inputs=given.inputs[rows], labels=given.labels[rows], indices=given.indices[rows])


def learning(method):
    """A tiny module that learns by a method's config, and its attack."""
    objective = Objective(method)
    shapes = dict.fromkeys(((model, "0") for model in ("student", "teacher")), (4, 6, 6))
    with torch.random.fork_rng():
        torch.manual_seed(5)
        objective.prepare(classes=CLASSES, shapes=shapes)
    named = sorted((objective.teachers | {objective.attack_model}) - set(objective.partners))
    module = DistillationModule(
        model=network(0),
        objective=objective,
        optimizer=functools.partial(torch.optim.SGD, lr=0.05),
        teachers={name: network(100 + place).eval().requires_grad_(False) for place, name in enumerate(named)},
        partners={name: network(200 + place) for place, name in enumerate(objective.partners)},
    )
    given = {key: method["attack"][key] for key in ("goal", "start", "momentum")}
    # an attack in train mode sees the batch statistics of a process's own share
    attack = GradientAttack(threat=Threat(norm="linf", eps=0.05), steps=3, step_size=0.02, model_mode="eval", **given)
    return module.train(), attack


def shared(module, part):
    """The gradients of the whole batch's loss, of which this process has seen a part."""
    for parameter in module.parameters():
        if parameter.grad is not None:
            parameter.grad *= part
            dist.all_reduce(parameter.grad)


def train(method, shares=None):
    """Two epochs of two steps, alone or as one of several; returns everything that was kept."""
    module, attack = learning(method)
    rank = dist.get_rank() if shares else 0
    # statistics of normalisation layers are each process's own by definition
    for network_ in (module.model, module.partners, module.objective.adapters):
        network_.eval()
    optimizer = module.configure_optimizers()
    for epoch in (2.5, 3.5):
        for step in range(2):
            whole = batch(seed=step)
            given = own(whole, shares[rank]) if shares else whole
            if module.objective.needs_survival:
                given.survived = torch.zeros(len(given))
            if module.objective.needs_attack:
                given.adversarial = module.craft(attack, given, where=step)
            optimizer.zero_grad()
            loss_of(module, given, epoch).loss.backward()
            if shares:
                shared(module, len(given) / len(whole))
            optimizer.step()
        module.on_train_epoch_end()
    return {key: value.clone() for key, value in module.state_dict().items()}


def moved(method, share=None):
    """The weights at which adversarial weight perturbation lets a step's loss be taken."""
    module, attack = learning(method)
    module.model.eval()
    given = batch() if share is None else own(batch(), share)
    given.adversarial = module.craft(attack, given, where=0)
    trainer = SimpleNamespace(
        max_epochs=1, global_step=0, precision_plugin=SimpleNamespace(forward_context=nullcontext)
    )
    WeightPerturbation(gamma=0.1).on_train_batch_start(trainer, module, given, 0)
    return {name: value.detach().clone() for name, value in module.model.named_parameters()}


RELATIONS = ("dist", "class_correlation", "batch_correlation", "similarity_preserving", "relational", "pkt",
             "neighbour_congruence", "soft_target")  # fmt: skip
SAMPLES = 7


def relation(name, share=None):
    """Value and gradient of a loss that sees the samples of all processes."""
    generator = torch.Generator().manual_seed(3)
    student, teacher = (torch.randn(SAMPLES, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    rows = slice(*share) if share else slice(None)
    student = student[rows].clone().requires_grad_(True)
    features = LOSS_MODULES[7]
    inputs = (
        {"student": "layer", "teacher": "layer"}
        if hasattr(features, name)
        else {"student": "clean", "teacher": "clean"}
    )
    bound = bind({"loss": name, "scope": "global", **inputs}, slot="loss", modules=LOSS_MODULES, key="method.terms.a")
    value = bound.apply({"student": student, "teacher": teacher[rows]}, 0.0).mean()
    value.backward()
    return value.detach(), student.grad


def weighting(share=None):
    """DTKD's weights of a batch, whose mean is taken over all processes."""
    generator = torch.Generator().manual_seed(4)
    student, teacher = (3 * torch.randn(SAMPLES, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    labels = torch.arange(SAMPLES) % 5
    rows = slice(*share) if share else slice(None)
    return torch.stack(distance_compensated(student[rows], teacher[rows], labels[rows], alpha=0.2, gamma=2.0))


def complaint(rank, at):
    """What `SameConfig` says of two ranks that differ in their configuration, or in a weight, at the start or the end."""
    trainer = SimpleNamespace(world_size=WORLD, strategy=ConfigDDPStrategy())
    module = network(0)
    if at == "weights" and rank:
        module.state_dict()["0.weight"][0] += 1e-3
    if at == "buffers":
        module.register_buffer("seen", torch.tensor(float(rank)))
    same = SameConfig(f"hash{rank}" if at in ("start", "end") else "hash")
    try:
        (same.on_fit_start if at == "start" else same.on_fit_end)(trainer, module)
    except KdrobustError as error:
        return str(error)
    return ""


COMPLAINTS = ("start", "end", "weights", "buffers", "nothing")


#: seconds a method: tiny networks with batch norm, a few digits, one step of the attack
SHORT = ["epochs=1", "data.limit_train=96"]
TINY = [
    "data.limit_validation=20", "data.batch_size=16", "attack.steps=1", "threads=1",
    "callbacks.robust_validation.attack.steps=1", "callbacks.attack.warmup=0", "callbacks.progress=null",
    *(
        line.format(who)
        for who in ("teacher", "student")
        for line in ("model@{}=resnet18", "{}.network.width=0.05", "{}.network.blocks=[1,1]")
    ),
]  # fmt: skip


def teacher_file(folder):
    """A checkpoint of a network that has learnt nothing."""
    cfg = compose("distill", [*SHORT, *TINY])
    spec = InputSpec(shape=(1, 8, 8), classes=10, mean=(0.3,), std=(0.4,))
    model = new_classifier(cfg.teacher, spec, 1)
    payload = checkpoint_payload(model=model_config(cfg.teacher), spec=spec, stage="teacher", threat=None)
    weights = {f"model.{name}": value for name, value in model.state_dict().items()}
    torch.save({"state_dict": weights, "kdrobust": payload, "epoch": 0}, folder / "teacher.ckpt")
    return folder / "teacher.ckpt"


def held(parameter):
    """How many of a parameter's numbers this process holds."""
    return (parameter.to_local() if isinstance(parameter, DTensor) else parameter).numel()


@contextmanager
def caught():
    """Stage `distill` without its plots and reports: what it had at the end of training is put into a mapping."""
    from kdrobust.stages import distill

    kept, original = {}, distill.finish

    def keep(trainer, module, *arguments, **options):
        kept.update(
            steps=trainer.global_step,
            teacher_numbers=sum(
                held(parameter) for teacher in module.teachers.values() for parameter in teacher.parameters()
            ),
            weights={key: value.clone() for key, value in module.state_dict().items()},
            optimizer=[copy.deepcopy(optimizer.state_dict()) for optimizer in trainer.optimizers],
            callbacks={type(each).__name__: copy.deepcopy(each.state_dict()) for each in trainer.callbacks},
            metrics={key: float(value) for key, value in trainer.callback_metrics.items()},
        )
        return {}

    distill.finish = keep
    try:
        yield kept
    finally:
        distill.finish = original


def configs():
    """Every run's config, composed once for all processes."""
    return {label: compose("distill", [*SHORT, *TINY, *lines, "trainer=ddp_cpu"]) for label, lines in RUNS.items()}


def methods(composed):
    """The methods whose state is looked at by itself, as plain mappings."""
    return {**{label: numbers(composed[label].method) for label in CASES}, "adapter": ADAPTED}


def run(cfg, folder, checkpoint):
    """One run of stage `distill` in this process, through the stage's own code."""
    for node in (cfg.teacher, *cfg.teachers.values()):
        node.checkpoint = str(checkpoint)
    folder.mkdir(parents=True, exist_ok=True)
    cfg.run.root = str(folder.parent)
    with caught() as kept:
        run_stage(cfg, folder)
    return dict(kept)


def _work(rank, port, folder, jobs):
    torch.set_num_threads(1)
    register()
    here = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "LOCAL_RANK": str(rank), "NODE_RANK": "0"}
    os.environ.update({**here, "WORLD_SIZE": str(WORLD)})
    dist.init_process_group("gloo", rank=rank, world_size=WORLD)
    composed, checkpoint = jobs.get()
    share = ((0, 4), (4, SAMPLES))[rank]
    chosen = methods(composed)
    found = {
        "relations": {name: relation(name, share) for name in RELATIONS},
        "weighting": weighting(share),
        "complaints": {at: complaint(rank, at) for at in COMPLAINTS},
        "unequal": {label: train(method, UNEQUAL) for label, method in chosen.items()},
        "moved": moved(chosen["rslad"], EQUAL[rank]),
        "equal": {"mtard": train(chosen["mtard"], EQUAL)},
        "runs": {label: run(cfg, folder / label, checkpoint) for label, cfg in composed.items()},
    }
    torch.save(found, folder / f"rank_{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def two_processes(folder):
    """Start both, wait, and return what each has found, and the methods it was found for.

    Raises:
        AssertionError: one of them failed; its traceback is on standard error.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    jobs = context.Queue()
    processes = [context.Process(target=_work, args=(rank, port, folder, jobs)) for rank in range(WORLD)]
    for process in processes:
        process.start()
    # composed while the others import
    composed, checkpoint = configs(), teacher_file(folder)
    for _ in processes:
        jobs.put((composed, checkpoint))
    for process in processes:
        process.join(timeout=240)
        if process.exitcode is None:
            process.kill()
    assert [process.exitcode for process in processes] == [0, 0]
    return [torch.load(folder / f"rank_{rank}.pt", weights_only=False) for rank in range(WORLD)], methods(composed)
