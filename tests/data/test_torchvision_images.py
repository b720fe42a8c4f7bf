"""The genuine on-disk formats, made tiny."""

from __future__ import annotations

import gzip
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from kdrobust.data import TorchvisionImages, torchvision_images
from kdrobust.data.checks import check_arrays
from kdrobust.data.torchvision_images import DEBIAN_FASHION_MNIST
from kdrobust.errors import DataError


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    """No network, and no data of this machine's."""

    def unreachable(*args, **kwargs):
        from urllib.error import URLError

        raise URLError("no route to host")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    monkeypatch.setattr(torchvision_images, "DEBIAN_FASHION_MNIST", tmp_path / "debian")


def refused(source, root, *words):
    with pytest.raises(DataError) as caught:
        source.load(root)
    text = str(caught.value)
    assert "\n" not in text
    for word in words:
        assert word in text, text


def draw(count, *shape, seed=0):
    images = np.random.default_rng(seed).integers(0, 256, (count, *shape)).astype(np.uint8)
    return images, np.arange(count) % 10


def idx(array):
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def stripped_gzip(content):
    """As Debian's `gzip -n`: no name, no time."""
    return gzip.compress(content, mtime=0)


def write_idx(folder, suffix="", pack=lambda content: content):
    folder.mkdir(parents=True, exist_ok=True)
    for part, count in (("train", 30), ("t10k", 20)):
        images, labels = draw(count, 28, 28, seed=count)
        (folder / f"{part}-images-idx3-ubyte{suffix}").write_bytes(pack(idx(images)))
        (folder / f"{part}-labels-idx1-ubyte{suffix}").write_bytes(pack(idx(labels)))


