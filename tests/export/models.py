"""A tiny classifier with normalisation, exported once a format."""

import torch

from kdrobust.export import SUFFIXES, write_model
from kdrobust.models import Classifier, ConvNet, build_classifier, checkpoint_payload
from kdrobust.serving import Metadata
from kdrobust.spec import InputSpec

SPEC = InputSpec(shape=(1, 8, 8), classes=3, mean=(0.3,), std=(0.4,), class_names=("a", "b|c", "ü"))


def classifier(seed=0, spec=SPEC) -> Classifier:
    def network(*, spec):
        return ConvNet(spec=spec, channels=(3, 4), hidden=0)

    return build_classifier(network, spec=spec, normalize=True, seed=seed).eval()


def save_checkpoint(path, spec=SPEC, seed=0):
    """A checkpoint as training leaves it, without training."""
    payload = checkpoint_payload(
        model={"network": {"_target_": "kdrobust.models.ConvNet", "channels": [3, 4], "hidden": 0}, "normalize": True},
        spec=spec,
        stage="distill",
        threat={"norm": "linf", "eps": 0.1},
    )
    weights = {f"model.{name}": value for name, value in classifier(seed, spec).state_dict().items()}
    torch.save({"kdrobust": payload, "state_dict": weights}, path)
    return path


def metadata(**more) -> Metadata:
    return Metadata(shape=SPEC.shape, class_names=SPEC.class_names, **more)


def pixels(n=40, seed=0):
    return torch.rand(n, *SPEC.shape, generator=torch.Generator().manual_seed(seed))


def exported(folder, format="onnx", **more):
    path = folder / f"model{SUFFIXES[format]}"
    write_model(classifier(), metadata(**more), path, format=format)
    return path
