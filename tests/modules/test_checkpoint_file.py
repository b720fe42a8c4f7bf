import copy

import pytest
import torch

from kdrobust.errors import RunFolderError
from kdrobust.modules import CheckpointFile
from kdrobust.modules.checkpoint_file import checkpoint_content


def checkpoint():
    names = ["".join(["we", "ight"]) for _ in range(2)]
    return {
        "state_dict": {"weight": torch.arange(4.0)},
        "optimizer_states": [{names[0]: 0.1, "betas": (0.9, names[1])}],
        "epoch": 3,
    }


def test_it_is_read_as_it_was_written(tmp_path):
    writer = CheckpointFile()
    writer.save_checkpoint(checkpoint(), tmp_path / "a.ckpt")
    read = writer.load_checkpoint(tmp_path / "a.ckpt", weights_only=True)
    assert torch.equal(read.pop("state_dict")["weight"], torch.arange(4.0))
    assert read == {"optimizer_states": [{"weight": 0.1, "betas": (0.9, "weight")}], "epoch": 3}


def test_what_was_read_from_a_file_gives_the_bytes_of_that_file(tmp_path):
    CheckpointFile().save_checkpoint(checkpoint(), tmp_path / "a.ckpt")
    read = torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert checkpoint_content(read) == checkpoint_content(checkpoint()) == (tmp_path / "a.ckpt").read_bytes()
    # pickle goes by identity, so this says something only if torch.save itself would have told them apart
    torch.save(read, tmp_path / "plain_read.ckpt")
    torch.save(copy.deepcopy(checkpoint()), tmp_path / "plain.ckpt")
    assert (tmp_path / "plain_read.ckpt").read_bytes() != (tmp_path / "plain.ckpt").read_bytes()


def test_a_disk_that_is_full_leaves_the_file_before(tmp_path, monkeypatch):
    writer = CheckpointFile()
    writer.save_checkpoint(checkpoint(), tmp_path / "a.ckpt")
    before = (tmp_path / "a.ckpt").read_bytes()

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(RunFolderError, match=r"a\.ckpt: cannot be written \(No space left on device\)"):
        writer.save_checkpoint({"epoch": 4}, tmp_path / "a.ckpt")
    monkeypatch.undo()
    assert (tmp_path / "a.ckpt").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.ckpt"]
