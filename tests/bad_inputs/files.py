"""Bad files: data sets, checkpoints, stored outputs, results, vectors, and what other tools have written."""

from __future__ import annotations

import gzip
import hashlib
import json

import numpy as np

from kdrobust.spec import InputSpec
from tests.bad_inputs.cases import TINY, Bad
from tests.bad_inputs.materials import Code, arrays, checkpoint, damaged, idx, npz, pickled, saved, stored

# a table: one row an input
# fmt: off

_NPZ = ("distill", *TINY, "method=pgd_at", "data=npz", "data.source.path=bad.npz")


def _npz(what: str, *words: str, **changes: object) -> Bad:
    return Bad(what=what, typed=_NPZ, files={"bad.npz": npz(**changes)}, words=("bad.npz", *words), code=1)


def _data(what: str, files: dict, *typed: str, words: tuple[str, ...]) -> Bad:
    return Bad(what=what, typed=("distill", *TINY, "method=pgd_at", *typed), files=files, words=words, code=1)


_IMAGES = {"train-images-idx3-ubyte": (60, 28, 28), "train-labels-idx1-ubyte": (60,), "t10k-images-idx3-ubyte": (10, 28, 28), "t10k-labels-idx1-ubyte": (10,)}
_MNIST = {f"raw/MNIST/raw/{name}": idx(*shape) for name, shape in _IMAGES.items()}
_OF_MNIST = ("data=mnist", "data.root=raw", "data.source.download=false")
_CIFAR = ("data=cifar10", "data.root=raw", "data.source.download=false", "data.source.verify=false")
_CIFAR_FILES = {f"raw/cifar-10-batches-py/{name}": pickled(Code()) for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta")}
_PIXELS = np.zeros((60, 1, 8, 8), dtype=np.float32)

DATA = [
    Bad(what="data that are not there", typed=_NPZ, words=("bad.npz", "no such file", "data.source.path"), code=1),
    Bad(what="data of no name", typed=("distill", *TINY, "method=pgd_at", "data=npz"), words=("data.source.path", "not given")),
    _data("an archive of no length", {"bad.npz": b""}, *_NPZ[-2:], words=("bad.npz", "numpy.savez")),
    _data("an archive of noise", {"bad.npz": bytes(range(256)) * 9}, *_NPZ[-2:], words=("bad.npz", "numpy.savez")),
    _data("an archive cut short", {"bad.npz": damaged(npz(), keep=0.6)}, *_NPZ[-2:], words=("bad.npz", "truncated")),
    _data("an archive with a bit turned over", {"bad.npz": damaged(npz(), flip=0.4)}, *_NPZ[-2:], words=("bad.npz", "cannot be read")),
    _npz("no labels", "no y_train", "store", y_train=None),
    _npz("pickled objects", "y_train", "pickled", "store plain numbers", y_train=np.array([Code()] * 60, dtype=object)),
    _npz("pixels that are NaN", "x_train", "NaN", "repair", x_train=_PIXELS + np.nan),
    _npz("pixels up to 255", "x_train", "divide by 255", x_train=_PIXELS + 200),
    _npz("pixels that were normalised", "x_test", "undo the normalisation", x_test=_PIXELS[:15] - 1),
    _npz("pixels of integers", "x_train", "int64", "uint8", x_train=np.zeros((60, 1, 8, 8), dtype=np.int64)),
    _npz("pixels that are texts", "x_train", "dtype", "uint8", x_train=np.full((60, 1, 8, 8), "a")),
    _npz("images of two shapes", "x_train", "x_test", "make them match", x_test=np.zeros((15, 1, 9, 9), dtype=np.float32)),
    _npz("images without pixels", "x_train", "without pixels", x_train=np.zeros((60, 1, 0, 8), dtype=np.float32)),
    _npz("images that are none", "x_train", "(N, C, H, W)", x_train=np.zeros((60,), dtype=np.float32)),
    _npz("channels anywhere", "x_train", "data.source.channels_last", x_train=np.zeros((60, 5, 8, 5), dtype=np.float32)),
    _npz("no samples", "no samples", x_train=_PIXELS[:0], y_train=np.arange(0)),
    _npz("fewer labels than images", "y_train has 59", "make them match", y_train=np.arange(59) % 3),
    _npz("labels one-hot", "y_train", "argmax", y_train=np.eye(3, dtype=np.int64)[np.arange(60) % 3]),
    _npz("labels as floats", "y_train", "integers", y_train=(np.arange(60) % 3).astype(np.float64)),
    _npz("labels below zero", "y_train", "0 .. K-1", y_train=np.arange(60) % 3 - 1),
    _npz("labels beyond memory", "y_train", "0 .. K-1", y_train=np.where(np.arange(60) == 0, 2**40, np.arange(60) % 3)),
    _npz("one class", "one class", "needs two", y_train=np.zeros(60, dtype=np.int64), y_test=np.zeros(15, dtype=np.int64)),
    _npz("a class without samples", "class 1", "y_train", y_train=np.where(np.arange(60) % 3 == 1, 0, np.arange(60) % 3)),
    _npz("labels of the test only", "y_test", "correct the labels", y_test=np.arange(15) % 3 + 5),
    _npz("class names too few", "classes", class_names=np.array(["a", "b"])),
    _data("IDX files that are not there", {}, *_OF_MNIST, words=("mnist", "data.root", "data.source.download=true")),
    _data("an IDX file of no length", {**_MNIST, "raw/MNIST/raw/train-images-idx3-ubyte": b""}, *_OF_MNIST, words=("raw/MNIST/raw", "mnist")),
    _data("an IDX file cut short", {**_MNIST, "raw/MNIST/raw/train-images-idx3-ubyte": idx(60, 28, 28)[:500]}, *_OF_MNIST, words=("raw/MNIST/raw",)),
    _data("an IDX file with a false head", {**_MNIST, "raw/MNIST/raw/train-labels-idx1-ubyte": b"\xff" * 100}, *_OF_MNIST, words=("raw/MNIST/raw",)),
    _data("an IDX archive cut short", {f"raw/MNIST/raw/{name}.gz": gzip.compress(idx(*shape))[:-9] for name, shape in _IMAGES.items()}, *_OF_MNIST, words=(".gz", "damaged or truncated", "get it anew")),
    _data("an IDX archive that is a bomb", {**{name: content for name, content in _MNIST.items() if "train-images" not in name}, "raw/MNIST/raw/train-images-idx3-ubyte.gz": gzip.compress(bytes(1 << 27), 1)}, *_OF_MNIST, words=(".gz", "get it anew")),
    _data("CIFAR pickles that run code", _CIFAR_FILES, *_CIFAR, words=("cifar-10-batches-py", "could run code", "published file")),
    _data("CIFAR pickles of no length", dict.fromkeys(_CIFAR_FILES, b""), *_CIFAR, words=("cifar-10-batches-py",)),
    _data("CIFAR pickles of another thing", dict.fromkeys(_CIFAR_FILES, pickled([1, 2])), *_CIFAR, words=("cifar-10-batches-py",)),
    _data("a folder of images that is not there", {}, "data=image_folder", "data.source.path=images", words=("images/train", "no such folder", "train/CLASS")),
    _data("an image that is none", {f"images/{part}/{name}/a.png": b"\x89PNG" for part in ("train", "test") for name in "ab"}, "data=image_folder", "data.source.path=images", words=("a.png", "no readable image", "replace or remove")),
    _data("class folders without images", {f"images/{part}/a/notes.txt": "x" for part in ("train", "test")}, "data=image_folder", "data.source.path=images", words=("images/train", "no images")),
]


def _teacher(what: str, content: object, *words: str) -> Bad:
    typed = ("distill", *TINY, "teacher.checkpoint=bad.ckpt")
    return Bad(what=what, typed=typed, files={"bad.ckpt": content}, words=("bad.ckpt", *words), code=1)  # type: ignore[dict-item]


def _evaluated(what: str, content: object, *words: str, typed: tuple[str, ...] = ("checkpoint=bad.ckpt",), name: str = "bad.ckpt", code: int = 1) -> Bad:
    return Bad(what=what, typed=("evaluate", *typed), files={name: content}, words=(name, *words), code=code)  # type: ignore[dict-item]


_THREE = InputSpec(shape=(1, 8, 8), classes=3, mean=(0.5,), std=(0.25,))
_LARGE = InputSpec(shape=(1, 9, 9), classes=10, mean=(0.5,), std=(0.25,))
CHECKPOINTS = [
    _teacher("a checkpoint of no length", b"", "damaged"),
    _teacher("a checkpoint of noise", bytes(range(256)), "damaged"),
    _teacher("a checkpoint cut short", damaged(checkpoint(), keep=0.5), "damaged"),
    _teacher("a checkpoint that runs code", saved({"state_dict": {}, "kdrobust": Code()}), "more than data", "not loaded"),
    _teacher("a bare pickle that runs code", pickled(Code()), "more than data", "not loaded"),
    _teacher("a checkpoint of other data", checkpoint(made_for=_THREE), "3 classes", "10"),
    _teacher("a checkpoint of another size", checkpoint(made_for=_LARGE), "(1, 9, 9)", "(1, 8, 8)"),
    _teacher("a checkpoint of other code", saved({"model": {}, "epoch": 3}), "not a kdrobust checkpoint", "kdrobust teacher"),
    _teacher("bare weights", saved({"fc.weight": 0.0}), "not a kdrobust checkpoint"),
    _teacher("a checkpoint of a later version", checkpoint(payload={"format": 99}), "format 99"),
    _teacher("a checkpoint without its model", checkpoint(payload={"model": None}), "damaged"),
    _teacher("a checkpoint without weights", checkpoint(content={"state_dict": None}), "not a kdrobust checkpoint"),
    _evaluated("a checkpoint that names code", checkpoint(target="os.system"), "'os.system'", "kdrobust.models"),
    _evaluated("a checkpoint that names its own code", checkpoint(target="kdrobust.cli.main"), "kdrobust.cli.main", "kdrobust.models"),
    _evaluated("a checkpoint whose spec is wrong", checkpoint(payload={"spec": {"shape": "abc"}}), "damaged"),
    _evaluated("a checkpoint with strange weights", checkpoint(weights={"model.extra": 3}), "another model", "extra"),
    Bad(what="a checkpoint that is a folder", typed=("evaluate", "checkpoint=run"), files={"run/best.ckpt": "x"}, words=("run", "is a folder", "best.ckpt"), code=1),
    _evaluated("a script that is none", b"x", "torch.jit.save", typed=("model.torchscript=bad.pt", "model.trust=true"), name="bad.pt"),
    _evaluated("timm weights of noise", bytes(range(99)), typed=("model.timm=resnet18", "model.weights=bad.pt"), name="bad.pt"),
    _evaluated("timm weights that run code", saved(Code()), "more than data", "not loaded", "model.trust=true", typed=("model.timm=resnet18", "model.weights=bad.pt"), name="bad.pt"),
    _evaluated("timm weights of another model", saved({"fc.weight": [1.0]}), typed=("model.timm=resnet18", "model.weights=bad.pt"), name="bad.pt"),
    _evaluated("weights in a broken safetensors", b"\xff" * 40, typed=("model.timm=resnet18", "model.weights=bad.safetensors"), name="bad.safetensors"),
    Bad(what="no such timm model", typed=("evaluate", "model.timm=resnet1888", "+model.arguments.pretrained=true"), words=("model.timm=resnet1888",)),
    Bad(what="no such RobustBench model", typed=("evaluate", "model.robustbench=Absent2020"), words=("robustbench", "pip install")),
]

_SHA = hashlib.sha256(b"").hexdigest()
_GOOD = {"schema": 1, "checkpoint": {"path": "a.ckpt", "sha256": "0"}, "data": {"name": "digits", "fingerprint": "0"}, "sha256": _SHA}


def _outputs(what: str, *words: str, **made: object) -> Bad:
    return Bad(what=what, typed=("distill", *TINY, "teacher.outputs=stored"), files=stored(**made), words=("stored", *words), code=1)  # type: ignore[arg-type]


OUTPUTS = [
    _outputs("a manifest that is no JSON", "damaged", "kdrobust outputs", manifest="{"),
    _outputs("a manifest that is a list", "kdrobust outputs", manifest=[1]),
    _outputs("stored outputs that were changed", "truncated or changed", "kdrobust outputs", manifest=_GOOD, content=b"abc"),
    _outputs("stored outputs of other data", "other data", "kdrobust outputs", manifest=_GOOD),
    _outputs("a manifest that says too little", "kdrobust outputs", manifest={"sha256": _SHA}),
    _outputs("a manifest of texts", "kdrobust outputs", manifest={"sha256": _SHA, "data": "digits", "checkpoint": 3}),
]


def _vectors(what: str, content: object, *words: str, name: str = "bad.json", code: int = 1) -> Bad:
    return Bad(what=what, typed=(name,), files={name: content}, words=(name, *words), code=code, conformance=True)  # type: ignore[dict-item]


_CASE = {"method": "rslad", "inputs": {"student": [[1.0, 2.0]]}, "loss": 1.0}
VECTORS = [
    Bad(what="vectors that are not there", typed=("absent.json",), words=("absent.json", "no such vector file"), code=1, conformance=True),
    Bad(what="arrays that are not there", typed=("absent.npz",), words=("absent.npz", "no such file"), code=1, conformance=True),
    _vectors("vectors that are no JSON", "{", "not a JSON file"),
    _vectors("vectors in another encoding", b"\xff\xfe", "not a JSON file"),
    _vectors("vectors that are a number", "3", "list of cases"),
    _vectors("no vectors", "[]", "non-empty list"),
    _vectors("a case that is none", "[3]", "[0]", "'method'"),
    _vectors("inputs that are a list", json.dumps([{**_CASE, "inputs": [1]}]), "[0].inputs", "mapping"),
    _vectors("inputs of no set", json.dumps([{**_CASE, "inputs": "set"}]), "[0].inputs", "no input set"),
    _vectors("inputs in words", json.dumps([{**_CASE, "inputs": {"student": "abc"}}]), "[0].inputs.student", "numbers"),
    _vectors("inputs that are NaN", json.dumps([{**_CASE, "inputs": {"student": [float("nan")]}}]), "[0].inputs.student", "NaN"),
    _vectors("a ragged array", json.dumps([{**_CASE, "inputs": {"student": [[1.0], [1.0, 2.0]]}}]), "[0].inputs.student"),
    _vectors("labels in words", json.dumps([{**_CASE, "labels": ["cat"]}]), "[0].labels", "class numbers"),
    _vectors("gradients of no input", json.dumps([{**_CASE, "gradients": {"teacher": [1.0]}}]), "[0].gradients.teacher"),
    _vectors("gradients that are a list", json.dumps([{**_CASE, "gradients": [1.0]}]), "[0].gradients"),
    _vectors("settings that are a list", json.dumps([{**_CASE, "hyperparameters": [1.0]}]), "[0].hyperparameters", "mapping"),
    _vectors("arrays of noise", bytes(range(200)), "not a readable .npz", name="bad.npz"),
    _vectors("arrays that are pickles", lambda path: np.savez(path, x=np.array([Code()], dtype=object)), "not a readable .npz", name="bad.npz"),
    _vectors("arrays without samples", lambda path: np.savez(path, a=np.zeros(3)), "no array x", name="bad.npz"),
    _vectors("arrays cut short", damaged(lambda path: np.savez(path, **arrays()), keep=0.5), "not a readable .npz", name="bad.npz"),
    Bad(what="cases of an absent method", typed=("good.json", "--only", "absent"), files={"good.json": json.dumps([_CASE])}, words=("--only", "good.json", "absent"), conformance=True),
]

RUNS = [
    Bad(what="a run's folder that is a file", typed=("distill", *TINY, "method=standard", "run.folder=file"), files={"file": "x"}, words=("file", "choose another run.folder"), code=1),
    Bad(what="a root that is a file", typed=("distill", *TINY, "method=standard", "run.root=file"), files={"file": "x"}, words=("file", "run.root"), code=1),
    Bad(what="the folder of a finished run", typed=("distill", *TINY, "method=standard", "run.folder=done"), files={"done/status.json": '{"status": "completed"}'}, words=("done", "finished run", "run.folder"), code=1),
    Bad(what="the folder of another run", typed=("distill", *TINY, "method=standard", "run.folder=other"), files={"other/status.json": '{"status": "failed", "config_hash": "0"}'}, words=("other", "another configuration", "run.folder"), code=1),
    Bad(what="the status of a broken sweep", typed=("sweep", "status", "broken"), files={"broken/sweep.json": "{"}, words=("broken", "sweep.json")),
    Bad(what="resuming a sweep that says nothing", typed=("sweep", "resume", "broken"), files={"broken/sweep.json": '{"status": "cut"}'}, words=("broken", "sweep.json")),
    Bad(what="a search whose study is none", typed=("distill", "-m", *TINY, "search=temperature_tpe", "hydra.sweep.dir=old"), files={"old/study.db": "no database"}, words=("old/study.db",), code=1),
]
