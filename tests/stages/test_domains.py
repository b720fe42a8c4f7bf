"""Teacher and student in two domains or two modalities, through the stages; and what a user gets wrong."""

import json

import numpy as np
import pytest
import torch

from kdrobust.config import compose_group
from kdrobust.losses import Objective
from kdrobust.stages.labels import free_methods, readers
from tests.methods import METHODS
from tests.recordings import speak
from tests.stages.conftest import Workplace

FAST = [
    "epochs=2",
    "threads=1",
    "attack.steps=1",
    "callbacks.robust_validation.attack.steps=1",
    "callbacks.attack.warmup=0",
]
NETS = [
    line.format(who) for who in ("teacher", "student") for line in ("model@{}=mlp", "{}.network.hidden=[6]")
]  # fmt: skip

FREE = {"rslad", "adaad", "ard", "igdm", "mtard", "saad", "article_mse"}


def line(capsys):
    error = capsys.readouterr().err.strip()
    assert "Traceback" not in error
    assert len(error.splitlines()) == 1, error
    return error


def arrays(path, *, classes=3, side=8, order=None, names=()):
    """Bars at a height a class, noisier than one would like."""
    generator = np.random.default_rng(classes)
    labels = np.arange(90) % classes
    images = generator.random((90, side, side)).astype(np.float32) * 0.6
    for place, label in enumerate(labels):
        images[place, 2 * label : 2 * label + 2] += 0.4
    trained = labels[:60] if order is None else labels[:60][order]
    more = {"class_names": np.array(names)} if names else {}
    np.savez(path, x_train=images[:60], y_train=trained, x_test=images[60:], y_test=labels[60:], **more)
    return path


