"""Where a student's teachers come from: a checkpoint, stored outputs, or a training made now; and its partners."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from torch import nn

from kdrobust.attacks import goals
from kdrobust.config import DERIVED, instantiate, run_folder, to_plain
from kdrobust.data import DataModule
from kdrobust.errors import RunFolderBusyError, RunFolderError, UsageError
from kdrobust.losses import Objective
from kdrobust.models import file_hash, load_weights, read_checkpoint
from kdrobust.modules import SharedAnswers
from kdrobust.randomness import address
from kdrobust.report import threat_text
from kdrobust.stages.implied import (
    AUTO,
    MAIN,
    TEACHER_NODE,
    differing,
    is_implied,
    key_of,
    own_training,
    teacher_config,
    teacher_node,
    training_problems,
)
from kdrobust.stages.setup import log, new_classifier, prepare_data, require_file
from kdrobust.stages.shown import check_teacher, restore_teacher, shown_spec
from kdrobust.stages.stored import attach_stored, read_stored
from kdrobust.tracking import is_finished, is_held, is_main_process, wait_for_first_rank
from kdrobust.version import __version__

_WAIT_SECONDS = 6 * 3600.0
#: What stored outputs take over from the run that needs them.
_STORED_BY = ("trusted_modules", "threads", "data")
#: Who waits looks rarely before long: finding out that a run is still at work costs most of its preparation.
_POLL_SECONDS = (0.5, 10.0)
_BYTES_A_GB = 1e9


def once(config: DictConfig, what: str, *, together: bool) -> Path:
    """The folder of a resolved config's finished run; run now unless another job has done it, or is doing it.

    Args:
        config: resolved.
        what: what is done, for the log.
        together: all ranks take part; else rank 0 does it and the others wait.

    Raises:
        RunFolderError: it cannot be run, or is not finished in time.
    """
    from kdrobust.stages.run import run_config

    folder = Path(str(config.run.folder))
    deadline = time.monotonic() + _WAIT_SECONDS
    mine = together or is_main_process()
    announced, pause = "", _POLL_SECONDS[0]
    while not is_finished(folder):
        if not mine:
            wait_for_first_rank(folder, what)
            break
        if time.monotonic() > deadline:
            raise RunFolderError(f"{folder}: not finished by the job that works there; see its run.log and run.lock")
        try:
            # a process that was waited for may have been killed: then this one takes over
            state = "another job is at it; waiting" if is_held(folder) else "once; later runs reuse it"
            if state != announced:
                log.info("%s in %s (%s)", what, folder, state)
            announced = state
            run_config(config)
            # what rank 0 has yet to write down, the others wait for
            mine = is_main_process()
        except RunFolderError as error:
            # another job of the same sweep is at it, or has just finished it
            if not isinstance(error, RunFolderBusyError) and not is_finished(folder):
                raise
            time.sleep(pause)
            pause = min(2 * pause, _POLL_SECONDS[1])
    return folder


def implied_teachers(cfg: DictConfig, names: Sequence[str]) -> dict[str, Any]:
    """The resolved configs of the teachers that a composed config implies, plain, by name.

    Args:
        cfg: composed: a teacher's config shares its references, not its values (`${epochs}` is the teacher's).
        names: the teachers that are asked.

    Raises:
        UsageError: a teacher's training that cannot run.
    """
    from kdrobust.stages.run import resolve

    found: dict[str, Any] = {}
    for name in names:
        if is_implied(cfg, name):
            try:
                found[name] = OmegaConf.to_container(resolve(teacher_config(cfg, name)))
            except UsageError as error:
                training = teacher_node(cfg, name).training
                raise UsageError(
                    f"{key_of(name)}.checkpoint=auto, the teacher that {training} makes: {error}"
                ) from None
    return found


def _implied_config(cfg: DictConfig, name: str) -> DictConfig:
    """A teacher's own config, out of its student's resolved one."""
    config = OmegaConf.create(OmegaConf.to_container(cfg[DERIVED].teachers[name]))
    assert isinstance(config, DictConfig)
    return config


def _train_once(cfg: DictConfig, name: str) -> Path:
    """The best checkpoint of the teacher a config implies; trained now unless some run has finished it."""
    config, what = _implied_config(cfg, name), f"{key_of(name)}.checkpoint=auto: training the teacher"
    if is_main_process() and not is_finished(Path(str(config.run.folder))):
        training = str(teacher_node(cfg, name).training)
        log.info("%s: %s", key_of(name), own_training(training, config, cfg.get(training) or {}))
    return once(config, what, together=True) / "best.ckpt"


def _store_once(cfg: DictConfig, name: str, checkpoint: Path, data: DataModule) -> Path:
    """The folder of a teacher's clean logits on the student's data; stored now unless some run has done so."""
    kept = {key: to_plain(cfg[key]) if OmegaConf.is_config(cfg[key]) else cfg[key] for key in _STORED_BY if key in cfg}
    if "seed" in kept["data"]:
        # the logits of a split do not depend on the order in which a student will see it
        kept["data"]["seed"] = 0
    config = OmegaConf.create(
        {
            **kept,
            "stage": "outputs",
            "seed": 0,
            # nor on how its student is trained
            "trainer": {"accelerator": cfg.trainer.get("accelerator", "cpu")},
            "teacher": {"checkpoint": str(checkpoint), **_shown(teacher_node(cfg, name))},
            # by content: another teacher at the same path, or other data, are other outputs
            "run": {
                "name": f"{data.name}_{data.fingerprint[:8]}_{file_hash(checkpoint)[:8]}",
                "root": cfg.run.root,
                "folder": None,
            },
        }
    )
    config.run.folder = str(run_folder(config, reuse_finished=True))
    what = f"{key_of(name)}.outputs=auto: storing the teacher's clean logits"
    return once(config, what, together=False)


def _shown(node: DictConfig) -> dict[str, Any]:
    return {"transform": to_plain(node.transform)} if node.get("transform") is not None else {}


def _check_own_data(cfg: DictConfig, data: DataModule, name: str) -> None:
    """Before a teacher is trained on data of its own: whether it could teach the student's."""
    if not is_implied(cfg, name):
        return
    node = teacher_node(cfg, name)
    training = cfg.get(str(node.training)) or {}
    if training.get("data") is not None:
        own = prepare_data(_implied_config(cfg, name)).spec
        check_teacher(own, data.spec, node.get("transform"), f"{node.training}.data", key_of(name))


