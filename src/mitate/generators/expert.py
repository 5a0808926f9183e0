"""An expert as a generator: a text-to-image model with a LoRA (lora.py) that learnt from images with a sentence each. Class k is what sentence k asks for."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors.torch import save_file

from mitate.errors import SettingError
from mitate.generator import Pixels
from mitate.generators.inversion import Effort, Told
from mitate.generators.learnt import LORA, Learnt
from mitate.generators.lora import tune
from mitate.generators.pipelines import How, Pipeline, opened
from mitate.generators.places import Place
from mitate.generators.text_to_image import Painter, TextToImage, placed
from mitate.progress import Progress
from mitate.runtime import torch_threads
from mitate.settings import QUIET


@dataclass(frozen=True)
class Expert:
    """Settings of a LoRA that is learnt from images with a sentence each. What it draws as class k is what sentence k asks for."""

    version: ClassVar[int] = 1
    most_size: ClassVar[int] = TextToImage.most_size  # pixels

    model: str = "lab"  # as `open_pipeline` takes it
    weights: str = ""  # the pipeline's digest
    base: str = ""  # digest of an expert of the same rank in the store, to go on from
    sentences: tuple[str, ...] = ()
    steps: int = 400
    batch: int = 16
    rate: float = 1e-3  # of learning
    rank: int = 16
    dropout: float = 0.1  # share of sentences left empty
    clip: float = 1.0  # largest norm of the gradient; 0 for none
    text_encoder: bool = field(default=False, metadata=QUIET)  # the text encoders learn too
    checks: int = 10  # looks at the loss on sentences held out
    patience: int = 4  # looks without a better loss before learning ends; 0 for never
    device: str = "cpu"
    precision: str = "float32"

    def __post_init__(self) -> None:
        if min(self.steps, self.batch, self.rank, self.checks) < 1 or not self.rate > 0 or self.patience < 0 or not 0 <= self.dropout < 1 or self.clip < 0:
            raise SettingError("Settings of an expert are out of range.", fix="give counts of 1 or more, a rate above 0, a dropout from 0 to below 1")

    @property
    def place(self) -> Place:
        return Place(device=self.device, precision=self.precision)

    @property
    def how(self) -> How:
        return How()

    @property
    def opened(self) -> Pipeline:
        """The pipeline where it shall run. DataError where it is another one than `weights` says."""
        return TextToImage(model=self.model, weights=self.weights, device=self.device, precision=self.precision).opened

    def sentence(self, k: int) -> str:
        """What is asked for class k."""
        return self.sentences[k]

    def fit(
        self, train: Pixels, selection: Pixels, *, seed: int, folder: Path, checkpoint: Path, progress: Progress, base: Path | None = None
    ) -> dict[str, Any]:
        """Learn from pixels whose class k is sentence k; the selection's sentences may be others. Writes a file that diffusers takes."""
        pipeline = self.opened
        folder.mkdir(parents=True, exist_ok=True)
        effort = Effort(self.steps, self.batch, self.rate, self.checks, self.patience)
        told, seen = (Told(p.x, p.y, self.sentences) for p in (train, selection))
        with torch_threads(), torch.random.fork_rng(devices=[]):
            tensors, log = tune(
                pipeline.loaded, told, seen, effort, rank=self.rank, size=pipeline.size, seed=seed, checkpoint=checkpoint, progress=progress,
                dropout=self.dropout, clip=self.clip, text_encoder=self.text_encoder, start=base / LORA if base is not None else None,
            )  # fmt: skip
        save_file(tensors, folder / LORA)
        (folder / "generator.json").write_text(json.dumps({"shape": list(train.x.shape[1:]), "n_classes": len(self.sentences)}, sort_keys=True) + "\n")
        progress.step(self.steps, self.steps)
        return {"parameters": sum(t.numel() for t in tensors.values()), "base": pipeline.digest, **asdict(log)}

    def load(self, folder: Path) -> Painter:
        facts = json.loads((folder / "generator.json").read_text())
        return Painter(self, self.opened, tuple(facts["shape"]), facts["n_classes"], Learnt.of_fit(folder))


def expert_on(model: str, place: Place | None = None, **settings: Any) -> Expert:
    """The settings of an expert on a model: its folder made absolute, its digest fixed."""
    place, model = place or Place(), placed(model)
    return Expert(model=model, weights=opened(model, place).digest, device=place.device, precision=place.precision, **settings)
