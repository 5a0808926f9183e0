"""The attack on a model trained on synthetic images alone: offline LiRA (Carlini et al. 2022) by shadow models, as jobs.

Shadow models are trained as the model under attack is, but on halves of the held-out real images: pair i holds two halves that make up
the whole, so each held-out image is out of one of each pair, and each real image is out of all. `leaks.on_model` reads their predictions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mitate.errors import SettingError
from mitate.leaks import TARGET, halves_of
from mitate.runtime import seed_of
from mitate.store import Store
from mitate.studies.utility import BACKBONE, MADE, REAL, SECONDS, model_job, prediction
from mitate.study import Job
from mitate.verbs import VERBS

LEAST = 4  # two that did not see an image, for each image
NOT_ASKED = "no shadow models were asked for: give --shadows 8"


def check_shadows(shadows: int) -> None:
    """SettingError for a number that cannot be paired."""
    if shadows and (shadows < LEAST or shadows % 2):
        raise SettingError(f"{shadows} shadow models cannot be paired.", fix=f"give an even number of {LEAST} or more, like 8, or 0 for none")


def why_not(digests: Mapping[str, str], *, shadows: int, seed: int, store: Store) -> str:
    """Why the held-out images cannot be halved for shadow models; "" where they can."""
    try:
        halves_of(store.there(digests["held_out"]), pairs=shadows // 2, seed=_seed(seed))
    except ValueError as few:
        return str(few)
    return ""


def plan(digests: Mapping[str, str], training: Mapping[str, Any], *, shadows: int, seed: int) -> dict[str, Job]:
    """Predictions of real and held-out images by the model under attack and by each shadow model: `target/real`, `shadow0/held_out`, ..."""
    models = {TARGET: model_job(digests, MADE, 0, training=training, seed=seed)}
    for k in range(shadows):
        settings = {"pairs": shadows // 2, "which": k, "seed": _seed(seed)}
        half = Job(f"half/{k}", "half", VERBS["half"].version, settings, {"held_out": digests["held_out"]}, 0.1)
        asked = {"arm": REAL, "training": training, "backbone": BACKBONE, "seed": seed_of("shadow", seed, k)}
        models[f"shadow{k}"] = Job(f"train/shadow{k}", "train", VERBS["train"].version, asked, {"real": half}, SECONDS["train"])
    return {f"{name}/{role}": prediction(f"{name}/{role}", model, digests[role]) for name, model in models.items() for role in ("real", "held_out")}


def _seed(seed: int) -> int:
    return seed_of("leakage", seed)  # the seed of the job that reads them