def find_checkpoint(cfg: DictConfig, name: str = MAIN) -> Path:
    """A teacher's checkpoint, trained first where `checkpoint=auto` (or none, of a further teacher) finds none.

    Raises:
        UsageError: a checkpoint is named that does not exist.
    """
    if is_implied(cfg, name):
        return _train_once(cfg, name)
    key = f"{key_of(name)}.checkpoint"
    value = teacher_node(cfg, name).checkpoint
    return require_file(value, key, f"train one with `kdrobust teacher`, or set {key}=auto")


def _climbed(cfg: DictConfig, objective: Objective) -> str:
    # text, because the goal may also be a node that names the function; nothing is climbed without an attack
    return str(cfg.attack.get("goal", "")) if objective.needs_attack and cfg.get("attack") else ""


def asked_teachers(cfg: DictConfig, objective: Objective) -> list[str]:
    """Names of the frozen teachers that the method's terms or its attack ask."""
    climbed = {objective.attack_model} if "teacher" in _climbed(cfg, objective) else set()
    return sorted((objective.teachers | climbed) - set(objective.partners))


def needs_live_teacher(cfg: DictConfig, objective: Objective, name: str = MAIN) -> bool:
    """Whether a teacher is asked for what stored outputs cannot answer: attacked inputs, features, gradients."""
    beyond = any(
        reference.model == name and (reference.view != "clean" or reference.kind != "logits")
        for reference in objective.references
    )
    climbed = any(goal in _climbed(cfg, objective) for goal in goals.NEED_LIVE_TEACHER)
    return beyond or (climbed and objective.attack_model == name)


def _load(
    cfg: DictConfig, objective: Objective, data: DataModule, name: str
) -> tuple[nn.Module | None, Mapping[str, Any]]:
    node = teacher_node(cfg, name)
    if node.outputs not in (None, AUTO):
        folder = require_file(node.outputs, f"{key_of(name)}.outputs", "make it with `kdrobust outputs`")
        if needs_live_teacher(cfg, objective, name):
            raise UsageError(
                f"{key_of(name)}.outputs: this method asks the teacher about attacked inputs or its insides, which "
                f"cannot be stored; set {key_of(name)}.outputs=null"
            )
        manifest = read_stored(folder)
        attach_stored(folder, manifest, data, name, to_plain(cfg.data))
        return None, {"outputs": str(folder), "sha256": manifest["checkpoint"]["sha256"]}
    _check_own_data(cfg, data, name)
    path = find_checkpoint(cfg, name)
    checkpoint = read_checkpoint(path)
    model = restore_teacher(path, data.spec, node.get("transform"), key_of(name), checkpoint)
    model.eval().requires_grad_(False)
    if is_main_process():
        log.info("%s: %s", name, path)
        _tell_other_threat(cfg, name, checkpoint)
    if _storable(cfg, objective, name) and not data.augmentations:
        stored = _store_once(cfg, name, path, data)
        # the teacher stays at hand: validation asks it about attacked inputs
        attach_stored(stored, read_stored(stored), data, name)
    return model, {"checkpoint": str(path), "sha256": file_hash(path), **_shown(node)}


def _tell_other_threat(cfg: DictConfig, name: str, checkpoint: Mapping[str, Any]) -> None:
    """Warn of a teacher that withstands something else than its student shall; one trained without attack is meant."""
    trained = checkpoint["kdrobust"].get("threat")
    if not trained or teacher_node(cfg, name).get("transform") is not None:
        return
    theirs, own = threat_text(trained), threat_text(instantiate(cfg.threat).describe())
    if theirs != own:
        log.warning("%s: was trained against %s, the student is trained against %s", name, theirs, own)