def weights(folder):
    return torch.load(folder / "best.ckpt", weights_only=True)["state_dict"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A source domain of 16x16 pixels, a teacher of it at 8x8, and a target domain whose labels are of no use."""
    place = Workplace(tmp_path_factory.mktemp("domains"))
    arrays(place.folder / "source.npz", side=16)
    arrays(place.folder / "target.npz")
    arrays(place.folder / "permuted.npz", order=np.random.default_rng(3).permutation(60))
    arrays(place.folder / "many.npz", classes=4)
    arrays(place.folder / "named.npz", names=("cat", "dog", "owl"))
    own = [
        "data@teacher_training.data=npz", "teacher_training.data.source.path=source.npz", "teacher_training.epochs=2",
        "transform@teacher_training.data.transform=resize", "teacher_training.attack.steps=1",
        "teacher_training.name=source",
    ]  # fmt: skip
    place.run(
        "distill",
        *FAST,
        *NETS,
        *own,
        "data=npz",
        "data.source.path=target.npz",
        "data.unlabelled=true",
        "run.folder=first",
    )
    place.teacher = place.only("outputs/teacher/source-*") / "best.ckpt"
    return place


def distil(place, *overrides, code=0, data="target.npz"):
    checkpoint = (
        []
        if any(text.startswith("teacher.checkpoint") for text in overrides)
        else [f"teacher.checkpoint={place.teacher}"]
    )
    place.run(
        "distill",
        *FAST,
        *NETS,
        "data=npz",
        f"data.source.path={data}",
        "data.unlabelled=true",
        *checkpoint,
        *overrides,
        code=code,
    )


def test_the_teacher_was_trained_on_its_own_domain_and_the_student_on_the_other(place):
    teacher, student = (
        json.loads((folder / "result.json").read_text()) for folder in (place.teacher.parent, place.folder / "first")
    )
    assert teacher["data"]["fingerprint"] != student["data"]["fingerprint"]
    assert {"accuracy", "robust_accuracy"} <= set(teacher["validation"])
    assert student["teacher"]["checkpoint"].endswith(str(place.teacher.relative_to(place.folder)))
    told = student["validation"]
    assert "accuracy" not in told
    assert 0 <= told["robust_agreement"] <= told["agreement"] <= 1
    header, *_ = (place.folder / "first" / "metrics.csv").read_text().splitlines()
    assert "val/robust_agreement" in header
    assert "train/robust_accuracy" not in header
    assert "val/transferability" not in header
    assert (place.folder / "first" / "training.png").is_file()


def test_permuted_labels_train_the_same_student_and_choose_the_same_epoch(place):
    for name, data in (("plain", "target.npz"), ("shuffled", "permuted.npz")):
        distil(place, "method=ard", "seed=1", f"run.folder={name}", data=data)
    first, second = (weights(place.folder / name) for name in ("plain", "shuffled"))
    assert all(torch.equal(value, second[key]) for key, value in first.items())
    one, other = (json.loads((place.folder / name / "result.json").read_text()) for name in ("plain", "shuffled"))
    assert one["validation"] == other["validation"]
    assert one["data"] == other["data"]


def test_it_is_evaluated_with_the_labels_of_the_first_domain_too(place):
    place.run(
        "evaluate", "threads=1", "data=npz", "data.source.path=source.npz", "transform@data.transform=resize",
        f"checkpoint={place.folder / 'first' / 'best.ckpt'}", "evaluation=transfer", "evaluation.checks=false",
        "evaluation.latency=false", "run.folder=back",
    )  # fmt: skip
    found = json.loads((place.folder / "back" / "result.json").read_text())["evaluation"]
    assert found["n"] == 30
    assert "pgd20_from_teacher" in found["attacks"]


@pytest.mark.parametrize(
    ("overrides", "code", "words"),
    [
        (["method=pgd_at"], 2, ["method.terms.adversarial: reads labels", "data.unlabelled=true", "rslad", "adaad", "ard"]),
        (["method=kd"], 2, ["method.terms.prediction: reads labels", "set method.alpha=0"]),
        (["teacher.checkpoint=auto"], 2, ["teacher.checkpoint=auto", "data@teacher_training.data=..."]),
        (["+average=ema"], 2, ["callbacks.average: chooses the averaged weights by labels", "leave it out"]),
        (["callbacks.best.monitor=val/accuracy"], 2, ["callbacks.best.monitor=val/accuracy", "val/robust_agreement"]),
        (["transform@teacher.transform=resize", "teacher.transform.size=5"], 1, ["takes inputs (1, 8, 8)", "(1, 5, 5)"]),
        (["transform@teacher.transform=corrupt", "teacher.transform.name=fog"], 2, ["teacher.transform: fog draws noise"]),
        (["transform@teacher.transform=spectrogram"], 2, ["teacher.transform: LogMel: needs waveforms"]),
        (["data.source.path=source.npz"], 1, ["teacher.checkpoint=", "takes inputs (1, 8, 8)", "transform@teacher.transform"]),
        (["data.source.path=many.npz"], 1, ["has 3 classes, the data have 4"]),
        (["data.source.path=named.npz"], 1, ["its class 0 is '0'", "'cat'", "the same classes in the same order"]),
        (
            ["teacher.checkpoint=auto", "data@teacher_training.data=npz", "teacher_training.data.source.path=source.npz"],
            1, ["teacher_training.data", "takes inputs (1, 16, 16), the data are (1, 8, 8)"],
        ),
        (["transform@data.transform=corrupt", "data.transform.name=mist"], 2, ["data.transform: name: no corruption 'mist'"]),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(place, capsys, overrides, code, words):
    distil(place, *overrides, "run.folder=refused", code=code)
    error = line(capsys)
    assert all(word in error for word in words), error
    assert not (place.folder / "refused").exists()


def test_a_pipeline_compares_models_of_the_same_inputs_and_labels(place, capsys):
    place.run("pipeline", *FAST, "data.unlabelled=true", "transform@teacher.transform=resize", code=2)
    told = capsys.readouterr().err
    assert "data.unlabelled=true: the pipeline's student alone" in told
    assert "teacher.transform: the pipeline compares" in told


def test_a_refusal_names_the_methods_that_read_no_label():
    assert set(free_methods()) == FREE


@pytest.mark.parametrize("method", METHODS)
def test_a_method_is_free_of_labels_if_its_terms_are(method):
    objective = Objective(compose_group("method", method, ("+epochs=1", "+threat.eps=0.1")))
    assert (not readers(objective)) == (method in FREE)


@pytest.fixture(scope="module")
def heard(tmp_path_factory):
    """A teacher of spectrograms and a student of waveforms, on tones."""
    place = Workplace(tmp_path_factory.mktemp("modalities"))
    speak(place.folder / "words", takes=6)
    place.sound = [
        "data=spoken_words",
        "data.source.path=words",
        "data.source.seconds=0.1",
        "data.source.test_speakers=[cy]",
    ]
    own = [f"teacher_training.{text}" for text in place.sound[1:]]
    place.run(
        "distill", "experiment=modalities/spectrogram_to_waveform", "data@teacher_training.data=spoken_words", *own, *FAST,
        *place.sound, "teacher.network.width=0.1", "student.network.channels=[4,4]", "student.network.kernel=16",
        "teacher_training.epochs=2", "teacher_training.attack.steps=1", "run.folder=student",
    )  # fmt: skip
    place.teacher = place.only("outputs/teacher/*") / "best.ckpt"
    return place


def test_each_has_its_own_modality(heard):
    result = json.loads((heard.folder / "student" / "result.json").read_text())
    assert result["teacher"]["transform"]["_target_"].endswith("Spectrogram")
    assert result["threat"]["bounds"] == [-1.0, 1.0]
    taught = json.loads((heard.teacher.parent / "result.json").read_text())
    assert (taught["threat"]["bounds"], taught["threat"]["eps"]) == ([0.0, 1.0], pytest.approx(8 / 255))
    assert {"agreement", "accuracy", "transferability"} <= set(result["validation"])


def test_the_teacher_tells_the_same_of_a_recording_and_of_its_picture(heard):
    sound = [*heard.sound, "threads=1", f"teacher.checkpoint={heard.teacher}"]
    heard.run("outputs", *sound, "transform@teacher.transform=spectrogram", "run.folder=told")
    heard.run("outputs", *sound, "transform@data.transform=spectrogram", "run.folder=seen")
    from safetensors.torch import load_file

    told, seen = (load_file(heard.folder / name / "outputs.safetensors") for name in ("told", "seen"))
    for split, logits in told.items():
        torch.testing.assert_close(logits, seen[split])


def test_examples_of_the_teacher_are_made_through_its_transform(heard):
    heard.run(
        "evaluate", *heard.sound, "threat=waveform_linf_0.002", "threads=1", "evaluation=transfer", "evaluation.checks=false",
        "evaluation.latency=false", f"checkpoint={heard.folder / 'student' / 'best.ckpt'}", "run.folder=evaluated",
    )  # fmt: skip
    found = json.loads((heard.folder / "evaluated" / "result.json").read_text())["evaluation"]
    assert "pgd20_from_teacher" in found["attacks"]
    assert found["n"] == 12


def test_a_live_teacher_is_attacked_through_its_transform(heard):
    heard.run(
        "distill", "experiment=modalities/spectrogram_to_waveform", "method=adaad", *heard.sound, *FAST, "epochs=1",
        "student.network.channels=[4,4]", "student.network.kernel=16", f"teacher.checkpoint={heard.teacher}",
        "run.folder=live",
    )  # fmt: skip
    assert "adversarial_agreement" in json.loads((heard.folder / "live" / "result.json").read_text())["validation"]
