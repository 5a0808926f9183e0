"""mitate: will synthetic images help my vision model, which ones, how many, and shall we pay for more?

    import mitate as mi

    plan = mi.pilot("leaves/", budget="10m")
    print(plan.cost())
    run = mi.run(plan, "runs/leaves")
    print(run.decision["verdict"], run.decision["reason"])
    mi.report(run)

Names are fetched on first use, so `import mitate` is quick.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "open_images": "mitate.intake.opening:open_images",
    "open_data": "mitate.intake.opening:open_data",
    "from_arrays": "mitate.images:from_arrays",
    "ImageSet": "mitate.images:ImageSet",
    "fit": "mitate.fitted:fit",
    "generate": "mitate.fitted:generate",
    "load_generator": "mitate.painted:load_generator",
    "load_captioner": "mitate.painted:load_captioner",
    "paint": "mitate.painted:paint",
    "paint_classes": "mitate.painted:paint_classes",
    "adapt": "mitate.adapted:adapt",
    "learnt": "mitate.adapted:learnt",
    "StyleInversion": "mitate.adapted:StyleInversion",
    "Lora": "mitate.adapted:Lora",
    "Shots": "mitate.shots:Shots",
    "write_prompts": "mitate.prompts.pool:write_prompts",
    "read_prompts": "mitate.prompts.pool:read_prompts",
    "SkillSpec": "mitate.prompts.skills:SkillSpec",
    "relabel": "mitate.relabelled:relabel",
    "collapse": "mitate.loops.chains:collapse",
    "Loop": "mitate.loops.loop:Loop",
    "Toy": "mitate.loops.toy:Toy",
    "Monitor": "mitate.loops.alarm:Monitor",
    "roll_back": "mitate.loops.chain:roll_back",
    "merge": "mitate.merged:merge",
    "interference": "mitate.merged:interference",
    "DeltaMean": "mitate.generators.merging:DeltaMean",
    "Summed": "mitate.generators.merging:Summed",
    "Ties": "mitate.generators.merging:Ties",
    "Dare": "mitate.generators.merging:Dare",
    "DareTies": "mitate.generators.merging:DareTies",
    "Pruned": "mitate.generators.merging:Pruned",
    "FactorMean": "mitate.generators.merging:FactorMean",
    "FactorLinear": "mitate.generators.merging:FactorLinear",
    "TextToImage": "mitate.generators.text_to_image:TextToImage",
    "write_images": "mitate.sets:write_images",
    "write_shards": "mitate.packed:write_shards",
    "VAE": "mitate.generators.vae:VAE",
    "GAN": "mitate.generators.gan:GAN",
    "Diffusion": "mitate.generators.diffusion:Diffusion",
    "Gaussian": "mitate.generators.gaussian:Gaussian",
    "Adapter": "mitate.adapter:Adapter",
    "pilot": "mitate.api:pilot",
    "volume": "mitate.api:volume",
    "compare": "mitate.api:compare",
    "assess": "mitate.api:assess",
    "scan": "mitate.api:scan",
    "audit": "mitate.api:audit",
    "run": "mitate.api:run",
    "report": "mitate.api:report",
    "Run": "mitate.study:Run",
    "Store": "mitate.store:Store",
    "MitateError": "mitate.errors:MitateError",
}
__all__ = sorted([*_PUBLIC, "__version__"])


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'mitate' has no attribute {name!r}")
    from importlib import import_module

    module, _, attribute = _PUBLIC[name].partition(":")
    value = globals()[name] = getattr(import_module(module), attribute)
    return value


def __dir__() -> list[str]:
    return __all__


class _Package(ModuleType):
    """`mi.report` is the function, whenever the package of the same name is imported: Python would put that in its place."""

    @property
    def report(self) -> Any:
        return __getattr__("report")

    @report.setter
    def report(self, _package: ModuleType) -> None:
        """Left out: `mitate.report` stays in sys.modules, where imports look."""


sys.modules[__name__].__class__ = _Package
