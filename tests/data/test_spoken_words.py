"""Spoken words as a data set: from folders, from an archive, from a synthesiser."""

import io
import stat
import sys
import tarfile

import numpy as np
import pytest

from kdrobust.data import DataModule, EspeakDigits, FreeSpokenDigits, SpokenWords, espeak, fsdd
from kdrobust.errors import DataError
from tests.recordings import speak


def module(folder, **settings):
    source = SpokenWords(path=folder, seconds=0.1, **{"test_speakers": ["cy"], **settings})
    return DataModule(source=source, name="words", batch_size=8)


def test_inputs_are_waveforms_and_the_spec_says_so(tmp_path):
    data = module(speak(tmp_path))
    spec = data.spec
    assert (spec.shape, spec.classes, spec.class_names) == ((1, 800), 2, ("no", "yes"))
    assert (spec.bounds, spec.sample_rate, spec.seconds, spec.middle()) == ((-1.0, 1.0), 8000, 0.1, 0.0)
    signals = data.split("train").inputs
    assert signals.dtype.is_floating_point
    assert float(signals.min()) < -0.8
    assert signals.abs().flatten(1).amax(dim=1).tolist() == pytest.approx([0.9] * len(signals))
    batch = next(iter(data.train_dataloader()))
    assert data.process(batch, training=True).inputs.shape == (8, 1, 800)


def test_held_out_speakers_are_the_test_set_and_may_be_the_validation_set(tmp_path):
    speak(tmp_path)
    data = module(tmp_path)
    assert [len(data.split(name)) for name in ("train", "validation", "test")] == [29, 3, 16]
    apart = module(tmp_path, validation_speakers=["bob"])
    assert [len(apart.split(name)) for name in ("train", "validation", "test")] == [16, 16, 16]
    assert apart.fingerprint != data.fingerprint
    shared = module(tmp_path, split="index", test_indices=[0, 1])
    assert [len(shared.split(name)) for name in ("train", "validation", "test")] == [32, 4, 12]


def test_decoding_in_workers_gives_the_same_batches(tmp_path):
    source = SpokenWords(path=speak(tmp_path), seconds=0.1, test_speakers=["cy"])
    memory, lazy = (DataModule(source=source, name="words", loader=kind) for kind in ("memory", "workers"))
    assert memory.fingerprint == lazy.fingerprint
    first, second = (next(iter(data.val_dataloader())) for data in (memory, lazy))
    assert first.inputs.equal(second.inputs)


def test_words_can_be_chosen_and_ordered(tmp_path):
    speak(tmp_path, words=("no", "up", "yes"))
    arrays = SpokenWords(path=tmp_path, seconds=0.1, test_speakers=["cy"], words=["yes", "no"]).load(tmp_path)
    assert arrays.class_names == ("yes", "no")
    assert sorted(set(arrays.y_train)) == [0, 1]
    assert arrays.x_train.paths[int(np.flatnonzero(arrays.y_train == 0)[0])].name.startswith("yes")


def test_a_validation_speaker_who_alone_says_a_word(tmp_path):
    speak(tmp_path, speakers=("ann", "cy"), words=("no", "yes"))
    speak(tmp_path, speakers=("bob",), words=("no", "yes"))
    for take in range(8):
        (tmp_path / f"yes_ann_{take}.wav").unlink()
    with pytest.raises(DataError, match="every training sample of class yes is set aside"):
        module(tmp_path, validation_speakers=["bob"]).prepare()


def test_a_bad_file_among_them_is_named(tmp_path):
    speak(tmp_path)
    (tmp_path / "no_ann_3.wav").write_text("a text")
    with pytest.raises(DataError, match=r"no_ann_3\.wav: no readable wav file"):
        module(tmp_path).prepare()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"split": "random"}, "split: expected one of speaker, index, lists"),
        ({"sample_rate": 10}, "sample_rate"),
        ({"seconds": 0}, "seconds"),
        ({"peak": 1.0}, "peak"),
        ({"path": None}, "path: expected the folder"),
    ],
)
def test_settings_that_cannot_be(settings, words):
    with pytest.raises(ValueError, match=words):
        SpokenWords(**{"path": "here", **settings})


