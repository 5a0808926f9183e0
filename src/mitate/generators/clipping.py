"""Gradients of single examples, each scaled down to a norm, and their sum: the part of DP-SGD that bounds an image's influence.

They come from what enters and leaves each layer, in one backward pass (Goodfellow 2015; Rochette et al. 2019 for convolutions), so a
layer must be of a kind that is known here, and examples must not mix: BatchNorm is refused.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mitate.errors import SettingError

SLACK = 1e-5  # clipped gradients stay this far within the norm, against rounding in float32


def clipped_sum(module: nn.Module, losses: Callable[[], Tensor], *, clip_norm: float, draws: int = 1) -> list[Tensor]:
    """The sum over examples of each one's gradient, scaled down to a norm of at most `clip_norm`; one tensor a trained parameter.

    losses() runs `module` once and returns [n * draws]: `draws` rows in a row are one example, whose loss is their mean.
    An example whose gradient is not finite counts as none: an error would tell of it.
    """
    layers = _layers(module)
    taken: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def take(layer: nn.Module, entering: tuple[Tensor, ...], leaving: Tensor) -> None:
        if layer in taken:
            raise ValueError(f"{type(layer).__name__} runs twice in one pass: the gradients of its two parts are not kept apart")
        taken[layer] = (entering[0].detach(), leaving)

    hooks = [layer.register_forward_hook(take) for layer in layers]
    try:
        total = losses().sum() / draws
    finally:
        for hook in hooks:
            hook.remove()
    used = [layer for layer in layers if layer in taken]
    of_each: dict[nn.Parameter, Tensor] = {}
    for layer, gradient in zip(used, torch.autograd.grad(total, [taken[layer][1] for layer in used]), strict=True):
        found = _of_each(layer, taken[layer][0], gradient, draws)
        if found.keys() & of_each.keys():
            raise ValueError(f"{type(layer).__name__} shares a parameter with another layer: the gradients of its parts are not kept apart")
        of_each |= found
    norm = torch.stack([g.square().sum(dim=1) for g in of_each.values()]).sum(dim=0).sqrt()
    fine = torch.isfinite(norm)
    factor = torch.where(fine, (clip_norm * (1 - SLACK) / norm).clamp(max=1.0), 0.0)
    if not bool(fine.all()):
        of_each = {p: torch.where(fine[:, None], g, 0.0) for p, g in of_each.items()}
    zero = {p: torch.zeros_like(p) for p in module.parameters() if p.requires_grad}
    return [(factor @ of_each[p]).view_as(p) if p in of_each else zero[p] for p in zero]


def _layers(module: nn.Module) -> list[nn.Module]:
    """Layers with trained parameters; SettingError for a kind whose gradients of single examples are not known here."""
    layers = [m for m in module.modules() if any(p.requires_grad for p in m.parameters(recurse=False))]
    for layer in layers:
        plain_convolution = isinstance(layer, nn.Conv2d) and layer.groups == 1 and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
        plain_embedding = isinstance(layer, nn.Embedding) and layer.padding_idx is None and layer.max_norm is None and not layer.scale_grad_by_freq
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            raise SettingError(f"{type(layer).__name__} mixes the images of a batch, so no image's influence can be bounded.", fix="use GroupNorm")
        if not (isinstance(layer, (nn.Linear, nn.GroupNorm)) or plain_convolution or plain_embedding):
            raise SettingError(f"Private training knows no such {type(layer).__name__}.", fix="use plain Linear, Conv2d, GroupNorm and Embedding layers")
    return layers


def _of_each(layer: nn.Module, entering: Tensor, gradient: Tensor, draws: int) -> dict[nn.Parameter, Tensor]:
    """Gradients of each example, [n, numbers of the parameter], from a layer's input and the gradient of its output."""
    if isinstance(layer, nn.GroupNorm):
        normal = F.group_norm(entering, layer.num_groups, eps=layer.eps)
        found = {layer.weight: _together((gradient * normal).flatten(2), draws).sum(dim=2), layer.bias: _together(gradient.flatten(2), draws).sum(dim=2)}
        return {p: g for p, g in found.items() if p is not None}
    if isinstance(layer, nn.Conv2d):
        into = F.unfold(entering.contiguous(), layer.kernel_size, layer.dilation, layer.padding, layer.stride)  # type: ignore[arg-type]
        out = gradient.flatten(2)
    elif isinstance(layer, nn.Embedding):
        into = (entering.flatten()[:, None, None] == torch.arange(layer.num_embeddings)[:, None]).to(gradient.dtype)
        out = gradient[..., None]
    else:
        into, out = (t.reshape(len(t), -1, t.shape[-1]).transpose(1, 2) for t in (entering, gradient))  # [rows, numbers, positions]
    into, out = _together(into, draws), _together(out, draws)
    weight, bias = layer.weight, getattr(layer, "bias", None)
    assert isinstance(weight, nn.Parameter)
    of_weight = torch.bmm(into, out.transpose(1, 2)) if isinstance(layer, nn.Embedding) else torch.bmm(out, into.transpose(1, 2))
    return {weight: of_weight.flatten(1)} | ({bias: out.sum(dim=2)} if isinstance(bias, nn.Parameter) else {})


def _together(parts: Tensor, draws: int) -> Tensor:
    """[n * draws, numbers, positions] as [n, numbers, draws * positions]."""
    rows, numbers, positions = parts.shape
    if draws == 1:
        return parts
    return parts.reshape(rows // draws, draws, numbers, positions).transpose(1, 2).reshape(rows // draws, numbers, draws * positions)