def _storable(cfg: DictConfig, objective: Objective, name: str) -> bool:
    return teacher_node(cfg, name).outputs == AUTO and not needs_live_teacher(cfg, objective, name)


def shared_answers(
    cfg: DictConfig,
    objective: Objective,
    data: DataModule,
    teachers: Mapping[str, nn.Module],
    origin: Mapping[str, Any] | None,
) -> list[SharedAnswers]:
    """The callback by which a sweep's jobs share their teachers' answers on augmented images; none where none do."""
    limit = float(cfg.teacher.get("shared_views_gb") or 0.0) * _BYTES_A_GB
    shared = [name for name in teachers if _storable(cfg, objective, name)]
    if not (cfg.run.get("sweep") and data.augmentations and shared and limit and origin):
        return []
    seen = {
        "data": data.fingerprint,
        "seed": data.seed,
        "batch_size": data.batch_size,
        "augmentation": to_plain(cfg.data)["augmentation"],
        "kdrobust": __version__,
    }
    keys = {
        name: {**seen, "teacher": origin.get(name, origin)["sha256"], **_shown(teacher_node(cfg, name))}
        for name in shared
    }
    return [SharedAnswers(root=Path(str(cfg.run.root)).expanduser() / "answers", keys=keys, limit=limit)]


def tapped_teachers(cfg: DictConfig, objective: Objective, data: DataModule) -> dict[str, nn.Module]:
    """The teachers whose features the method reads, untrained where they have yet to be: for their shapes.

    Raises:
        UsageError: a checkpoint is named that does not exist.
    """
    models: dict[str, nn.Module] = {}
    for name in sorted({model for model, _ in objective.taps} & objective.teachers):
        node = teacher_node(cfg, name)
        if node.outputs not in (None, AUTO):
            continue
        if is_implied(cfg, name):
            models[name] = new_classifier(
                node, shown_spec(data.spec, node.get("transform"), key_of(name)), int(cfg.seed)
            )
        else:
            models[name] = restore_teacher(find_checkpoint(cfg, name), data.spec, node.get("transform"), key_of(name))
    return models


def load_teachers(
    cfg: DictConfig, objective: Objective, data: DataModule
) -> tuple[dict[str, nn.Module], Mapping[str, Any] | None]:
    """The teachers a method names, ready to answer.

    Args:
        cfg: the config of stage `distill`.
        objective: says which teachers are needed, and on which views.
        data: the student's data; stored outputs are attached to it.

    Returns:
        Name to frozen model (without those for which stored outputs answer), and what `result.json` says about them:
        of one teacher its file and hash, of several the same by name, None where there is none.

    Raises:
        UsageError: a file that does not exist, or stored outputs for a method whose teacher must see attacked inputs.
        CheckpointError: a checkpoint or outputs that do not fit the data.
    """
    names = asked_teachers(cfg, objective)
    for name in names:
        teacher_node(cfg, name)
    models: dict[str, nn.Module] = {}
    origins: dict[str, Any] = {}
    for name in names:
        model, origins[name] = _load(cfg, objective, data, name)
        if model is not None:
            models[name] = model
    if not names:
        return {}, None
    return models, origins[names[0]] if len(names) == 1 else origins


def teacher_problems(cfg: DictConfig, objective: Objective) -> list[str]:
    """What is wrong with `teachers`, `partners` and how teachers are trained, one line each: what nobody reads."""
    problems = training_problems(cfg)
    for group, wanted in (("teachers", asked_teachers(cfg, objective)), ("partners", list(objective.partners))):
        nodes = cfg.get(group) or {}
        for name, node in nodes.items():
            if name not in wanted:
                known = f"; it reads {', '.join(wanted)}" if wanted else ""
                problems.append(f"{group}.{name}: the method reads no such model{known}")
            elif not isinstance(node, DictConfig):
                problems.append(f"{group}.{name}: expected keys such as checkpoint, got {node!r}")
            else:
                strange = [str(key) for key in node if key not in TEACHER_NODE]
                problems += [
                    f"{group}.{name}.{key}: nothing reads it; it takes {', '.join(TEACHER_NODE)}" for key in strange
                ]
    return problems


def new_partners(cfg: DictConfig, objective: Objective, data: DataModule) -> dict[str, nn.Module]:
    """The models that learn beside the student: built as `partners.NAME`, or else `teacher`, describes them.

    Raises:
        UsageError: a checkpoint to start from that does not exist.
        CheckpointError: one of another model.
    """
    models: dict[str, nn.Module] = {}
    for name in objective.partners:
        own = (cfg.get("partners") or {}).get(name)
        base = {**to_plain(cfg.teacher), "checkpoint": None}
        node = OmegaConf.create(differing(base, to_plain(own) if own is not None else {}))
        model = new_classifier(node, data.spec, address(int(cfg.seed), f"partner {name}"))
        if node.checkpoint is not None:
            path = require_file(node.checkpoint, f"partners.{name}.checkpoint", "leave it out to start afresh")
            load_weights(model, read_checkpoint(path), path)
        models[name] = model
    return models
