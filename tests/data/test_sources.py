from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kdrobust.data import Arrays, Digits, ImageFolder, Npz
from kdrobust.data.checks import check_arrays
from kdrobust.errors import DataError

ROOT = Path("unused")


def refused(source, *words):
    with pytest.raises(DataError) as caught:
        source.load(ROOT)
    text = str(caught.value)
    assert "\n" not in text
    for word in words:
        assert word in text, text


class TestDigits:
    def test_sizes_and_exact_pixels(self):
        arrays = Digits().load(ROOT)
        assert check_arrays(arrays) == 10
        assert arrays.x_train.shape == (1257, 1, 8, 8)
        assert arrays.x_test.shape == (540, 1, 8, 8)
        steps = np.unique(np.concatenate([arrays.x_train, arrays.x_test]) * np.float32(16))
        assert steps.tolist() == list(range(17))

    def test_every_sample_is_in_one_part_and_classes_keep_their_share(self):
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        arrays = Digits().load(ROOT)
        rows = np.concatenate([arrays.x_train, arrays.x_test]).reshape(-1, 64) * 16
        mine = sorted(map(tuple, np.column_stack([rows, np.concatenate([arrays.y_train, arrays.y_test])])))
        assert mine == sorted(map(tuple, np.column_stack([images, labels])))
        share = np.bincount(arrays.y_test) / np.bincount(labels)
        assert (abs(share - 0.3) < 0.01).all()

    def test_the_test_set_moves_with_its_own_seed_only(self):
        first, again, other = Digits().load(ROOT), Digits().load(Path("x")), Digits(split_seed=1).load(ROOT)
        assert (first.x_test == again.x_test).all()
        assert (first.x_test != other.x_test).any()

    @pytest.mark.parametrize("fraction", [0, 1, -0.1, 2])
    def test_fraction(self, fraction):
        with pytest.raises(ValueError, match=r"^test_fraction: "):
            Digits(test_fraction=fraction)


