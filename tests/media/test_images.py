"""The decoder of image files: orientation, kinds of damage, and pictures too large to open."""

import io

import numpy as np
import pytest
from PIL import Image

from kdrobust.cli import main
from kdrobust.errors import DataError
from kdrobust.media.images import read_header, read_image
from tests.export.models import save_checkpoint

PIXELS = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20


def turned(path, orientation, pixels=PIXELS):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, exif=exif)
    return path


@pytest.mark.parametrize("suffix", ["png", "tiff"])
@pytest.mark.parametrize(
    ("orientation", "seen"),
    [
        (1, PIXELS),
        (2, PIXELS[:, ::-1]),
        (3, PIXELS[::-1, ::-1]),
        (6, np.rot90(PIXELS, -1)),
        (8, np.rot90(PIXELS)),
        (77, PIXELS),
    ],
)
def test_an_image_is_read_as_it_is_to_be_seen(tmp_path, suffix, orientation, seen):
    path = turned(tmp_path / f"a.{suffix}", orientation)
    assert read_header(path, path.read_bytes()).size == seen.shape
    assert np.array_equal(read_image(path, (1, *seen.shape), resize=False)[0], seen)


def damaged():
    content = io.BytesIO()
    Image.fromarray(PIXELS).save(content, "TIFF", compression="tiff_lzw")
    whole = content.getvalue()
    yield from (b"", b"text", whole[:40], whole[:4] + b"\xff\xff\xff\x7f" + whole[8:])


@pytest.mark.parametrize("content", list(damaged()), ids=["empty", "text", "cut", "pointer"])
def test_damage_is_one_line_that_names_the_file(tmp_path, content):
    (tmp_path / "a.tiff").write_bytes(content)
    for read in (
        lambda path: read_header(path, content),
        lambda path: read_image(path, (1, 3, 4), resize=True),
    ):
        with pytest.raises(DataError, match=r"a\.tiff: no readable image \(.+\); replace or remove it") as error:
            read(tmp_path / "a.tiff")
        assert "\n" not in str(error.value)
        assert "0x" not in str(error.value)


def test_too_many_pixels_are_one_line_for_folders_and_for_predict(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            turned(tmp_path / "pets" / part / name / "0.png", 1)
    large = turned(tmp_path / "pets" / "train" / "dog" / "1.png", 1, np.zeros((40, 40), dtype=np.uint8))
    save_checkpoint(tmp_path / "best.ckpt")
    for command in (
        ["teacher", "data=image_folder", f"data.source.path={tmp_path / 'pets'}", f"run.root={tmp_path / 'runs'}"],
        ["predict", str(tmp_path / "best.ckpt"), f"input={large}"],
    ):
        assert main(command) == 1
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert f"{large}: no readable image (Image size (1600 pixels) exceeds limit" in error


def test_a_class_folder_s_photos_are_turned(tmp_path):
    from kdrobust.data import ImageFolder

    for part in ("train", "test"):
        for name in ("cat", "dog"):
            turned(tmp_path / part / name / "0.png", 6)
    arrays = ImageFolder(path=tmp_path).load(tmp_path)
    assert arrays.x_train.shape == (2, 1, 4, 3)
    assert np.array_equal(arrays.x_train[np.array([1])][0, 0], np.rot90(PIXELS, -1))
    as_stored = arrays.x_train.digest()
    turned(tmp_path / "train" / "cat" / "0.png", 8)
    assert ImageFolder(path=tmp_path).load(tmp_path).x_train.digest() != as_stored
