"""Scoring any number of images: resumed after a kill, the same scores whatever happened, and bad input told."""

import csv
import sys

import numpy as np
import pytest
from PIL import Image

from kdrobust.cli import main
from kdrobust.detection import stream
from kdrobust.detection.calibration import read_calibration, scores_of
from kdrobust.models import restore_classifier
from kdrobust.serving.images import open_images
from tests import detectors
from tests.export.models import save_checkpoint


@pytest.fixture
def typed(place, tmp_path):
    """The arguments of a run on 150 images."""
    detectors.clean_npz(tmp_path / "x.npz", 150)
    checkpoint = f"checkpoint={place / 'detector' / 'best.ckpt'}"
    return ["detect", checkpoint, f"input={tmp_path / 'x.npz'}", f"output={tmp_path / 'scores.csv'}", "fpr=0.05"]


def rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def wanted(place, tmp_path):
    import torch

    model = restore_classifier(place / "detector" / "best.ckpt")
    return scores_of(model, torch.from_numpy(np.load(tmp_path / "x.npz")["x"]))


def test_scores_and_flags(place, typed, tmp_path, capsys):
    assert main([*typed, "batch_size=64"]) == 0
    found = rows(tmp_path / "scores.csv")
    assert [row["input"] for row in found] == [str(place) for place in range(150)]
    scores = wanted(place, tmp_path)
    assert np.allclose([float(row["score"]) for row in found], scores, atol=1e-4)
    threshold = read_calibration(place / "detector" / "best.ckpt").threshold(0.05)
    flags = [int(row["flagged"]) for row in found]
    assert flags == [int(score > threshold) for score in scores]
    error = capsys.readouterr().err
    assert f"{sum(flags)} of 150 images flagged" in error
    assert "0.05 of 60 clean validation images may lie above it" in error
    assert "a second" in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scores.csv", "x.npz"]


def test_a_threshold_on_natural_images(place, typed, capsys):
    assert main([*typed[:4], "fpr=0.01", "threshold_on=natural"]) == 0
    threshold = read_calibration(place / "detector" / "best.ckpt").threshold(0.01, "natural")
    assert f"score above {threshold:.4g} (0.01 of 180 natural validation images" in capsys.readouterr().err


