"""The field's standard image sets, through torchvision's loaders."""

from __future__ import annotations

import contextlib
import io
import logging
import pickle
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from kdrobust.data.arrays import Arrays
from kdrobust.data.idx import IDX_FILES, unpack_idx
from kdrobust.data.pickles import refuse_code
from kdrobust.errors import DataError

_log = logging.getLogger(__name__)

#: Where Debian's package `dataset-fashion-mnist` puts its files.
DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
#: Seconds without an answer after which a download is given up.
TIMEOUT = 30.0
_CIFAR10 = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta")
# all that torchvision, pickle, scipy and the network raise for files or hosts that are not as they should be
_FAILURES = (
    RuntimeError,
    OSError,
    ValueError,
    AssertionError,
    EOFError,
    KeyError,
    TypeError,
    AttributeError,
    IndexError,
)


@dataclass(frozen=True, kw_only=True)
class _Kind:
    loader: str
    form: tuple[int, tuple[int, ...]]
    folder: str
    files: tuple[str, ...]
    address: str
    megabytes: int
    checked: bool


_KINDS = {
    "mnist": _Kind(
        loader="MNIST",
        form=(10, (1, 28, 28)),
        folder="MNIST/raw",
        files=IDX_FILES,
        address="https://ossci-datasets.s3.amazonaws.com/mnist/",
        megabytes=12,
        checked=False,
    ),
    "fashion_mnist": _Kind(
        loader="FashionMNIST",
        form=(10, (1, 28, 28)),
        folder="FashionMNIST/raw",
        files=IDX_FILES,
        address="https://github.com/zalandoresearch/fashion-mnist",
        megabytes=31,
        checked=False,
    ),
    "cifar10": _Kind(
        loader="CIFAR10",
        form=(10, (3, 32, 32)),
        folder="cifar-10-batches-py",
        files=_CIFAR10,
        address="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        megabytes=170,
        checked=True,
    ),
    "cifar100": _Kind(
        loader="CIFAR100",
        form=(100, (3, 32, 32)),
        folder="cifar-100-python",
        files=("train", "test", "meta"),
        address="https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
        megabytes=169,
        checked=True,
    ),
    "svhn": _Kind(
        loader="SVHN",
        form=(10, (3, 32, 32)),
        folder="",
        files=("train_32x32.mat", "test_32x32.mat"),
        address="http://ufldl.stanford.edu/housenumbers/",
        megabytes=246,
        checked=True,
    ),
}


