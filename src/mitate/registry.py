"""Kinds by name: a new kind is one file and one row here, or one entry point in a plug-in's own package.

A plug-in adds a kind with an entry point in the group `mitate.<noun>`, for instance

    [project.entry-points."mitate.generator"]
    sketch = "my_package.sketch:Sketch"
"""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

from mitate.errors import MitateError, SettingError
from mitate.settings import suggest

KINDS: dict[str, dict[str, str]] = {
    "generator": {
        "gaussian": "mitate.generators.gaussian:Gaussian",
        "vae": "mitate.generators.vae:VAE",
        "diffusion": "mitate.generators.diffusion:Diffusion",
        "gan": "mitate.generators.gan:GAN",
        "restyled": "mitate.generators.restyled:Restyled",
        "text-to-image": "mitate.generators.text_to_image:TextToImage",
        "shots": "mitate.generators.few_shot:FewShot",
        "expert": "mitate.generators.expert:Expert",
    },
    "adapter": {
        "alignment": "mitate.adapters.alignment:Alignment",
    },
    "backbone": {
        "small": "mitate.training.backbones:small",
        "mitate-small": "mitate.training.backbones:mitate_small",
        "mobilenet_v2": "mitate.training.backbones:mobilenet_v2",
        "resnet_cifar": "mitate.training.backbones:resnet_cifar",
        "timm": "mitate.training.backbones:timm",
    },
    "extractor": {
        "mitate-small": "mitate.features.kinds:mitate_small",
        "pixels": "mitate.features.kinds:pixels",
        "random": "mitate.features.kinds:random",
        "mobilenet_v2": "mitate.features.kinds:mobilenet_v2",
        "resnet_cifar": "mitate.features.kinds:resnet_cifar",
        "timm": "mitate.features.kinds:timm",
        "dinov2-s14": "mitate.features.kinds:dinov2_s14",
        "inception": "mitate.features.kinds:inception",
    },
}
ON_TOP = ("restyled", "text-to-image", "shots", "expert")  # generators that stand on a model, and go by its name


def names(noun: str) -> list[str]:
    """Every kind of a noun, ours and the plug-ins', sorted."""
    return sorted({**KINDS[noun], **_plugins(noun)})


def find(noun: str, name: str) -> Any:
    """The kind `name` of `noun`, imported now. Unknown names are an error that names the nearest known one."""
    places = {**KINDS[noun], **_plugins(noun)}
    if name not in places:
        raise SettingError(f"There is no {noun} {name!r}.", fix=suggest(name, places))
    module, _, attribute = places[name].partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except Exception as wrong:
        if not is_plugin(noun, name) or isinstance(wrong, MitateError):
            raise
        what = f"The plug-in {name!r} ({places[name]}) cannot be imported ({type(wrong).__name__}: {wrong})."
        raise SettingError(what, fix="mend its package, or uninstall it") from wrong


def is_plugin(noun: str, name: str) -> bool:
    """Whether a kind comes from another package."""
    return name in _plugins(noun)


@cache
def _plugins(noun: str) -> dict[str, str]:
    from importlib.metadata import entry_points

    return {point.name: point.value for point in entry_points(group=f"mitate.{noun}")}