def test_parquet(place, typed, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    output = tmp_path / "scores.parquet"
    assert main([*typed[:3], f"output={output}", "threshold=0.5"]) == 0
    table = parquet.read_table(output).to_pydict()
    assert list(table) == ["input", "score", "flagged"]
    assert np.allclose(table["score"], wanted(place, tmp_path), atol=1e-4)
    assert table["flagged"] == [score > 0.5 for score in table["score"]]


def test_without_pyarrow_it_says_so(typed, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert main([*typed[:3], f"output={tmp_path / 'scores.parquet'}"]) == 2
    assert "pip install pyarrow, or choose .csv" in capsys.readouterr().err


class Killed(BaseException):
    """What a signal does."""


def kill_after(monkeypatch, count):
    """End the run when so many batches were answered."""
    from kdrobust.serving.student import Student

    original, answered = Student.predict, []

    def predict(self, pixels, **more):
        if len(answered) == count:
            raise Killed
        answered.append(len(pixels))
        return original(self, pixels, **more)

    monkeypatch.setattr(Student, "predict", predict)
    return answered


def test_a_killed_run_goes_on(place, typed, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(stream, "_IMAGES", 40)
    with monkeypatch.context() as patched:
        kill_after(patched, 5)
        with pytest.raises(Killed):
            main([*typed, "batch_size=20"])
    assert not (tmp_path / "scores.csv").exists()
    with monkeypatch.context() as patched:
        answered = kill_after(patched, 99)
        assert main([*typed, "batch_size=7"]) == 0
    assert sum(answered) == 50
    assert "100 of 150 images were scored by an earlier run" in capsys.readouterr().err
    found = [float(row["score"]) for row in rows(tmp_path / "scores.csv")]
    assert np.allclose(found, wanted(place, tmp_path), atol=1e-4)


@pytest.mark.parametrize("change", ["input", "part", "question"])
def test_what_has_changed_is_scored_again(place, typed, tmp_path, monkeypatch, change):
    monkeypatch.setattr(stream, "_IMAGES", 20)
    with monkeypatch.context() as patched:
        kill_after(patched, 5)
        with pytest.raises(Killed):
            main([*typed, "batch_size=20"])
    again = list(typed)
    if change == "input":
        detectors.clean_npz(tmp_path / "x.npz", 151)
    elif change == "part":
        part = sorted((tmp_path / ".scores.csv.parts").glob("part_*"))[2]
        part.write_bytes(part.read_bytes()[:50])
    else:
        again.append("resize=true")
    answered = kill_after(monkeypatch, 99)
    assert main([*again, "batch_size=20"]) == 0
    assert sum(answered) == {"input": 151, "part": 110, "question": 150}[change]
    assert len(rows(tmp_path / "scores.csv")) == (151 if change == "input" else 150)


def pictures(folder, count):
    folder.mkdir()
    for number in range(count):
        Image.new("L", (8, 8), number).save(folder / f"{number:03d}.png")
    return folder


def test_a_bad_file_ends_the_run_and_what_was_scored_is_kept(place, typed, tmp_path, monkeypatch, capsys):
    folder = pictures(tmp_path / "in", 30)
    (folder / "025.png").write_text("I am a text.")
    command = [typed[0], typed[1], f"input={folder}", *typed[3:], "batch_size=5"]
    assert main(command) == 1
    error = capsys.readouterr().err
    assert "025.png: no readable image" in error
    assert "Traceback" not in error
    (folder / "025.png").unlink()
    answered = kill_after(monkeypatch, 99)
    assert main(command) == 0
    assert sum(answered) == 4
    assert [row["input"] for row in rows(tmp_path / "scores.csv")][-5:] == [
        f"{n:03d}.png" for n in (24, 26, 27, 28, 29)
    ]


def test_only_a_batch_is_in_memory(place, tmp_path):
    """Batches come one by one, from any place on, and say what files they were."""
    images = open_images(pictures(tmp_path / "in", 12), (1, 8, 8))
    batches = list(images.batches(4, 6))
    assert [names for names, _ in batches] == [["006.png", "007.png", "008.png", "009.png"], ["010.png", "011.png"]]
    assert images.names(3, 5) == ["003.png", "004.png"]
    before = images.version(3, 5)
    Image.new("L", (8, 8), 99).save(tmp_path / "in" / "004.png")
    assert images.version(3, 5) != before
    assert images.version(0, 3) == images.version(0, 3) != before


@pytest.mark.parametrize("compressed", [False, True])
def test_an_array_is_read_from_a_place_on(tmp_path, compressed):
    values = np.arange(10 * 4, dtype=np.float32).reshape(10, 1, 2, 2)
    (np.savez_compressed if compressed else np.savez)(tmp_path / "x.npz", x=values)
    images = open_images(tmp_path / "x.npz", (1, 2, 2))
    found = list(images.batches(4, 5))
    assert [names for names, _ in found] == [["5", "6", "7", "8"], ["9"]]
    assert np.array_equal(np.concatenate([pixels for _, pixels in found]), values[5:])
    assert images.names(8, 20) == ["8", "9"]


def empty_folder(path):
    path.mkdir()
    return path


def big_picture(path):
    Image.new("L", (9, 7), 3).save(path.with_suffix(".png"))
    return path.with_suffix(".png")


def text_picture(path):
    path.with_suffix(".png").write_text("no")
    return path.with_suffix(".png")


def loud_array(path):
    np.savez(path.with_suffix(".npz"), x=np.full((3, 1, 8, 8), 7.0))
    return path.with_suffix(".npz")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path, "no such file or folder"),
        (empty_folder, "no images in this folder"),
        (big_picture, "9x7 pixels, the model takes 8x8; set resize=true"),
        (text_picture, "no readable image"),
        (loud_array, "expected [0, 1]"),
    ],
)
def test_bad_images(typed, tmp_path, capsys, make, words):
    given = make(tmp_path / "given")
    assert main([*typed[:2], f"input={given}", *typed[3:]]) == 1
    error = capsys.readouterr().err.strip()
    assert words in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "scores.csv").exists()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["output=scores.json"], "expected a name that ends in .csv or .parquet"),
        (["fpr=2"], "fpr=2: expected a share between 0 and 1"),
        (["fpr=nan"], "expected a share"),
        (["threshold=high"], "expected a number"),
        (["batch_size=0"], "expected an integer >= 1"),
        (["resize=perhaps"], "expected true or false"),
        (["threshold_on=mud"], "threshold_on=mud: expected clean or natural"),
        (["ouput=x.csv"], "no such key; did you mean output"),
        (["--fast"], "write key=value"),
        (["array="], "a value is missing"),
        (["input=x.npz"], "output= is missing"),
    ],
)
def test_mistakes(typed, tmp_path, monkeypatch, capsys, more, words):
    monkeypatch.chdir(tmp_path)
    command = [*typed, *more] if more != ["input=x.npz"] else [*typed[:2], *more]
    assert main(command) == 2
    assert words in capsys.readouterr().err


def test_a_classifier_is_no_detector(typed, tmp_path, capsys):
    path = save_checkpoint(tmp_path / "c.ckpt")
    assert main([typed[0], f"checkpoint={path}", *typed[2:]]) == 2
    assert "no detector (its classes are a, b|c, ü ...)" in capsys.readouterr().err


def test_a_rate_that_too_few_images_fix(typed, capsys):
    assert main([*typed[:4], "fpr=0.01"]) == 1
    assert "fpr=0.01: 60 clean validation inputs cannot fix it" in capsys.readouterr().err


def test_what_is_there_is_not_overwritten(typed, tmp_path, capsys):
    (tmp_path / "scores.csv").write_text("mine")
    assert main(typed) == 2
    assert "exists already" in capsys.readouterr().err


def test_help(capsys):
    assert main(["detect"]) == 0
    assert "An attacker who knows the detector passes it" in capsys.readouterr().out
