"""A captioner that learns: teacher forcing on images with captions, captions drawn with one chance an image, and how likely a caption is.

learner = Learner(open_captioner("lab"))             the network, which many may share: weights go in, weights come out
learnt  = learner.fit(learner.start, images, captions, Lesson(steps=40), seed=0)
texts   = learner.describe(learnt, images, chance, temperature=1.0)          chance: float64 [n, words], a row an image
total, tokens = learner.likelihood(learnt, images, texts)

A network of at most SMALL parameters learns in all of them; of a larger one the weights stay, and low-rank changes of all its linear layers are learnt
(Hu et al. 2022, by peft). It is in evaluation mode also while it learns: no dropout, and running averages stay as they are.

Encoder-decoders of transformers (VisionEncoderDecoderModel) and BLIP can learn. A caption has at most as many tokens as the model itself writes; what is
longer is cut at the end, in learning as in judging.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from mitate.captioners.writers import BATCH, Captioner
from mitate.errors import MissingExtra, SettingError
from mitate.runtime import quiet, seed_of, torch_threads

SMALL = 20_000_000  # parameters
USUAL = 20  # tokens of a caption, where a model's own settings do not say: what transformers takes
IGNORED = -100  # a place of a caption that is beyond its end
Weights = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Lesson:
    """How long and how fast is learnt. batch: captions a step; rate: of learning."""

    steps: int = 40
    batch: int = 16
    rate: float = 3e-4

    def __post_init__(self) -> None:
        if min(self.steps, self.batch) < 1 or not 0 < self.rate < 1:
            told = f"A lesson of {self.steps} steps of {self.batch} at a rate of {self.rate:g} cannot be."
            raise SettingError(told, fix="give 1 or more steps and captions a step, and a rate between 0 and 1")


class Learner:
    """A captioner's network. It keeps nothing of anybody: each call puts the weights in that it is given."""

    def __init__(self, captioner: Captioner, *, rank: int = 8, device: str = "cpu") -> None:
        self.captioner, self.rank, self.device = captioner, rank, device

    @property
    def large(self) -> bool:
        """Whether low-rank changes are learnt, and not all weights."""
        return sum(p.numel() for name, p in self._net.named_parameters() if ".lora_" not in name) > SMALL

    @property
    def start(self) -> dict[str, np.ndarray]:
        """The weights as the captioner came: all of them, or low-rank changes that change nothing yet."""
        return {name: array.copy() for name, array in self._start.items()}

    def fit(self, weights: Weights, images: np.ndarray, captions: Sequence[str], lesson: Lesson, *, seed: int) -> dict[str, np.ndarray]:
        """What the weights become by learning the captions of images, uint8 [n, h, w, 3]."""
        import torch

        from mitate.fitting import Schedule, optimise

        targets = self._targets(captions)

        def loss(_: Any, step: int) -> torch.Tensor:
            some = torch.randint(len(images), (lesson.batch,))
            asked = targets[some.numpy()]
            longest = int((asked != IGNORED).sum(1).max())
            return -self._told(images[some.numpy()], asked[:, :longest])[0].mean()

        schedule = Schedule(lesson.steps, lesson.rate, warmup=min(20, lesson.steps // 10), beta2=0.99)
        with torch_threads(), quiet():
            self._put(weights)
            optimise(self._net, loss, schedule, seed=seed)
            return {name: p.detach().cpu().numpy().copy() for name, p in self._learnt.items()}

    def describe(self, weights: Weights, images: np.ndarray, chance: np.ndarray, *, temperature: float = 1.0) -> list[str]:
        """One text an image, drawn token by token. chance: float64 [n, tokens] between 0 and 1; text i follows from image i and chance i alone.

        Token t of image i is where its cumulative probabilities, of logits over `temperature`, first exceed chance[i, t]. As many tokens as chance has, the
        end included, and no more than the model writes.
        """
        import torch

        net, _, words = self.captioner.loaded
        most = min(self.longest, chance.shape[1])
        texts: list[str] = []
        with torch_threads(), torch.inference_mode(), quiet():
            self._put(weights)
            for start in range(0, len(images), BATCH):
                rows = _padded(start, len(images))
                drawn = _Drawn(chance[rows], temperature)
                tokens = net.generate(
                    pixel_values=self._pixels(images[rows]), do_sample=False, num_beams=1, max_new_tokens=most, logits_processor=_processors(drawn)
                )
                texts += words.batch_decode(tokens[: len(images) - start], skip_special_tokens=True)
        return [" ".join(text.replace("\0", " ").split()) for text in texts]

    def likelihood(self, weights: Weights, images: np.ndarray, captions: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Log probability of each caption given its image, its end included, float64 [n], and its number of tokens, int64 [n], 1 or more."""
        import torch

        targets = self._targets(captions)
        total = np.empty(len(images))
        with torch_threads(), torch.inference_mode(), quiet():
            self._put(weights)
            for start in range(0, len(images), BATCH):
                rows = _padded(start, len(images))
                logs, there = self._told(images[rows], targets[rows], each=True)
                total[start : start + BATCH] = (logs.double() * there).sum(1).cpu().numpy()[: len(images) - start]
        return total, (targets != IGNORED).sum(1)

    @cached_property
    def longest(self) -> int:
        """Tokens of a caption at most, its end included."""
        config = self._net.generation_config
        if config.max_new_tokens:
            return int(config.max_new_tokens)
        return int(config.max_length) - 1 if config.max_length else USUAL

    # the network ------------------------------------------------------------------------------------------------------

    @cached_property
    def _net(self) -> Any:
        net = self.captioner.loaded[0]
        kind = type(net).__name__
        if kind not in ("VisionEncoderDecoderModel", "BlipForConditionalGeneration"):
            raise SettingError(f"{self.captioner.name} is a {kind}, which does not learn here yet.", fix='give a VisionEncoderDecoderModel, a BLIP, or "lab"')
        return net.to(self.device).eval()

    @cached_property
    def _learnt(self) -> dict[str, Any]:
        """The parameters that learn, by name. Those of low-rank changes are made here, the same ones each time."""
        if self.large:
            self._change()
        return {name: p for name, p in self._net.named_parameters() if p.requires_grad}

    def _change(self) -> None:
        try:
            from peft import LoraConfig, inject_adapter_in_model
        except ImportError as wrong:
            raise MissingExtra.of("peft", "diffusion", "A LoRA of a captioner") from wrong
        import torch

        config = LoraConfig(r=self.rank, lora_alpha=self.rank, init_lora_weights="gaussian", target_modules="all-linear")
        with torch.random.fork_rng(devices=[]), quiet():
            torch.manual_seed(seed_of("captioner lora"))
            inject_adapter_in_model(config, self._net)
        self._net.eval()

    @cached_property
    def _start(self) -> dict[str, np.ndarray]:
        return {name: p.detach().cpu().numpy().copy() for name, p in self._learnt.items()}

    def _put(self, weights: Weights) -> None:
        """Be these weights. SettingError where they are another model's."""
        import torch

        _ = self._start  # before anything is put in
        if {name: array.shape for name, array in weights.items()} != {name: tuple(p.shape) for name, p in self._learnt.items()}:
            raise SettingError(f"These are not the weights of {self.captioner.name}.", fix="give those that its own fit gave")
        with torch.no_grad():
            for name, p in self._learnt.items():
                p.copy_(torch.from_numpy(np.ascontiguousarray(weights[name])))

    def _pixels(self, images: np.ndarray) -> Any:
        return self.captioner.loaded[1](images=list(images), return_tensors="pt").pixel_values.to(self.device)

    def _targets(self, captions: Sequence[str]) -> np.ndarray:
        """Tokens of captions with their ends, int64 [n, longest], IGNORED beyond."""
        words = self.captioner.loaded[2]
        found = np.full((len(captions), self.longest), IGNORED, np.int64)
        for i, ids in enumerate(words([str(c) for c in captions], add_special_tokens=False, verbose=False).input_ids):
            whole = [*ids[: self.longest - 1], self._marks[1]]
            found[i, : len(whole)] = whole
        return found

    @cached_property
    def _marks(self) -> tuple[int, int]:
        """The tokens that a caption begins and ends with."""
        config = self._net.config
        if hasattr(config, "text_config"):  # BLIP: its decoder begins with a mark of its own and ends with the separator
            return int(config.text_config.bos_token_id), int(config.text_config.sep_token_id)
        own = self._net.generation_config
        start = own.decoder_start_token_id if own.decoder_start_token_id is not None else config.decoder_start_token_id
        end = own.eos_token_id if own.eos_token_id is not None else config.eos_token_id
        if not isinstance(start, int) or not isinstance(end, int):
            raise SettingError(f"{self.captioner.name} does not say how a caption begins and ends.", fix="set decoder_start_token_id and eos_token_id")
        return start, end

    def _told(self, images: np.ndarray, targets: np.ndarray, *, each: bool = False) -> tuple[Any, Any]:
        """Log probabilities of target tokens: of those that are there, float32 [k], or with `each` of all places, float32 [n, words]; and which are there."""
        import torch

        wanted = torch.from_numpy(targets).to(self.device)
        there = wanted != IGNORED
        given = torch.cat([torch.full_like(wanted[:, :1], self._marks[0]), wanted[:, :-1].masked_fill(~there[:, :-1], self._marks[1])], dim=1)
        pixels = self._pixels(images)
        if hasattr(self._net, "text_decoder"):
            seen = self._net.vision_model(pixel_values=pixels).last_hidden_state
            logits = self._net.text_decoder(input_ids=given, encoder_hidden_states=seen).logits
        else:
            logits = self._net(pixel_values=pixels, decoder_input_ids=given).logits
        logs = torch.log_softmax(logits.float(), -1).gather(2, wanted.masked_fill(~there, 0)[..., None])[..., 0]
        return (logs if each else logs[there]), there


class _Drawn:
    """Leaves of each row's next tokens the one that its chance falls on; greedy writing then takes it."""

    def __init__(self, chance: np.ndarray, temperature: float) -> None:
        self.chance, self.temperature, self.begun = chance, temperature, 0

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        import torch

        self.begun = self.begun or input_ids.shape[1]
        u = torch.from_numpy(self.chance[:, input_ids.shape[1] - self.begun])
        steps = torch.softmax(scores.double().cpu() / self.temperature, -1).cumsum(-1)  # there the order of a sum is fixed
        at = (steps <= (u * steps[:, -1])[:, None]).sum(-1, keepdim=True).clamp(max=scores.shape[1] - 1)
        return torch.full_like(scores, -torch.inf).scatter(1, at.to(scores.device), 0.0)


def _processors(drawn: _Drawn) -> Any:
    from transformers import LogitsProcessorList

    return LogitsProcessorList([drawn])


def _padded(start: int, n: int) -> np.ndarray:
    """Rows of a batch, the last one repeated until it is full: so that bytes do not depend on how many there are."""
    return np.minimum(np.arange(start, start + BATCH), n - 1)
