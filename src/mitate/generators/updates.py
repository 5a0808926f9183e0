"""Low-rank changes of a text-to-image model's weights (LoRA), read from the files that programs write, and written as one that diffusers loads.

updates = Updates.read(Path("counting.safetensors"))       module -> scale * up @ down; also a folder that peft or diffusers saved
updates.modules["unet.mid_block.attentions.0.proj_in"].delta                float64 [out, in]
updates.write(Path("again.safetensors"))                   what `load_lora_weights` of plain diffusers takes

Layouts: ours and diffusers' (`unet.M.lora_A.weight`, and the older `lora.down`, `processor.to_q_lora.down`), peft's own (`base_model.model.M.lora_A.weight`
beside its adapter_config.json), kohya's (`lora_unet_M.lora_down.weight`, renamed by diffusers). The scale of a module is alpha / rank where the file or what
lies beside it tells an alpha, and else 1.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from mitate.errors import DataError, MissingExtra
from mitate.generators.learnt import LORA
from mitate.runtime import quiet
from mitate.settings import canonical, digest, parsed

LARGEST = 1e9  # alpha of a LoRA
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
INSIDE = ("adapter_model.safetensors", LORA)  # of a folder that peft or diffusers saved
PARTS = ("unet", "text_encoder", "text_encoder_2", "text_encoder_3", "transformer")  # of a pipeline
KOHYA = ("lora_unet_", "lora_te_", "lora_te1_", "lora_te2_")
TOLD = "lora_adapter_metadata"  # where diffusers keeps what peft was told, in a file's own metadata
OURS = "mitate"  # and we, what an update stands on and comes from

FACTOR = re.compile(
    r"(?P<module>.+?)\.(?:lora_(?P<letter>[AB])(?:\.[^.]+)?|(?:lora|lora_linear_layer)\.(?P<word>down|up)|lora_(?P<way>down|up)"
    r"|(?:processor\.)?(?P<part>to_q|to_k|to_v|to_out)_lora\.(?P<old>down|up))\.weight"
)
OF_TEXT = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}  # older names of a text encoder's projections
OTHERS = {  # what a name holds -> what the file is then
    "dora_scale": "a DoRA", "lora_magnitude_vector": "a DoRA", "hada_": "a LoHa", "lokr_": "a LoKr", "lora_mid": "a LoCon with a middle factor",
    "lora_embedding": "a LoRA of an embedding", ".bias": "a LoRA with biases", ".oft_": "an OFT",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Update:
    """What is added to one weight: scale * up @ down. up [out, r], down [r, in], of a convolution [r, in * h * w]; shape: of the weight."""

    up: Tensor
    down: Tensor
    shape: tuple[int, ...]
    scale: float = 1.0

    @property
    def rank(self) -> int:
        return int(self.up.shape[1])

    @property
    def delta(self) -> Tensor:
        """float64 [out, in * h * w]."""
        return self.scale * (self.up.double() @ self.down.double())


@dataclass(frozen=True, eq=False)
class Updates:
    """Module, with the part of the pipeline in front ("unet.mid_block..."), -> its update. base: digest of the pipeline, "" where a file does not tell."""

    modules: Mapping[str, Update]
    base: str = ""

    @cached_property
    def digest(self) -> str:
        """Name of the content, in float32: files of other layouts with the same numbers have the same."""
        sums = {}
        for name, one in sorted(self.modules.items()):
            parts = [hashlib.sha256(t.float().contiguous().numpy().tobytes()).hexdigest() for t in (one.up, one.down)]
            sums[name] = [list(one.shape), one.rank, one.scale, *parts]
        return digest("mitate.updates", sums)

    def scaled(self, by: float) -> Updates:
        """The same, so many times as strong."""
        return replace(self, modules={name: replace(one, scale=by * one.scale) for name, one in self.modules.items()})

    def write(self, path: Path, facts: Mapping[str, Any] | None = None) -> None:
        """A file for `load_lora_weights`: float32, alpha = rank. facts: of where it comes from; the base goes with them.

        Where ranks differ, factors are filled up with zeros to the largest of their part: older diffusers took one alpha for all ranks.
        """
        largest = {part: max(one.rank for name, one in self.modules.items() if part_of(name) == part) for part in {part_of(name) for name in self.modules}}
        tensors = {}
        for name, one in sorted(self.modules.items()):
            up, down = one.scale * one.up.double(), one.down.double()
            more = largest[part_of(name)] - one.rank
            up, down = torch.cat([up, up.new_zeros(len(up), more)], 1).float(), torch.cat([down, down.new_zeros(more, down.shape[1])]).float()
            if not (up.isfinite().all() and down.isfinite().all()):
                raise DataError(f"The update of {name} has values that float32 cannot hold.", fix="merge with smaller weights, or look at the experts' alphas")
            tensors[f"{name}.lora_A.weight"] = down.reshape(len(down), *one.shape[1:]).contiguous()
            tensors[f"{name}.lora_B.weight"] = up.reshape(*up.shape, *(1,) * (len(one.shape) - 2)).contiguous()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(ordered(save(tensors, metadata={"format": "pt", OURS: canonical({**(facts or {}), "base": self.base}).decode()})))

    @classmethod
    def read(cls, path: Path, *, layers: int = 0) -> Updates:
        """The updates of a LoRA file, or of a folder with one. layers: `layers_per_block` of the U-Net, which files of SDXL in kohya's names need."""
        path = lora_file(path)
        tensors, told = _opened(path)
        if odd := next((kind for name in tensors for part, kind in OTHERS.items() if part in name), ""):
            raise DataError(f"{path} is {odd}: only plain LoRAs can be merged.", fix="give plain LoRA files, or leave this one out")
        scales = _Scales(path, tensors, told)
        if all(name.startswith(KOHYA) for name in tensors):
            tensors = _renamed(path, tensors, layers)
        factors: dict[str, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            module, role = _place(name)
            if role == "alpha":
                scales.alphas[module] = _number(path, name, tensor)
            elif not role:
                raise DataError(f"{path} holds {name}, which is no part of a LoRA.", fix="give plain LoRA files, or leave this one out")
            elif role in factors.setdefault(module, {}):
                raise DataError(f"{path} holds {module} twice.", fix="keep one of the two")
            else:
                factors[module][role] = tensor
        modules = {name: _update(path, name, parts, scales) for name, parts in sorted(factors.items())}
        if not modules:
            raise DataError(f"{path} holds no factors of a LoRA.", fix="give a safetensors file of a LoRA")
        return cls(modules, str(_facts(told).get("base", "")))


def ordered(data: bytes) -> bytes:
    """A safetensors file with its metadata in order: the library writes it in an order that changes from call to call."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header.get("__metadata__", {}).items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


def part_of(module: str) -> str:
    return module.partition(".")[0]


def lora_file(path: Path) -> Path:
    """The file itself, or the one in a folder that peft or diffusers saved. DataError for pickles, which could run code, and for what is not there."""
    if path.suffix.lower() in PICKLED:
        raise DataError(f"{path} is a pickle, which could run code as it is opened.", fix="save it as safetensors where it was made")
    if path.is_dir():
        inside = [path / name for name in INSIDE if (path / name).is_file()] or sorted(path.glob("*.safetensors"))
        if len(inside) != 1:
            raise DataError(f"{path} holds {len(inside)} LoRA files.", fix="name the file itself")
        return inside[0]
    if not path.is_file():
        raise DataError(f"There is no file {path}.", fix="give a safetensors file of a LoRA")
    return path


# reading ------------------------------------------------------------------------------------------------------------------


def _opened(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118 - it is no mapping
    except (OSError, ValueError, TypeError, SafetensorError, RuntimeError) as wrong:
        told = str(wrong).strip().splitlines() or [type(wrong).__name__]
        raise DataError(f"{path} cannot be read ({told[0]}).", fix="give a safetensors file of a LoRA") from wrong


def _facts(told: Mapping[str, str]) -> dict[str, Any]:
    try:
        found = parsed(told.get(OURS, "{}"))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _place(name: str) -> tuple[str, str]:
    """(module, up | down | alpha) of a tensor's name; the role is "" where it has none of a LoRA."""
    if name.endswith(".alpha"):
        inner = name.removesuffix(".alpha")
        module, _ = _place(inner if FACTOR.fullmatch(inner) else f"{inner.removesuffix('.lora')}.lora_A.weight")
        return module, "alpha"
    if (found := FACTOR.fullmatch(name)) is None:
        return name, ""
    module = found["module"].removeprefix("base_model.model.")
    if module.split(".")[0] not in PARTS:  # peft's own names do not tell the part
        module = ("text_encoder." if module.startswith(("text_model.", "encoder.layers.")) else "unet.") + module
    part, _, inner = module.partition(".")
    text = part.startswith("text_encoder")
    if text and inner.startswith("encoder.layers."):
        inner = f"text_model.{inner}"  # CLIP's names until transformers 5, which diffusers takes with every version
    if found["part"]:
        inner += "." + (OF_TEXT[found["part"]] if text else {"to_out": "to_out.0"}.get(found["part"], found["part"]))
    role = found["letter"] or found["word"] or found["way"] or found["old"]
    return f"{part}.{inner}", {"A": "down", "B": "up"}.get(role, role)


def _renamed(path: Path, tensors: dict[str, Tensor], layers: int) -> dict[str, Tensor]:
    """kohya's names as those of diffusers, by its own converter."""
    try:
        with quiet():
            from diffusers import StableDiffusionXLPipeline
    except ImportError as wrong:
        raise MissingExtra.of(wrong.name or "diffusers", "diffusion", "A LoRA file in kohya's names") from wrong
    alphas = {name: _number(path, name, value) for name, value in tensors.items() if name.endswith(".alpha")}
    given = {name: torch.tensor(alphas[name]) if name in alphas else value for name, value in tensors.items()}
    try:
        with quiet():
            names, found = StableDiffusionXLPipeline.lora_state_dict(dict(given), unet_config=SimpleNamespace(layers_per_block=layers) if layers else None)
    except Exception as wrong:  # whatever the converter raises at names it does not know
        told = str(wrong).strip().splitlines() or [type(wrong).__name__]
        raise DataError(f"{path} has names that diffusers cannot convert ({told[0][:200]}).", fix="save it from diffusers: save_lora_weights") from wrong
    if len(names) != len(given) - len(alphas):  # the converter leaves out what it does not place
        raise DataError(f"{path} mixes the names of two programs.", fix="save it from diffusers: save_lora_weights")
    return {**names, **{f"{name.removesuffix('.alpha')}.alpha": torch.tensor(float(value)) for name, value in (found or {}).items()}}


def _number(path: Path, name: str, value: Tensor) -> float:
    if value.numel() != 1 or not math.isfinite(number := float(value.flatten()[0])):
        raise DataError(f"{path}: {name} is no number.", fix="save the file again, or leave it out")
    return number


def _update(path: Path, name: str, parts: Mapping[str, Tensor], scales: _Scales) -> Update:
    if missing := {"up", "down"} - set(parts):
        raise DataError(f"{path}: {name} has no {missing.pop()} factor.", fix="save the file again, or leave it out")
    up, down = parts["up"], parts["down"]
    sizes = f"{list(up.shape)} and {list(down.shape)}"
    flat = up.ndim == down.ndim and up.ndim in (2, 4) and min(up.shape) > 0 and min(down.shape) > 0 and up.shape[1] == down.shape[0]
    if not flat or any(size != 1 for size in up.shape[2:]):
        raise DataError(f"{path}: the factors of {name} are {sizes}, which do not go together.", fix="save the file again, or leave it out")
    if not (up.is_floating_point() and down.is_floating_point()):
        raise DataError(f"{path}: the factors of {name} are {up.dtype} and {down.dtype}.", fix="save it in float32, float16 or bfloat16")
    if not (up.isfinite().all() and down.isfinite().all()):
        raise DataError(f"{path}: {name} holds values that are no numbers.", fix="learn it again with a lower rate, or leave it out")
    return Update(up.float().flatten(1), down.float().flatten(1), (int(up.shape[0]), *map(int, down.shape[1:])), scales.of(name, len(down)))


class _Scales:
    """alpha / rank of each module: by an alpha of its own, by what diffusers or peft were told, or 1."""

    def __init__(self, path: Path, tensors: Iterable[str], told: Mapping[str, str]) -> None:
        self.path, self.alphas = path, dict[str, float]()
        self.told: dict[str, dict[str, Any]] = {}  # part -> a configuration as peft has it
        if TOLD in told:
            whole = self._object(told[TOLD], str(path))
            self.told = {p: {key.removeprefix(f"{p}."): v for key, v in whole.items() if key.startswith(f"{p}.")} for p in PARTS}
        elif any(name.startswith("base_model.model.") for name in tensors):
            beside = path.parent / "adapter_config.json"
            if not beside.is_file():
                raise DataError(f"{path} has peft's names, and no adapter_config.json beside it tells its scale.", fix="copy adapter_config.json beside it")
            try:
                whole = self._object(beside.read_text(encoding="utf-8"), str(beside))
            except (OSError, ValueError) as wrong:
                raise DataError(f"{beside} cannot be read ({wrong}).", fix="copy the folder whole") from wrong
            if whole.get("peft_type", "LORA") != "LORA":
                raise DataError(f"{path} is a {whole['peft_type']}: only plain LoRAs can be merged.", fix="give plain LoRA files, or leave this one out")
            self.told = dict.fromkeys(PARTS, whole)

    def of(self, module: str, rank: int) -> float:
        if module in self.alphas:
            return self.alphas[module] / rank
        part, _, inner = module.partition(".")
        if not (config := self.told.get(part)):
            return 1.0
        if config.get("use_dora"):
            raise DataError(f"{self.path} is a DoRA: only plain LoRAs can be merged.", fix="give plain LoRA files, or leave this one out")
        names = [f".{inner}", f".{inner.removeprefix('text_model.')}"]
        told = [value for key, value in (config.get("alpha_pattern") or {}).items() if any(name.endswith(f".{key.lstrip('^')}") for name in names)]
        alpha = told[0] if told else config.get("lora_alpha", rank)
        if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not -LARGEST <= alpha <= LARGEST:
            raise DataError(f"{self.path}: the alpha of {module} is {alpha!r}.", fix="save the file again, or leave it out")
        return alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank

    def _object(self, text: str, where: str) -> dict[str, Any]:
        try:
            found = parsed(text)
            found_patterns = [told or {} for name, told in found.items() if name.endswith("alpha_pattern")]
            patterns = [key for told in found_patterns for key, _ in told.items()]
            if odd := next((key for key in patterns if not re.fullmatch(r"\^?[\w.]+", key)), ""):
                raise ValueError(f"alpha_pattern {odd!r} is no name of a module")
        except (ValueError, AttributeError, TypeError, RecursionError) as wrong:
            raise DataError(f"What {where} tells of its scale cannot be read ({wrong}).", fix="save the file again, or leave it out") from wrong
        return found