class TestNpz:
    def content(self, shape=(6, 5, 4), dtype=np.uint8, **other):
        draw = np.random.default_rng(0)
        return {
            "x_train": draw.integers(0, 200, (12, *shape[1:])).astype(dtype),
            "y_train": np.arange(12) % 2,
            "x_test": draw.integers(0, 200, shape).astype(dtype),
            "y_test": np.arange(6) % 2,
            **other,
        }

    def load(self, folder, channels_last=None, **content) -> Arrays:
        np.savez(folder / "a.npz", **content)
        return Npz(path=folder / "a.npz", channels_last=channels_last).load(ROOT)

    def test_grey_images_get_a_channel(self, tmp_path):
        content = self.content()
        arrays = self.load(tmp_path, **content)
        assert (arrays.x_train == content["x_train"][:, None]).all()
        assert arrays.x_train.dtype == np.uint8
        assert arrays.origin == str(tmp_path / "a.npz")
        assert check_arrays(arrays) == 2

    def test_floats_stay_floats(self, tmp_path):
        content = self.content()
        content["x_train"], content["x_test"] = content["x_train"] / 255, content["x_test"] / 255
        assert check_arrays(self.load(tmp_path, **content)) == 2

    @pytest.mark.parametrize("channels", [1, 3])
    def test_channels_are_found(self, tmp_path, channels):
        first = self.content((6, channels, 5, 4))
        assert (self.load(tmp_path, **first).x_test == first["x_test"]).all()
        last = {key: value.transpose(0, 2, 3, 1) if value.ndim == 4 else value for key, value in first.items()}
        assert (self.load(tmp_path, **last).x_test == first["x_test"]).all()

    @pytest.mark.parametrize("shape", [(6, 3, 5, 3), (6, 4, 5, 2)])
    def test_doubtful_channels_are_asked_for(self, tmp_path, shape):
        content = self.content(shape)
        with pytest.raises(DataError, match=r"x_train .* data\.source\.channels_last=true or false"):
            self.load(tmp_path, **content)
        assert self.load(tmp_path, channels_last=False, **content).x_test.shape == shape
        last = self.load(tmp_path, channels_last=True, **content).x_test
        assert last.shape == (6, shape[3], shape[1], shape[2])
        assert (last == content["x_test"].transpose(0, 3, 1, 2)).all()

    def test_class_names(self, tmp_path):
        arrays = self.load(tmp_path, **self.content(class_names=np.array(["cat", "dog"])))
        assert arrays.class_names == ("cat", "dog")

    def test_other_shapes(self, tmp_path):
        with pytest.raises(DataError, match=r"x_train has shape \(12, 7\); expected \(N, H, W\)"):
            self.load(tmp_path, **self.content((6, 7)))

    def test_missing_file(self, tmp_path):
        refused(Npz(path=tmp_path / "no.npz"), "no.npz: no such file", "data.source.path", "x_train, y_train")

    def test_missing_key(self, tmp_path):
        content = self.content(extra=np.zeros(1))
        del content["y_test"]
        with pytest.raises(DataError, match=r"no y_test in it \(it has .*extra.*\); store x_train"):
            self.load(tmp_path, **content)

    def test_objects_are_refused_unread(self, tmp_path):
        class Trap:
            def __reduce__(self):
                return (Path.touch, (tmp_path / "sprung",))

        content = self.content(y_train=np.array([Trap()] * 12, dtype=object))
        np.savez(tmp_path / "a.npz", **content, allow_pickle=True)
        (tmp_path / "sprung").unlink(missing_ok=True)
        refused(Npz(path=tmp_path / "a.npz"), "a.npz: y_train holds pickled Python objects", "plain numbers")
        assert not (tmp_path / "sprung").exists()

    def test_truncated(self, tmp_path):
        np.savez(tmp_path / "a.npz", **self.content())
        whole = (tmp_path / "a.npz").read_bytes()
        (tmp_path / "a.npz").write_bytes(whole[: len(whole) // 2])
        refused(Npz(path=tmp_path / "a.npz"), "a.npz: truncated, or no .npz")

    def test_damaged_inside(self, tmp_path):
        np.savez(tmp_path / "a.npz", **self.content())
        whole = bytearray((tmp_path / "a.npz").read_bytes())
        place = whole.find(b"x_train.npy") + 200
        whole[place : place + 20] = b"\0" * 20
        (tmp_path / "a.npz").write_bytes(whole)
        refused(Npz(path=tmp_path / "a.npz"), "x_train cannot be read")

    def test_short_member(self, tmp_path):
        content = self.content()
        np.savez(tmp_path / "a.npz", **content)
        whole = io.BytesIO()
        np.save(whole, content["x_train"])
        with zipfile.ZipFile(tmp_path / "b.npz", "w") as target, zipfile.ZipFile(tmp_path / "a.npz") as source:
            for name in source.namelist():
                target.writestr(name, source.read(name)[: -9 if name == "x_train.npy" else None])
        refused(Npz(path=tmp_path / "b.npz"), "b.npz: x_train cannot be read")

    @pytest.mark.parametrize("write", [lambda path: np.save(path, np.zeros(3)), lambda path: path.write_text("hello")])
    def test_other_files(self, tmp_path, write):
        path = tmp_path / "a.npy"
        write(path)
        refused(Npz(path=path), "truncated, or no .npz")


class TestImageFolder:
    @pytest.fixture
    def folder(self, tmp_path):
        draw = np.random.default_rng(0)
        for part, count in (("train", 4), ("test", 2)):
            for name in ("dog", "cat"):
                (tmp_path / part / name).mkdir(parents=True)
                for number in range(count):
                    pixels = draw.integers(0, 256, (6, 5)).astype(np.uint8)
                    Image.fromarray(pixels).save(tmp_path / part / name / f"{number}.png")
        return tmp_path

    def test_grey(self, folder):
        arrays = ImageFolder(path=folder).load(ROOT)
        assert check_arrays(arrays) == 2
        assert arrays.class_names == ("cat", "dog")
        assert arrays.y_train.tolist() == [0] * 4 + [1] * 4
        assert arrays.x_train.shape == (8, 1, 6, 5)
        expected = np.asarray(Image.open(folder / "train" / "dog" / "2.png"))
        assert (arrays.x_train[np.array([6])][0, 0] == expected).all()

    def test_one_colour_image_makes_all_colour(self, folder):
        colour = np.random.default_rng(1).integers(0, 256, (6, 5, 3)).astype(np.uint8)
        Image.fromarray(colour).save(folder / "test" / "cat" / "0.png")
        Image.fromarray(colour).convert("RGBA").save(folder / "test" / "cat" / "1.png")
        arrays = ImageFolder(path=folder).load(ROOT)
        assert arrays.x_train.shape == (8, 3, 6, 5)
        first, second = arrays.x_test[np.array([0, 1])]
        assert (first == colour.transpose(2, 0, 1)).all()
        assert (second == first).all()
        grey = arrays.x_train[np.array([0])][0]
        assert (grey[0] == grey[1]).all()

    def test_resize(self, folder):
        Image.new("L", (9, 9), 128).save(folder / "train" / "cat" / "0.png")
        arrays = ImageFolder(path=folder, size=4).load(ROOT)
        assert arrays.x_train[np.arange(8)].shape == (8, 1, 4, 4)
        assert (arrays.x_train[np.array([0])] == 128).all()
        assert ImageFolder(path=folder, size=[3, 7]).load(ROOT).x_test.shape == (4, 1, 3, 7)

    def test_sizes_that_differ(self, folder):
        Image.new("L", (9, 8)).save(folder / "test" / "dog" / "1.png")
        refused(ImageFolder(path=folder), "test/dog/1.png: 8x9 pixels", "0.png has 6x5", "data.source.size=5")

    def test_digest_sees_content_names_and_size(self, folder):
        first = ImageFolder(path=folder).load(ROOT)
        assert ImageFolder(path=folder).load(ROOT).x_train.digest() == first.x_train.digest()
        assert ImageFolder(path=folder, size=4).load(ROOT).x_train.digest() != first.x_train.digest()
        (folder / "train" / "cat" / "0.png").rename(folder / "train" / "dog" / "9.png")
        moved = ImageFolder(path=folder).load(ROOT)
        assert moved.x_train.digest() != first.x_train.digest()
        assert moved.x_test.digest() == first.x_test.digest()

    def test_strays_are_passed_over(self, folder):
        (folder / "train" / "cat" / "notes.txt").write_text("no image")
        (folder / "train" / "cat" / "._0.png").write_bytes(b"no image")
        (folder / "train" / ".cache").mkdir()
        assert len(ImageFolder(path=folder).load(ROOT).x_train) == 8

    def test_missing_folders(self, tmp_path):
        refused(ImageFolder(path=tmp_path / "no"), "no/train: no such folder", "data.source.path")
        (tmp_path / "train").mkdir()
        (tmp_path / "test").mkdir()
        refused(ImageFolder(path=tmp_path), "train: no folders in it")
        (tmp_path / "train" / "cat").mkdir()
        refused(ImageFolder(path=tmp_path), "train: no images", ".png")
        (tmp_path / "test" / "cow").mkdir()
        refused(ImageFolder(path=tmp_path), "class cow is not in train/")

    def test_a_class_without_images(self, folder):
        (folder / "train" / "eel").mkdir()
        with pytest.raises(DataError, match="no sample of class eel in y_train"):
            check_arrays(ImageFolder(path=folder).load(ROOT))

    def test_no_image(self, folder):
        (folder / "train" / "cat" / "0.png").write_bytes(b"hello")
        refused(ImageFolder(path=folder), "train/cat/0.png: no readable image (cannot identify image file)")

    def test_truncated_image(self, folder):
        path = folder / "train" / "cat" / "0.png"
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 5)).astype(np.uint8)).save(path)
        path.write_bytes(path.read_bytes()[:-30])
        arrays = ImageFolder(path=folder).load(ROOT)
        with pytest.raises(DataError, match=r"train/cat/0\.png: no readable image"):
            arrays.x_train[np.array([0])]

    def test_sixteen_bits(self, folder):
        Image.fromarray(np.zeros((6, 5), np.uint16)).save(folder / "train" / "cat" / "0.png")
        refused(ImageFolder(path=folder), "0.png: pixels of type I;16 have more than 8 bits")

    def test_files_can_travel_to_workers(self, folder):
        files = ImageFolder(path=folder).load(ROOT).x_train
        again = pickle.loads(pickle.dumps(files))
        assert (again[np.arange(8)] == files[np.arange(8)]).all()

    @pytest.mark.parametrize("size", [0, -3, [4], [4, 0], [1, 2, 3]])
    def test_size(self, size):
        with pytest.raises(ValueError, match=r"^size: expected pixels"):
            ImageFolder(path="x", size=size)
