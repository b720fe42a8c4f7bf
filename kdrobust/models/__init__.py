"""Architectures, the normalising classifier, feature taps, and checkpoints."""

from kdrobust.models.checkpoint import (
    check_class_names,
    check_form,
    check_network,
    check_spec,
    checkpoint_payload,
    file_hash,
    fit,
    load_weights,
    read_checkpoint,
    restore_classifier,
    stored_spec,
)
from kdrobust.models.classifier import Classifier, FeatureTaps, Normalize, build_classifier, tap_shapes
from kdrobust.models.convnet import MLP, ConvNet
from kdrobust.models.detector import Detector
from kdrobust.models.foreign import (
    check_answers,
    load_imported,
    load_timm,
    load_torchscript,
    normalised,
)
from kdrobust.models.keywords import DSCNN, SpectrogramCNN
from kdrobust.models.logmel import LogMel, mel_filters
from kdrobust.models.mobilenet import MobileNetV2
from kdrobust.models.pruning import prune_channels
from kdrobust.models.resnet import PreActResNet, ResNet, WideResNet
from kdrobust.models.robustbench import load_robustbench
from kdrobust.models.state import load_state
from kdrobust.models.timm import Timm
from kdrobust.models.waveform import WaveformCNN

__all__ = [
    "DSCNN",
    "MLP",
    "Classifier",
    "ConvNet",
    "Detector",
    "FeatureTaps",
    "LogMel",
    "MobileNetV2",
    "Normalize",
    "PreActResNet",
    "ResNet",
    "SpectrogramCNN",
    "Timm",
    "WaveformCNN",
    "WideResNet",
    "build_classifier",
    "check_answers",
    "check_class_names",
    "check_form",
    "check_network",
    "check_spec",
    "checkpoint_payload",
    "file_hash",
    "fit",
    "load_imported",
    "load_robustbench",
    "load_state",
    "load_timm",
    "load_torchscript",
    "load_weights",
    "mel_filters",
    "normalised",
    "prune_channels",
    "read_checkpoint",
    "restore_classifier",
    "stored_spec",
    "tap_shapes",
]
