"""Spoken words through the stages: teacher, student, evaluation on the waveform; and what a user gets wrong."""

import csv
import json

import numpy as np
import pytest
from scipy.io import wavfile

import kdrobust
from kdrobust.data import SpokenWords
from tests.recordings import speak
from tests.stages.conftest import Workplace

SMALL = [
    "epochs=3", "threads=1", "data=spoken_words", "data.source.seconds=0.1", "data.source.test_speakers=[cy]",
    "threat=waveform_linf_0.002",
]  # fmt: skip
TEACHER = ["model@teacher=spectrogram_cnn", "teacher.network.channels=[4,8]", "teacher.network.mels=16"]
STUDENT = ["model@student=ds_cnn", "student.network.channels=8", "student.network.blocks=1", "student.network.mels=16"]
TRAINING = ["attack.steps=2", "callbacks.robust_validation.attack.steps=2", "data.batch_size=16"]


def line(capsys):
    error = capsys.readouterr().err.strip()
    assert "Traceback" not in error
    assert len(error.splitlines()) == 1, error
    return error


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A teacher and its student, on tones; two recordings are stereo, or of another rate."""
    place = Workplace(tmp_path_factory.mktemp("speech"))
    folder = speak(place.folder / "words", takes=10)
    rate, values = wavfile.read(folder / "no_ann_0.wav")
    wavfile.write(folder / "no_ann_0.wav", rate, np.stack([values, values], axis=1))
    wavfile.write(folder / "yes_ann_0.wav", 44100, (np.sin(np.arange(4410) * 0.11) * 9000).astype(np.int16))
    data = f"data.source.path={folder}"
    place.run("teacher", *SMALL, *TEACHER, *TRAINING, data, "run.folder=teacher", "epochs=6")
    place.run(
        "distill", *SMALL, *STUDENT, *TRAINING, data, "method=rslad", "run.folder=student",
        f"teacher.checkpoint={place.folder / 'teacher' / 'best.ckpt'}",
    )  # fmt: skip
    return place


def evaluate(place, name, *overrides, code=0):
    place.run(
        "evaluate", *SMALL[1:], f"data.source.path={place.folder / 'words'}", "evaluation=speech",
        f"checkpoint={place.folder / 'student' / 'best.ckpt'}", f"run.folder={name}", *overrides, code=code,
    )  # fmt: skip
    return json.loads((place.folder / name / "result.json").read_text()) if not code else {}


def test_training_leaves_examples_to_listen_to(trained):
    for stage in ("teacher", "student"):
        files = json.loads((trained.folder / stage / "result.json").read_text())["files"]
        assert {"examples", "clean_0", "adversarial_0"} <= set(files)
        assert all((trained.folder / stage / name).is_file() for name in files.values())
        (rate, clean), (_, attacked) = (
            wavfile.read(trained.folder / stage / files[kind]) for kind in ("clean_0", "adversarial_0")
        )
        assert rate == 8000
        assert 0 < np.abs(attacked.astype(int) - clean).max() <= 0.002 * 32767 + 1


def test_an_evaluation_says_everything_about_sound(trained):
    result = evaluate(trained, "run", "evaluation.check_settings={samples: 10, survivors: 8, long_steps: 10}")
    found = result["evaluation"]
    assert found["threat"] == {"norm": "linf", "eps": 0.002, "bounds": [-1.0, 1.0]}
    assert set(found["attacks"]) == {"fgsm", "pgd20", "margin20"}
    assert found["n"] == 20
    assert found["attacks"]["pgd20"]["snr_db"]["min"] > 20
    assert [check for check in found["checks"] if "could not be run" in check["detail"]] == []
    assert {check["id"]: check["verdict"] for check in found["checks"]}["S0"] in ("pass", "warn")
    assert result["model"]["real_time"]["factor"] > 0
    assert set(result["corruptions"]["corruptions"]) == {
        "volume", "dc_offset", "time_shift", "white_noise", "reverberation",
    }  # fmt: skip
    assert {"examples", "adversarial_3", "surface", "corruptions"} <= set(result["files"])


def test_a_signal_to_noise_threat(trained):
    result = evaluate(
        trained, "snr", "threat=snr_30db", "evaluation.checks=false", "evaluation.corruptions=null",
        "evaluation.latency=false",
    )  # fmt: skip
    attacks = result["evaluation"]["attacks"]
    assert all(attack["snr_db"]["min"] >= 30 - 1e-3 for attack in attacks.values())
    # a little more where the box cuts the loudest samples off
    assert attacks["fgsm"]["snr_db"]["mean"] < 32


@pytest.mark.parametrize(
    ("code", "overrides", "words"),
    [
        (2, ["threat=linf_0.1"], ["threat.bounds=[0.0, 1.0]", "[-1.0, 1.0]", "+threat.bounds=[-1,1]"]),
        (1, ["model@teacher=wide_cnn"], ["ConvNet", "needs images"]),
        (1, ["data=digits", "threat=linf_0.1"], ["LogMel", "needs waveforms"]),
        (1, ["data.source.split=lists"], ["testing_list.txt", "data.source.split"]),
        (1, ["data.source.test_speakers=[zoe]"], ["'zoe'", "ann, bob, cy"]),
        (1, ["data.source.path=nowhere"], ["nowhere", "no such folder"]),
        (2, ["data.source.split=random"], ["data.source.split", "'speaker', 'index', 'lists'"]),
        (2, ["data.source.word=[no]"], ["data.source.word"]),
    ],
)
def test_mistakes_are_one_line(trained, capsys, code, overrides, words):
    given = [*SMALL, *TEACHER, *TRAINING, f"data.source.path={trained.folder / 'words'}"]
    # no keys of what is exchanged
    gone = {"data=digits": "data.source", "model@teacher=wide_cnn": "teacher.network"}
    unread = tuple(prefix for override, prefix in gone.items() if override in overrides)
    trained.run("teacher", *(text for text in given if not text.startswith(unread)), *overrides, code=code)
    error = line(capsys)
    for word in words:
        assert word in error


def test_a_model_of_another_rate(trained, capsys):
    evaluate(trained, "other", "data.source.sample_rate=16000", "data.source.seconds=0.05", code=1)
    assert "built for sample_rate 8000, the data have 16000" in line(capsys)


def test_a_sound_model_s_file_is_measured_and_hears_wav_files(trained, capsys):
    checkpoint = trained.folder / "student" / "best.ckpt"
    trained.run(
        "export", f"checkpoint={checkpoint}", "format=torchscript", *SMALL[1:], "run.folder=exported", "compare=null",
        f"data.source.path={trained.folder / 'words'}", "evaluation.checks=false", "evaluation.latency=false",
        "evaluation.attacks.square.queries=3", "evaluation.num_samples=8",
    )  # fmt: skip
    result = json.loads((trained.folder / "exported" / "result.json").read_text())
    assert {"square", "square_from_twin"} <= set(result["evaluation"]["attacks"])
    card = (trained.folder / "exported" / "MODEL_CARD.md").read_text()
    assert "1 × 800 of sound, 8000 samples a second, each scaled to a largest absolute value of 0.9" in card
    assert "float32 in [-1, 1]" in card
    capsys.readouterr()
    tables = []
    for model in ([str(checkpoint)], [str(trained.folder / "exported" / "model.pt"), "trust=true"]):
        trained.run("predict", *model, f"input={trained.folder / 'words'}", "output=heard.csv", "batch_size=7")
        told = capsys.readouterr().err.splitlines()[-1]
        assert "recordings have another rate or length than the model's (8000 samples a second, 0.1 s)" in told
        with (trained.folder / "heard.csv").open() as file:
            tables.append(list(csv.DictReader(file)))
        (trained.folder / "heard.csv").unlink()
    assert len(tables[0]) == 60
    shares = [[float(row["p_yes"]) for row in table] for table in tables]
    np.testing.assert_allclose(*shares, atol=1e-5)
    # what it hears is what it was trained on
    words = SpokenWords(path=trained.folder / "words", seconds=0.1, test_speakers=["cy"]).load(trained.folder)
    names = [path.name for path in words.x_test.paths]
    wanted = kdrobust.load(checkpoint).predict(words.x_test[np.arange(len(names))]).probabilities[:, 1]
    heard = {row["input"]: float(row["p_yes"]) for row in tables[0]}
    np.testing.assert_allclose([heard[name] for name in names], wanted, atol=1e-6)


def test_a_suite_without_form_for_the_threat(trained, capsys):
    given = [
        *SMALL[1:], f"data.source.path={trained.folder / 'words'}", "threat=snr_30db", "evaluation.checks=false",
        f"checkpoint={trained.folder / 'student' / 'best.ckpt'}", "evaluation.num_samples=4",
    ]  # fmt: skip
    trained.run("evaluate", *given, "evaluation=fast", code=2)
    assert "evaluation.attacks.cascade: it knows no ε that is a share" in line(capsys)
    trained.run(
        "export", *given, "format=torchscript", "run.folder=by_ratio", "compare=null", "evaluation.latency=false"
    )
    told = capsys.readouterr().out
    assert "evaluation.attacks.square is left out" in told
    assert "evaluation.transfer.square is left out" in told
    result = json.loads((trained.folder / "by_ratio" / "result.json").read_text())
    assert set(result["evaluation"]["attacks"]) == {"fgsm", "pgd20", "pgd20_from_twin"}


def test_fast_has_a_form_for_two_classes(trained):
    steps = [f"evaluation.attacks.cascade.attacks.{name}.steps=2" for name in ("apgd_ce", "apgd_t", "apgd_margin")]
    result = evaluate(
        trained, "fast", "evaluation=fast", "evaluation.checks=false", "evaluation.latency=false", *steps,
        "evaluation.attacks.cascade.attacks.square.queries=3",
    )  # fmt: skip
    notes = result["evaluation"]["attacks"]["cascade"]["notes"]
    assert notes == ["dlr_targeted is not defined for 2 classes: climbed margin_targeted"]


def test_a_suite_s_mistakes_name_keys_that_can_be_set(trained, capsys):
    for override, key in (
        ("evaluation.attacks.pgd20.steps=-1", "evaluation.attacks.pgd20.steps=-1"),
        ("evaluation=fast", "evaluation.attacks.cascade.attacks.apgd_t.targets=0"),
    ):
        evaluate(trained, "wrong", override, key, code=2)
        assert line(capsys).startswith(f"{key}: ")
