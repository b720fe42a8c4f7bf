"""A network that says whether an input was attacked, out of the pixels and of what a classifier makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from kdrobust.errors import UsageError
from kdrobust.models.checkpoint import check_spec, read_checkpoint, restore_classifier
from kdrobust.models.classifier import FeatureTaps, tap_shapes
from kdrobust.models.convnet import ConvNet
from kdrobust.models.sizes import require_counts
from kdrobust.spec import InputSpec


class Detector(nn.Module):
    r"""Two logits, "clean" and "attacked", from pixels, a frozen classifier's logits and its features.

    $D(x) = \mathrm{MLP}([\,C(x),\, \mathrm{BN}([z(x),\, \bar h_1(x), \ldots])\,])$ with C a convolutional net of
    `width` outputs, z the classifier's logits and $\bar h$ the mean and the maximum over the map of a tapped feature.
    The classifier is part of the detector: its weights lie in the detector's checkpoint and stay as they are, and
    gradients to the inputs pass through it, so that an adaptive attack sees all of it. The file it came from is needed
    to rebuild the detector (its weights are then the detector's own).

    Args:
        spec: the data's shape; two classes.
        classifier: the checkpoint of the classifier that is protected; of the same inputs.
        pixels: output channels of C's convolutions; empty: the detector does not see the input.
        logits: whether it sees the classifier's logits.
        features: modules of the classifier whose outputs it sees, by their dotted paths.
        hidden: width of the hidden layer.
        width: outputs of C.

    Raises:
        UsageError: nothing to look at, or no such module.
        CheckpointError: the classifier cannot be read or takes other inputs.
    """

    def __init__(
        self,
        *,
        spec: InputSpec,
        classifier: str,
        pixels: Sequence[int] = (32, 64),
        logits: bool = True,
        features: Sequence[str] = (),
        hidden: int = 64,
        width: int = 64,
    ) -> None:
        super().__init__()
        require_counts(pixels=pixels, hidden=hidden, width=width, empty=["pixels"])
        checkpoint = read_checkpoint(classifier)
        classes = int(checkpoint["kdrobust"]["spec"]["classes"])
        inner = replace(spec, classes=classes)
        check_spec(checkpoint, inner, classifier)
        if not (pixels or logits or features):
            raise UsageError("network: a detector looks at something: set pixels, logits or features")
        self.classifier = restore_classifier(classifier, checkpoint).eval().requires_grad_(False)
        self.features = list(features)
        try:
            shapes = tap_shapes(self.classifier, self.features, inner)
        except UsageError as error:
            raise UsageError(f"network.features: (classifier) {error}") from None
        known = classes * logits + sum(2 * shape[0] if len(shape) > 1 else shape[0] for shape in shapes.values())
        self.logits = logits
        self.eye = ConvNet(spec=replace(spec, classes=width), channels=pixels, hidden=0) if pixels else None
        self.scale = nn.BatchNorm1d(known) if known else None
        self.head = nn.Sequential(
            nn.Linear(known + (width if pixels else 0), hidden), nn.ReLU(), nn.Linear(hidden, spec.classes)
        )

    def train(self, mode: bool = True) -> Detector:
        """Training or not, the classifier answers in eval mode."""
        super().train(mode)
        self.classifier.eval()
        return self

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits, [B, 2], of inputs in [0, 1], [B, ...]."""
        parts: list[Tensor] = []
        if self.scale is not None:
            parts.append(self.scale(torch.cat(self._known(inputs), dim=1)))
        if self.eye is not None:
            parts.append(self.eye(inputs).relu())
        answer: Tensor = self.head(torch.cat(parts, dim=1))
        return answer

    def _known(self, inputs: Tensor) -> list[Tensor]:
        if not self.features:
            return [self.classifier(inputs)]
        with FeatureTaps(self.classifier, self.features) as taps:
            logits = self.classifier(inputs)
        known = [logits] if self.logits else []
        for path in self.features:
            feature = taps.outputs[path]
            if feature.dim() == 2:
                known.append(feature)
            else:
                flat = feature.flatten(2)
                known += [flat.mean(dim=2), flat.amax(dim=2)]
        return known
