"""Spoken words through the stages: teacher, student, evaluation on the waveform; and what a user gets wrong."""

import json

import numpy as np
import pytest
from scipy.io import wavfile

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
