"""Teachers' answers on disk: whole, unchanged, and never more than there is room for."""

import json

import pytest
import torch

from kdrobust.data.answers import Answers, AnswerStore

KEY = {"teacher": "abc", "seed": 0}


def answers(samples=6, dtype=torch.float32):
    order = torch.randperm(samples, generator=torch.Generator().manual_seed(1))
    logits = torch.randn(samples, 3, generator=torch.Generator().manual_seed(2)).to(dtype)
    return order, logits, Answers.collected(order.split(4), logits.split(4))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_what_was_written_is_read_in_any_order(tmp_path, dtype):
    order, logits, kept = answers(dtype=dtype)
    store = AnswerStore(tmp_path, KEY, limit=1e6)
    assert store.read(3) is None
    store.write(kept, epoch=3)
    read = AnswerStore(tmp_path, dict(reversed(KEY.items())), limit=0).read(3)
    rows = torch.tensor([5, 0, 3])
    assert torch.equal(read.of(order[rows]), logits[rows])
    assert read.logits.dtype == dtype
    assert json.loads((store.folder / "key.json").read_text()) == KEY


def test_another_key_epoch_or_process_finds_nothing(tmp_path):
    *_, kept = answers()
    store = AnswerStore(tmp_path, KEY, limit=1e6)
    store.write(kept, epoch=0, rank=1)
    assert store.read(0, rank=1) is not None
    assert store.read(0) is None
    assert store.read(1, rank=1) is None
    assert AnswerStore(tmp_path, {**KEY, "seed": 1}, limit=1e6).read(0, rank=1) is None


def test_a_damaged_file_counts_as_absent_and_is_written_anew(tmp_path, caplog):
    *_, kept = answers()
    store = AnswerStore(tmp_path, KEY, limit=1e6)
    store.write(kept, epoch=0)
    whole = store.path(0).read_bytes()
    for damaged, word in ((whole[:-5], "damaged"), (whole[:-1] + bytes([whole[-1] ^ 1]), "changed"), (b"", "damaged")):
        store.path(0).write_bytes(damaged)
        caplog.clear()
        assert store.read(0) is None
        assert word in caplog.text
        assert str(store.path(0)) in caplog.text
    store.write(kept, epoch=0)
    assert torch.equal(store.read(0).logits, kept.logits)


def test_the_limit_holds_for_all_stores_together(tmp_path, caplog):
    caplog.set_level("INFO")
    *_, kept = answers()
    first = AnswerStore(tmp_path, KEY, limit=1e6)
    first.write(kept, epoch=0)
    size = first.path(0).stat().st_size
    second = AnswerStore(tmp_path, {**KEY, "seed": 1}, limit=2.5 * size)
    for epoch in range(4):
        second.write(kept, epoch=epoch)
    assert sorted(path.name[:11] for path in second.folder.glob("epoch*")) == ["epoch_00000"]
    assert caplog.text.count("shared_views_gb") == 1


def test_a_folder_that_cannot_be_written_ends_no_training(tmp_path, caplog):
    *_, kept = answers()
    (tmp_path / "file").write_text("")
    store = AnswerStore(tmp_path / "file" / "answers", KEY, limit=1e6)
    store.write(kept, epoch=0)
    store.write(kept, epoch=1)
    assert caplog.text.count("not kept") == 1