class TestIdx:
    @pytest.mark.parametrize(("dataset", "folder"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")])
    @pytest.mark.parametrize("packed", [True, False])
    def test_in_torchvisions_folder(self, tmp_path, dataset, folder, packed):
        raw = tmp_path / folder / "raw"
        write_idx(raw, ".gz", stripped_gzip) if packed else write_idx(raw)
        arrays = TorchvisionImages(dataset=dataset).load(tmp_path)
        assert (
            TorchvisionImages(dataset=dataset).form
            == (check_arrays(arrays), arrays.x_train.shape[1:])
            == (10, (1, 28, 28))
        )
        assert (arrays.x_train == draw(30, 28, 28, seed=30)[0][:, None]).all()
        assert (arrays.x_test == draw(20, 28, 28, seed=20)[0][:, None]).all()
        assert arrays.y_test.tolist() == [*range(10)] * 2
        assert arrays.class_names[1] == {"mnist": "1", "fashion_mnist": "Trouser"}[dataset]

    def test_debians_files_are_found_and_unpacked_beside(self, tmp_path):
        write_idx(tmp_path / "debian", ".gz", stripped_gzip)
        source = TorchvisionImages(dataset="fashion_mnist", download=False)
        assert not source.present(tmp_path / "root")
        assert source.load(tmp_path / "root").x_train.shape == (30, 1, 28, 28)
        assert source.present(tmp_path / "root")
        assert len(list((tmp_path / "root/FashionMNIST/raw").iterdir())) == 4
        # and from now on without Debian's
        (tmp_path / "debian" / "train-images-idx3-ubyte.gz").write_bytes(b"")
        assert source.load(tmp_path / "root").x_train.shape == (30, 1, 28, 28)

    def test_debians_files_are_not_mnist(self, tmp_path):
        write_idx(tmp_path / "debian", ".gz", stripped_gzip)
        refused(TorchvisionImages(dataset="mnist", download=False), tmp_path / "root", "mnist: no train-images")

    def test_truncated_gzip_leaves_nothing(self, tmp_path):
        write_idx(tmp_path / "debian", ".gz", lambda content: stripped_gzip(content)[:-20])
        refused(
            TorchvisionImages(dataset="fashion_mnist"),
            tmp_path / "root",
            "ubyte.gz: damaged or truncated",
            "get it anew",
        )
        assert not (tmp_path / "root").exists()

    def test_unwritable_root(self, tmp_path):
        write_idx(tmp_path / "debian", ".gz", stripped_gzip)
        (tmp_path / "root").write_text("a file")
        refused(TorchvisionImages(dataset="fashion_mnist"), tmp_path / "root", "cannot be written", "data.root")

    @pytest.mark.parametrize("keep", [4, 1000])
    def test_truncated_raw_file(self, tmp_path, keep):
        raw = tmp_path / "MNIST" / "raw"
        write_idx(raw)
        path = raw / "train-images-idx3-ubyte"
        path.write_bytes(path.read_bytes()[:keep])
        refused(
            TorchvisionImages(dataset="mnist"), tmp_path, "mnist: the files in", "MNIST/raw are damaged", "delete them"
        )

    def test_missing_and_no_network(self, tmp_path, capfd):
        refused(
            TorchvisionImages(dataset="fashion_mnist"),
            tmp_path,
            "fashion_mnist: no train-images-idx3-ubyte in",
            "the download failed (no route to host)",
            "https://github.com/zalandoresearch/fashion-mnist",
            "data.root",
            "dataset-fashion-mnist",
        )
        assert capfd.readouterr() == ("", "")

    @pytest.mark.skipif(not DEBIAN_FASHION_MNIST.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
    def test_the_real_thing(self, tmp_path, monkeypatch):
        monkeypatch.setattr(torchvision_images, "DEBIAN_FASHION_MNIST", DEBIAN_FASHION_MNIST)
        arrays = TorchvisionImages(dataset="fashion_mnist", download=False).load(tmp_path)
        assert np.bincount(arrays.y_train).tolist() == [6000] * 10
        assert np.bincount(arrays.y_test).tolist() == [1000] * 10
        assert arrays.x_train.mean() / 255 == pytest.approx(0.2860, abs=1e-4)


def write_cifar(root, dataset):
    """Rows of 3072 bytes, red plane first, as the published pickles have them."""
    base = root / {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}[dataset]
    base.mkdir(parents=True)
    if dataset == "cifar10":
        parts, key = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"], "labels"
        (base / "batches.meta").write_bytes(pickle.dumps({"label_names": [f"class{n}" for n in range(10)]}, 2))
    else:
        parts, key = ["train", "test"], "fine_labels"
        (base / "meta").write_bytes(pickle.dumps({"fine_label_names": [f"fine{n}" for n in range(100)]}, 2))
    for number, part in enumerate(parts):
        count = 20 if dataset == "cifar10" else 200
        images, _ = draw(count, 3072, seed=number)
        labels = [row % (10 if dataset == "cifar10" else 100) for row in range(count)]
        content = {"data": images, key: labels, "filenames": ["x.png"] * count, "batch_label": part}
        (base / part).write_bytes(pickle.dumps(content, 2))
    return base


class TestCifar:
    def test_cifar10(self, tmp_path):
        write_cifar(tmp_path, "cifar10")
        arrays = TorchvisionImages(dataset="cifar10", verify=False).load(tmp_path)
        assert TorchvisionImages(dataset="cifar10").form == (check_arrays(arrays), (3, 32, 32))
        assert arrays.x_train.shape == (100, 3, 32, 32)
        assert arrays.x_train.dtype == np.uint8
        expected = np.concatenate([draw(20, 3072, seed=number)[0] for number in range(5)]).reshape(-1, 3, 32, 32)
        assert (arrays.x_train == expected).all()
        assert (arrays.x_test == draw(20, 3072, seed=5)[0].reshape(-1, 3, 32, 32)).all()
        assert arrays.y_train.tolist() == [row % 10 for row in range(20)] * 5
        assert arrays.class_names == tuple(f"class{n}" for n in range(10))

    def test_cifar100(self, tmp_path):
        write_cifar(tmp_path, "cifar100")
        arrays = TorchvisionImages(dataset="cifar100", verify=False).load(tmp_path)
        assert TorchvisionImages(dataset="cifar100").form == (check_arrays(arrays), arrays.x_train.shape[1:])
        assert (arrays.x_test == draw(200, 3072, seed=1)[0].reshape(-1, 3, 32, 32)).all()
        assert arrays.class_names[99] == "fine99"

    def test_other_files_are_not_taken_for_the_published_ones(self, tmp_path):
        base = write_cifar(tmp_path, "cifar10")
        before = (base / "test_batch").read_bytes()
        refused(
            TorchvisionImages(dataset="cifar10"),
            tmp_path,
            "cifar10: the files in",
            "data.source.verify=false",
            "delete",
        )
        assert (base / "test_batch").read_bytes() == before

    def test_a_truncated_pickle(self, tmp_path):
        path = write_cifar(tmp_path, "cifar10") / "data_batch_3"
        path.write_bytes(path.read_bytes()[:500])
        refused(TorchvisionImages(dataset="cifar10", verify=False), tmp_path, "cifar10: the files in", "damaged")

    def test_a_missing_key(self, tmp_path):
        path = write_cifar(tmp_path, "cifar10") / "data_batch_3"
        path.write_bytes(pickle.dumps({"labels": []}))
        refused(TorchvisionImages(dataset="cifar10", verify=False), tmp_path, "cifar10: the files in", "damaged")

    def test_a_pickle_that_runs_code_is_not_run(self, tmp_path):
        class Trap:
            def __reduce__(self):
                return (Path.touch, (tmp_path / "sprung",))

        path = write_cifar(tmp_path, "cifar10") / "data_batch_3"
        path.write_bytes(pickle.dumps({"data": Trap(), "labels": []}))
        refused(
            TorchvisionImages(dataset="cifar10", verify=False), tmp_path, "data_batch_3: this pickle could run code"
        )
        assert not (tmp_path / "sprung").exists()

    def test_missing(self, tmp_path):
        refused(
            TorchvisionImages(dataset="cifar10"),
            tmp_path,
            "no data_batch_1 in",
            "the download failed (no route to host)",
        )
        refused(TorchvisionImages(dataset="cifar10", download=False), tmp_path, "set data.source.download=true")
        refused(TorchvisionImages(dataset="cifar10", verify=False), tmp_path, "set data.source.verify=true")


class TestSvhn:
    def write(self, root, labels=None):
        from scipy.io import savemat

        for part, count in (("train", 30), ("test", 20)):
            images, numbers = draw(count, 32, 32, 3, seed=count)
            numbers = np.where(numbers == 0, 10, numbers)
            savemat(
                root / f"{part}_32x32.mat", {"X": images.transpose(1, 2, 3, 0), "y": numbers[:, None].astype(np.uint8)}
            )

    def test_matlab_files(self, tmp_path):
        self.write(tmp_path)
        arrays = TorchvisionImages(dataset="svhn", verify=False).load(tmp_path)
        assert TorchvisionImages(dataset="svhn").form == (check_arrays(arrays), arrays.x_train.shape[1:])
        assert (arrays.x_train == draw(30, 32, 32, 3, seed=30)[0].transpose(0, 3, 1, 2)).all()
        # "10" stands for the digit 0
        assert arrays.y_test.tolist() == [*range(10)] * 2
        assert arrays.class_names == tuple("0123456789")

    def test_truncated(self, tmp_path):
        self.write(tmp_path)
        path = tmp_path / "test_32x32.mat"
        path.write_bytes(path.read_bytes()[:3000])
        refused(TorchvisionImages(dataset="svhn", verify=False), tmp_path, "svhn: the files in", "damaged")

    def test_no_matlab_file(self, tmp_path):
        self.write(tmp_path)
        (tmp_path / "test_32x32.mat").write_bytes(b"hello" * 100)
        refused(TorchvisionImages(dataset="svhn", verify=False), tmp_path, "svhn: the files in", "damaged")

    def test_checksums(self, tmp_path):
        self.write(tmp_path)
        refused(TorchvisionImages(dataset="svhn"), tmp_path, "svhn: the files in", "data.source.verify=false")

    def test_missing(self, tmp_path):
        refused(TorchvisionImages(dataset="svhn"), tmp_path, "svhn: no train_32x32.mat in", "ufldl.stanford.edu")


def test_unknown_data_set():
    with pytest.raises(ValueError, match=r"^dataset: expected one of mnist, .*, got 'imagenet'"):
        TorchvisionImages(dataset="imagenet")


def test_a_false_archive_is_not_unpacked(tmp_path, monkeypatch):
    import io
    import tarfile

    from torchvision.datasets import utils

    def deliver(url, filename, *arguments, **options):
        with tarfile.open(filename, "w:gz") as archive:
            for name in ("../owned", str(tmp_path / "owned"), "cifar-10-batches-py/data_batch_1"):
                member = tarfile.TarInfo(name)
                member.size = 1
                archive.addfile(member, io.BytesIO(b"x"))

    monkeypatch.setattr(utils, "_urlretrieve", deliver)
    monkeypatch.setattr(utils, "_get_redirect_url", lambda url, **options: url)
    with pytest.raises(DataError, match="the download failed"):
        TorchvisionImages(dataset="cifar10").load(tmp_path / "root")
    assert not (tmp_path / "owned").exists()
    assert not (tmp_path / "root" / "cifar-10-batches-py").exists()
