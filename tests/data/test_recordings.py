"""Folders of recordings: what their names say, and how they are parted."""

import pytest

from kdrobust.data.recordings import list_recordings, part_by_index, part_by_lists, part_by_speaker
from kdrobust.errors import DataError


def place(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return folder


def names(recordings):
    return [each.path.name for each in recordings]


@pytest.fixture
def flat(tmp_path):
    return place(
        tmp_path,
        *(f"{word}_{who}_{n}.wav" for word in ("no", "yes") for who in ("ann", "bo_b", "cy") for n in (0, 1, 11)),
    )


def test_flat_names_say_word_speaker_and_number(flat):
    place(flat, "notes.txt", ".hidden.wav", "sub/yes_zoe_0.wav")
    found = list_recordings(flat)
    assert len(found) == 18
    first = found[3]
    assert (first.path.name, first.word, first.speaker, first.index) == ("no_bo_b_0.wav", "no", "bo_b", 0)
    assert {each.word for each in list_recordings(flat, ["yes"])} == {"yes"}


def test_folders_are_words(tmp_path):
    place(
        tmp_path, "up/a1b2_nohash_0.wav", "up/ann_7.wav", "up/free.wav", "down/x.WAV", "_background_noise_/hum.wav",
        "up/readme.md",
    )  # fmt: skip
    found = {each.path.name: each for each in list_recordings(tmp_path)}
    assert set(found) == {"a1b2_nohash_0.wav", "ann_7.wav", "free.wav", "x.WAV"}
    assert (found["a1b2_nohash_0.wav"].speaker, found["a1b2_nohash_0.wav"].index) == ("a1b2", 0)
    assert (found["ann_7.wav"].speaker, found["ann_7.wav"].index) == ("ann", 7)
    assert (found["free.wav"].word, found["free.wav"].speaker, found["free.wav"].index) == ("up", None, None)


def test_folders_that_hold_nothing(tmp_path, flat):
    empty = tmp_path / "empty"
    with pytest.raises(DataError, match=r"no such folder; data\.source\.path"):
        list_recordings(empty)
    place(empty, "sub/readme.txt")
    with pytest.raises(DataError, match="no recordings"):
        list_recordings(empty)
    with pytest.raises(DataError, match="no recordings of 'maybe'"):
        list_recordings(flat, ["yes", "maybe"])
    place(flat, "strange.wav")
    with pytest.raises(DataError, match=r"strange.wav: expected WORD_SPEAKER_INDEX.wav"):
        list_recordings(flat)


def test_by_speaker_nobody_is_in_two_parts(flat):
    parts = part_by_speaker(list_recordings(flat), ["cy"], ["bo_b"], flat)
    assert {each.speaker for each in parts.test} == {"cy"}
    assert {each.speaker for each in parts.train} == {"ann", "bo_b"}
    assert {parts.train[at].speaker for at in parts.validation} == {"bo_b"}
    assert len(parts.validation) == 6
    assert part_by_speaker(list_recordings(flat), ["cy"], [], flat).validation == []


@pytest.mark.parametrize(
    ("test", "validation", "words"),
    [
        (["dan"], [], "test_speakers names 'dan'; there are ann, bo_b, cy"),
        (["cy"], ["eve"], "validation_speakers names 'eve'"),
        (["cy"], ["cy"], "'cy' is in data.source.test_speakers and in validation_speakers"),
        ([], [], "holds 0 of 3 speakers"),
        (["ann", "bo_b", "cy"], [], "leave some for training"),
        (["ann", "bo_b"], ["cy"], "leave some for training"),
    ],
)
def test_speakers_that_cannot_be(flat, test, validation, words):
    with pytest.raises(DataError, match=words):
        part_by_speaker(list_recordings(flat), test, validation, flat)


def test_names_without_speakers_cannot_be_parted_by_speaker(tmp_path):
    place(tmp_path, "up/free.wav", "up/ann_1.wav")
    with pytest.raises(DataError, match=r"free.wav: its name tells no speaker.*split=index"):
        part_by_speaker(list_recordings(tmp_path), ["ann"], [], tmp_path)


def test_by_index_everybody_is_in_both(flat, tmp_path):
    parts = part_by_index(list_recordings(flat), [1], flat)
    assert sorted(each.index for each in parts.test) == [1] * 6
    assert {each.speaker for each in parts.test} == {each.speaker for each in parts.train}
    assert len(parts.train) == 12
    with pytest.raises(DataError, match=r"test_indices=\[99\] leaves 18 recordings for training and 0 for the test"):
        part_by_index(list_recordings(flat), [99], flat)
    # without numbers, the place among the files of the word counts
    other = place(tmp_path / "other", "up/b.wav", "up/a.wav", "down/c.wav", "down/d.wav")
    assert names(part_by_index(list_recordings(other), [0], other).test) == ["c.wav", "a.wav"]


def test_by_the_lists_of_speech_commands(tmp_path):
    place(tmp_path, *(f"{word}/{who}_nohash_0.wav" for word in ("up", "down") for who in ("a", "b", "c")))
    (tmp_path / "testing_list.txt").write_text("up/a_nohash_0.wav\ndown/a_nohash_0.wav\nother/q_nohash_0.wav\n")
    (tmp_path / "validation_list.txt").write_text("up/b_nohash_0.wav\n")
    found = list_recordings(tmp_path)
    parts = part_by_lists(found, tmp_path)
    assert names(parts.test) == ["a_nohash_0.wav"] * 2
    assert len(parts.train) == 4
    assert [(parts.train[at].word, parts.train[at].speaker) for at in parts.validation] == [("up", "b")]
    (tmp_path / "validation_list.txt").write_text("up/gone_nohash_0.wav\n")
    with pytest.raises(DataError, match=r"gone_nohash_0.wav: validation_list.txt names it"):
        part_by_lists(found, tmp_path)
    (tmp_path / "testing_list.txt").unlink()
    with pytest.raises(DataError, match=r"testing_list.txt: not there"):
        part_by_lists(found, tmp_path)
    (tmp_path / "testing_list.txt").write_text("")
    (tmp_path / "validation_list.txt").write_text("")
    with pytest.raises(DataError, match="0 to test"):
        part_by_lists(found, tmp_path)