class TorchvisionImages:
    """MNIST, Fashion-MNIST, CIFAR-10, CIFAR-100 or SVHN, where and as torchvision keeps them.

    MNIST and Fashion-MNIST are also taken from the four `.gz` files, be they in torchvision's folder or (Fashion-MNIST)
    where Debian's package `dataset-fashion-mnist` puts them. torchvision itself refuses Debian's: their gzip header
    differs, and so their md5, while the data are bit-identical.

    Args:
        dataset: which one.
        download: fetch what is missing. Files that are there are never overwritten.
        verify: take CIFAR and SVHN files only with the published md5. False reads what is there, and downloads nothing;
            CIFAR's pickles are then searched for anything but plain arrays first, as pickles can run code. (MNIST's
            unpacked files have no published md5; downloads are always checked.)

    Raises:
        ValueError: an unknown data set.
    """

    def __init__(
        self,
        *,
        dataset: Literal["mnist", "fashion_mnist", "cifar10", "cifar100", "svhn"],
        download: bool = True,
        verify: bool = True,
    ) -> None:
        if dataset not in _KINDS:
            raise ValueError(f"dataset: expected one of {', '.join(_KINDS)}, got {dataset!r}")
        self.dataset = dataset
        self.download = download and verify
        self.verify = verify

    @property
    def form(self) -> tuple[int, tuple[int, ...]]:
        """Classes and a sample's shape, known before anything is read."""
        return _KINDS[self.dataset].form

    def present(self, root: Path) -> bool:
        """Whether all files are there, unpacked; their content is not looked at."""
        kind = _KINDS[self.dataset]
        return all((Path(root) / kind.folder / name).is_file() for name in kind.files)

    def load(self, root: Path) -> Arrays:
        """Read the data set, downloading it first if need be.

        Raises:
            DataError: missing and not to be had, or damaged.
        """
        root, kind = Path(root).expanduser(), _KINDS[self.dataset]
        folder = root / kind.folder
        if kind.files == IDX_FILES:
            packed = [folder, *([DEBIAN_FASHION_MNIST] if self.dataset == "fashion_mnist" else [])]
            unpack_idx(folder, packed)
        if not self.present(root):
            self._fetch(root)
        try:
            if self.dataset.startswith("cifar") and not self.verify:
                for name in kind.files:
                    refuse_code(folder / name)
            with _quiet():
                train, test = (self._open(root, train=part, download=False) for part in (True, False))
                return self._arrays(train, test, folder)
        except (*_FAILURES, pickle.UnpicklingError) as error:
            accept = (
                ", or set data.source.verify=false to take them as they are" if kind.checked and self.verify else ""
            )
            raise DataError(
                f"{self.dataset}: the files in {folder} are damaged or not the published ones ({_reason(error)}); "
                f"delete them to get them anew{accept}"
            ) from None

    def _fetch(self, root: Path) -> None:
        kind = _KINDS[self.dataset]
        missing = [name for name in kind.files if not (root / kind.folder / name).is_file()]
        looked = f"{self.dataset}: no {missing[0]} in {root / kind.folder}"
        package = ", or install Debian's package dataset-fashion-mnist" if self.dataset == "fashion_mnist" else ""
        remedy = f"get it from {kind.address} and unpack it there, set data.root to where it is{package}"
        if not self.download:
            switch = "data.source.download" if self.verify else "data.source.verify"
            raise DataError(f"{looked}; set {switch}=true to download it, {remedy}")
        _log.info("downloading %s (%d MB) to %s", self.dataset, kind.megabytes, root)
        try:
            with _quiet():
                for part in (True, False):
                    self._open(root, train=part, download=True)
        except _FAILURES as error:
            raise DataError(f"{looked}, and the download failed ({_reason(error)}); {remedy}") from None

    def _open(self, root: Path, *, train: bool, download: bool) -> Any:
        from torchvision import datasets

        loader = getattr(datasets, _KINDS[self.dataset].loader)
        if not self.verify and _KINDS[self.dataset].checked:
            loader = _without_checksums(loader)
        if self.dataset == "svhn":
            return loader(str(root), split="train" if train else "test", download=download)
        return loader(str(root), train=train, download=download)

    def _arrays(self, train: Any, test: Any, folder: Path) -> Arrays:
        labels = "labels" if self.dataset == "svhn" else "targets"
        names = getattr(train, "classes", None) or [str(number) for number in range(10)]
        # torchvision names MNIST's classes "0 - zero"
        return Arrays(
            x_train=self._images(train.data),
            y_train=np.asarray(getattr(train, labels), dtype=np.int64),
            x_test=self._images(test.data),
            y_test=np.asarray(getattr(test, labels), dtype=np.int64),
            origin=str(folder),
            class_names=tuple(str(name).split(" - ")[0] for name in names),
        )

    def _images(self, data: Any) -> npt.NDArray[Any]:
        pixels = np.asarray(data)
        if self.dataset.startswith("cifar"):
            return pixels.transpose(0, 3, 1, 2)
        return pixels[:, np.newaxis] if self.dataset.endswith("mnist") else pixels


def _without_checksums(loader: Any) -> Any:
    changed: dict[str, Any] = {}
    for name in ("train_list", "test_list"):
        if hasattr(loader, name):
            changed[name] = [[file, None] for file, _ in getattr(loader, name)]
    if hasattr(loader, "meta"):
        changed["meta"] = {**loader.meta, "md5": None}
    if hasattr(loader, "split_list"):
        changed["split_list"] = {split: [url, file, None] for split, (url, file, _) in loader.split_list.items()}
    return type(loader.__name__, (loader,), changed)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars or prints of torchvision's, and no waiting for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        socket.setdefaulttimeout(before)


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reasons = [line for line in lines if not line.startswith(("Error downloading", "Tried "))]
    text = (reasons or lines or [type(error).__name__])[0]
    return text.removeprefix("<urlopen error ").removesuffix(">").split(". You can use download")[0][:160]