def archive(path, names):
    """An archive as GitHub packs them."""
    with tarfile.open(path, "w:gz") as made:
        for name, content in names.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            made.addfile(info, io.BytesIO(content))
        link = tarfile.TarInfo("set-1/recordings/9_eve_0.wav")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        made.addfile(link)
    return path.as_uri()


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A small public home: two recordings of a number below 30, one above."""
    files = {f"set-1/recordings/{name}.wav": name.encode() for name in ("0_ann_0", "1_ann_29", "1_ann_31")}
    files |= {"set-1/README.md": b"text", "../../recordings/evil.txt": b"x", "set-1/other/2_ann_0.wav": b"y"}
    there = tmp_path / "there" / "recordings"
    there.mkdir(parents=True)
    for name, content in files.items():
        if name.startswith("set-1/recordings"):
            (there / name.rpartition("/")[2]).write_bytes(content)
    monkeypatch.setattr(fsdd, "ADDRESS", archive(tmp_path / "set.tar.gz", files))
    monkeypatch.setattr(fsdd, "RECORDINGS", 3)
    monkeypatch.setattr(fsdd, "FIRST_THIRTY", fsdd.first_thirty(there))


def test_the_archive_is_fetched_once_and_only_recordings_leave_it(tmp_path, published, monkeypatch):
    root = tmp_path / "root"
    folder = FreeSpokenDigits().folder(root)
    assert folder == root / "fsdd" / "recordings"
    assert sorted(path.name for path in folder.iterdir()) == ["0_ann_0.wav", "1_ann_29.wav", "1_ann_31.wav"]
    assert [path.name for path in (root / "fsdd").iterdir()] == ["recordings"]
    monkeypatch.setattr(fsdd, "fetch", None)
    assert FreeSpokenDigits().folder(root) == folder


@pytest.mark.parametrize("spoilt", ["count", "content", "damaged", "absent"])
def test_another_archive_than_published_is_refused_and_leaves_nothing(tmp_path, published, monkeypatch, spoilt):
    if spoilt == "count":
        monkeypatch.setattr(fsdd, "RECORDINGS", 4)
    elif spoilt == "content":
        monkeypatch.setattr(fsdd, "FIRST_THIRTY", "0" * 64)
    elif spoilt == "damaged":
        content = (tmp_path / "set.tar.gz").read_bytes()
        (tmp_path / "set.tar.gz").write_bytes(content[: len(content) // 2])
    else:
        (tmp_path / "set.tar.gz").unlink()
    with pytest.raises(DataError, match=r"the download failed .*data\.source\.path") as caught:
        FreeSpokenDigits().folder(tmp_path / "root")
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "root" / "fsdd").iterdir())


def test_nothing_is_downloaded_unasked(tmp_path, monkeypatch):
    monkeypatch.setattr(fsdd, "fetch", None)
    with pytest.raises(DataError, match=r"set data\.source\.recordings\.download=true"):
        FreeSpokenDigits(download=False).folder(tmp_path)


#: What stands in for the synthesiser: a tone whose pitch depends on every argument.
FAKE = f"""#!{sys.executable}
import sys, zlib
import numpy as np
from scipy.io import wavfile
if "--version" in sys.argv:
    print("eSpeak NG text-to-speech: 9.9  Data at: nowhere")
    sys.exit()
if "broken" in sys.argv[2]:
    sys.exit("no such voice")
place = sys.argv.index("-w")
told = " ".join(sys.argv[1:place] + sys.argv[place + 2:])
hertz = 200 + zlib.crc32(told.encode()) % 3000
wavfile.write(sys.argv[place + 1], 22050, (np.sin(2 * np.pi * hertz * np.arange(4000) / 22050) * 9000).astype(np.int16))
"""


@pytest.fixture
def synthesiser(tmp_path, monkeypatch):
    program = tmp_path / "bin" / espeak.PROGRAM
    program.parent.mkdir()
    program.write_text(FAKE)
    program.chmod(program.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", str(program.parent))
    return program


def test_the_synthesiser_speaks_once_for_each_voice_and_manner(tmp_path, synthesiser, monkeypatch):
    made = EspeakDigits(voices=["m1"], accents=["en-us"], rates=[150], pitches=[40, 60])
    folder = made.folder(tmp_path / "root")
    assert len(list(folder.glob("*.wav"))) == 20
    source = SpokenWords(recordings=made, split="index", test_indices=[1], seconds=0.2)
    arrays = source.load(tmp_path / "root")
    assert arrays.class_names == tuple("0123456789")
    assert arrays.x_test.shape == (10, 1, 1600)
    monkeypatch.setattr(espeak.tempfile, "TemporaryDirectory", None)
    assert made.folder(tmp_path / "root") == folder
    with pytest.raises(TypeError):
        EspeakDigits(voices=["m2"], accents=["en-us"]).folder(tmp_path / "root")


def test_without_the_synthesiser_it_says_how_to_get_it(tmp_path, synthesiser, monkeypatch):
    with pytest.raises(DataError, match=r"espeak-ng: failed \(no such voice\)"):
        EspeakDigits(voices=["broken"]).folder(tmp_path)
    assert not list((tmp_path / "espeak_digits").iterdir())
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match=r"not installed; apt-get install espeak-ng .*data=fsdd"):
        EspeakDigits(voices=["m1"]).folder(tmp_path)


@pytest.mark.parametrize(
    "settings", [{"voices": []}, {"voices": ["-x"]}, {"voices": ["a/b"]}, {"rates": [10]}, {"pitches": [100]}]
)
def test_voices_that_cannot_be(settings):
    with pytest.raises(ValueError, match=r"voices|rates"):
        EspeakDigits(**{"voices": ["m1"], **settings})
