"""A convolutional classifier in eval mode as fast kernels run it: batch norm folded, channels last, bf16 if wanted."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from kdrobust.models.classifier import Normalize

# What may stand between the convolutions. Only what is known to be a fixed function of its input in eval mode is
# admitted: anything else (noise, a state that changes, a branch on values) would be frozen by tracing.
_MODULES: tuple[type[nn.Module], ...] = (
    Normalize,
    nn.Conv2d,
    nn.Linear,
    nn.BatchNorm2d,
    nn.Identity,
    nn.Dropout,
    nn.Flatten,
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.SiLU,
    nn.Hardswish,
    nn.GELU,
    nn.AvgPool2d,
    nn.MaxPool2d,
    nn.AdaptiveAvgPool2d,
)
_FUNCTIONS: tuple[Any, ...] = (
    operator.add,
    operator.iadd,
    operator.mul,
    torch.add,
    torch.cat,
    torch.flatten,
    torch.relu,
    F.relu,
    F.relu6,
    F.silu,
    F.avg_pool2d,
    F.max_pool2d,
    F.adaptive_avg_pool2d,
)
_METHODS = ("add", "add_", "flatten", "mean", "mul", "relu", "reshape")
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
#: How far logits of the folded model may lie from the model's own, as a share of the largest: rounding, also that of
#: TensorFloat-32, and nothing else.
_ROUNDING = 1e-2
#: Smaller batches are filled up: libraries have other kernels for a few images, whose last bits differ, and a sample's
#: path may not depend on how many others are left.
_LEAST = 16


class NotFoldable(Exception):
    """Why a model has to run as it is; one clause."""


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, Normalize) or super().is_leaf_module(m, module_qualified_name)


class _Layer(nn.Module):
    """A convolution or a linear layer with what follows folded in, its weights in a memory of their own."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, source: nn.Conv2d | nn.Linear, norm: nn.BatchNorm2d | None, dtype: torch.dtype) -> None:
        super().__init__()
        # in a tuple, so that the sources do not become modules of this one
        self._sources = (source, norm)
        # asked for by name: of one input channel `contiguous` would call any layout channels last, and the convolution
        # answer in the other one, which makes every later element-wise step several times slower
        layout = torch.channels_last if isinstance(source, nn.Conv2d) else torch.contiguous_format
        kept = torch.empty_like(source.weight, dtype=dtype, memory_format=layout)
        self.weight = kept
        has_bias = norm is not None or source.bias is not None
        self.bias = torch.empty(len(kept), dtype=dtype, device=kept.device) if has_bias else None

    def refresh(self) -> None:
        source, norm = self._sources
        if norm is None:
            self.weight.copy_(source.weight)
            if self.bias is not None and source.bias is not None:
                self.bias.copy_(source.bias)
            return
        assert self.bias is not None
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = (norm.running_var + norm.eps).rsqrt()
        if norm.weight is not None:
            scale = scale * norm.weight
        centre = norm.running_mean if source.bias is None else norm.running_mean - source.bias
        shift = -centre * scale
        self.weight.copy_(source.weight * scale.view(-1, 1, 1, 1))
        self.bias.copy_(shift if norm.bias is None else shift + norm.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        source = self._sources[0]
        values = inputs.to(self.weight.dtype)
        if isinstance(source, nn.Linear):
            return F.linear(values, self.weight, self.bias)
        return F.conv2d(values, self.weight, self.bias, source.stride, source.padding, source.dilation, source.groups)


class Folded:
    """The same function as a classifier in eval mode, up to rounding, in the kernels' favourite form.

    Batch norm after a convolution is folded into it and convolutions run channels last. With `torch.bfloat16` they and
    what lies between them run in half precision; the pixels' normalisation and linear layers do not.
    The classifier itself is never touched; gradients flow to the inputs only.

    Args:
        model: a module on which every parameter and buffer has its final device.
        dtype: `torch.float32` or `torch.bfloat16`.
        compiled: run it through `torch.compile`, which costs about twenty seconds at the first call.

    Raises:
        NotFoldable: the model is no fixed chain of known layers with a convolution among them.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype = torch.float32, *, compiled: bool = False) -> None:
        self.dtype = dtype
        self._modules = _below(model)
        self._device = next((parameter.device for parameter in model.parameters()), None)
        if reason := _disturbed(model):
            raise NotFoldable(reason)
        self._layers: list[_Layer] = []
        self._module = self._convert(model)
        self._run: Callable[[Tensor], Tensor] = torch.compile(self._module) if compiled else self._module
        self.refresh()

    def fits(self, model: nn.Module) -> bool:
        """Whether the model is still built of the modules this was made from, without hooks, on the same device."""
        modules = _below(model)
        same = len(modules) == len(self._modules) and all(map(operator.is_, modules, self._modules))
        device = next((parameter.device for parameter in model.parameters()), None)
        return same and device == self._device and not _disturbed(model)

    @torch.no_grad()
    def refresh(self) -> None:
        """Take the model's weights and statistics over as they are now."""
        for layer in self._layers:
            layer.refresh()

    def __call__(self, inputs: Tensor) -> Tensor:
        """Logits, [B, K], of images [B, C, H, W]; whatever autocast surrounds it has no say inside."""
        count = len(inputs)
        images = inputs
        if 0 < count < _LEAST:
            images = torch.cat([inputs, inputs.new_zeros(_LEAST - count, *inputs.shape[1:])])
        with torch.autocast(inputs.device.type, enabled=False):
            return self._run(images.contiguous(memory_format=torch.channels_last))[:count]

    @property
    def grouped(self) -> bool:
        """Whether a convolution treats groups of channels apart: those have no fast kernels in half precision."""
        return any(isinstance(module, nn.Conv2d) and module.groups > 1 for module in self._modules)

    def flops(self, inputs: Tensor) -> int:
        """Operations of a forward pass over the first of some images; a multiply-add counts as 2."""
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            # not filled up to a batch
            self._module(inputs[:1])
        return int(counter.get_total_flops())

    def _convert(self, model: nn.Module) -> fx.GraphModule:
        if not any(isinstance(module, nn.Conv2d) for module in self._modules):
            raise NotFoldable("it has no convolution")
        if any(parameter.dtype != torch.float32 for parameter in model.parameters()):
            raise NotFoldable("its weights are not in single precision")
        graph, modules = _trace(model), dict(model.named_modules())
        kept: dict[str, nn.Module] = {}
        for node in list(graph.nodes):
            _admit(node, modules)
            if node.op != "call_module":
                continue
            module = modules[node.target]
            if not isinstance(module, nn.Conv2d | nn.Linear):
                kept[f"m{len(kept)}"] = module
                node.target = f"m{len(kept) - 1}"
                continue
            norm = None
            if isinstance(module, nn.Conv2d):
                after = next(iter(node.users)) if len(node.users) == 1 else None
                found = modules.get(str(after.target)) if after is not None and after.op == "call_module" else None
                if after is not None and isinstance(found, nn.BatchNorm2d):
                    norm = found
                    after.replace_all_uses_with(node)
                    graph.erase_node(after)
            layer = _Layer(module, norm, torch.float32 if isinstance(module, nn.Linear) else self.dtype)
            self._layers.append(layer)
            kept[f"m{len(kept)}"] = layer
            node.target = f"m{len(kept) - 1}"
        # from a mapping, so that the graph's module holds what it runs and nothing of the model's own tree
        return fx.GraphModule(kept, graph, class_name="Folded")


def _trace(model: nn.Module) -> fx.Graph:
    modes = [(module, module.training) for module in model.modules()]
    try:
        # not `model.eval()`, which a class may have redefined
        for module, _ in modes:
            module.training = False
        return _Tracer().trace(model)
    except Exception as error:
        raise NotFoldable(f"torch.fx cannot trace it ({type(error).__name__})") from error
    finally:
        for module, training in modes:
            module.training = training


def _admit(node: fx.Node, modules: dict[str, nn.Module]) -> None:
    if node.op == "call_module":
        module = modules[str(node.target)]
        name = type(module).__name__
        if type(module) not in _MODULES:
            raise NotFoldable(f"it holds a {name}")
        if isinstance(module, nn.Conv2d) and module.padding_mode != "zeros":
            raise NotFoldable("a convolution pads with other than zeros")
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is None:
            raise NotFoldable("a batch norm uses the batch's own statistics")
    known = {"call_function": _FUNCTIONS, "call_method": _METHODS}.get(node.op)
    if node.op == "get_attr" or (known is not None and node.target not in known):
        raise NotFoldable(f"its forward uses {getattr(node.target, '__name__', node.target)}")


def _below(model: nn.Module) -> tuple[nn.Module, ...]:
    # without the model itself, which nothing here may keep alive
    return tuple(model.modules())[1:]


def _disturbed(model: nn.Module) -> str:
    for module in model.modules():
        if any(getattr(module, hooks) for hooks in _HOOKS):
            return "a hook listens to it"
        if "forward" in vars(module):
            return "a forward was replaced"
    return ""


def check_folded(model: nn.Module, folded: Folded, inputs: Tensor) -> None:
    """Compare the answers on some inputs.

    Args:
        model: in eval mode.
        folded: made of it, in single precision.
        inputs: [B, C, H, W].

    Raises:
        NotFoldable: they differ by more than rounding, or the folded model does not run.
    """
    with torch.no_grad(), torch.autocast(inputs.device.type, enabled=False):
        expected = model(inputs)
        try:
            found = folded(inputs)
        except RuntimeError as error:
            raise NotFoldable(f"its folded form does not run ({error})") from error
    # a NaN is no agreement
    if found.shape != expected.shape or not (found - expected).abs().max() <= _ROUNDING * expected.abs().max():
        raise NotFoldable("its folded form answers differently")
