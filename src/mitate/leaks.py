"""What the jobs of the attacks on privacy do: losses, half, audit. `leakage` (axes.py) puts what they find beside the attack on samples.

losses   a generator's own loss of each image, by what it tells itself (`TellsLoss`)
half     the part of held-out images that one shadow model trains on
audit    how well planted canaries are told from canaries that were left out
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from mitate.stored import BLOCK, Work, block, groups_of, load_fitted, read_facts, read_pixels

if TYPE_CHECKING:
    from mitate.metrics.membership import OnClassifier
    from mitate.store import Entry

NO_LOSS = "this kind of generator tells no loss of an image"
NO_CLASS = "some images have a class that the generator does not know"
AUDITED_DELTA = 1e-5  # at which a private fit of ours is audited, unless its own is smaller
TARGET = "target"  # roles of the predictions that LiRA reads: target/real, shadow0/held_out, ...


def losses(work: Work) -> dict[str, Any]:
    """The generator's loss of each image in losses.npy, float64 [n], in blocks that outlive a kill; or `why` there are none."""
    from mitate.generator import Pixels, TellsLoss

    entry = work.inputs["generator"]
    generator, images = load_fitted(entry), read_pixels(work.inputs["images"])
    if not isinstance(generator, TellsLoss):
        return {"why": NO_LOSS}
    y = _classes_of(images.y, read_facts(work.inputs["images"])["classes"], entry.result["classes"])
    if (y < 0).any():
        return {"why": NO_CLASS}
    parts = [np.zeros(0)]
    for start in range(0, len(y), BLOCK):
        some = Pixels(images.x[start : start + BLOCK], y[start : start + BLOCK], generator.n_classes)
        parts.append(block(work.checkpoint / f"losses{start}.npy", lambda some=some: generator.losses(some, seed=work.settings["seed"])))  # type: ignore[misc]
        work.progress.step(min(start + BLOCK, len(y)), len(y), "images")
    np.save(work.folder / "losses.npy", np.concatenate(parts), allow_pickle=False)
    return {"images": len(y)}


def half(work: Work) -> dict[str, Any]:
    """The held-out images that shadow model `which` trains on, as an image set."""
    from mitate.files import write_json

    whole, facts = read_pixels(work.inputs["held_out"]), read_facts(work.inputs["held_out"])
    rows = np.flatnonzero(halves_of(work.inputs["held_out"], pairs=work.settings["pairs"], seed=work.settings["seed"])[work.settings["which"]])
    np.save(work.folder / "x.npy", whole.x[rows], allow_pickle=False)
    np.save(work.folder / "y.npy", whole.y[rows], allow_pickle=False)
    write_json(work.folder / "facts.json", {"classes": facts["classes"]})
    return {"images": len(rows)}


def audit(work: Work) -> dict[str, Any]:
    """The bound on epsilon from canaries, beside the promise at the same delta. Inputs: the generator, canaries, and their `losses`, or images that
    the generator drew (`synthetic`)."""
    from dataclasses import asdict

    from mitate.errors import DataError
    from mitate.metrics.audit import epsilon_one_run
    from mitate.metrics.membership import loss_scores, near_scores

    included = np.array([c == "1" for c in work.settings["included"]])
    epsilon, delta = promise_at(work.inputs["generator"].result.get("privacy", {}), AUDITED_DELTA)
    canaries = read_pixels(work.inputs["canaries"])
    if "losses" in work.inputs:
        scores, by = loss_scores(np.load(work.inputs["losses"].path("losses.npy"), allow_pickle=False)), "loss"
    else:
        scores, by = near_scores(*(x.reshape(len(x), -1).astype(np.float32) for x in (canaries.x, read_pixels(work.inputs["synthetic"]).x))), "distance"
    if not np.isfinite(scores).all():
        raise DataError("The generator's loss of a canary is not finite.", fix="fit it with a lower learning rate")
    found = epsilon_one_run(scores, included, delta=delta)
    np.save(work.folder / "scores.npy", scores, allow_pickle=False)
    told = asdict(found) | {"epsilon": found.epsilon.low, "guessed": found.epsilon.value if np.isfinite(found.epsilon.value) else None}
    return {**told, "promised": epsilon, "by": by, "canaries": len(included), "planted": int(included.sum())}


def promise_at(facts: Mapping[str, Any], delta: float) -> tuple[float | None, float]:
    """The epsilon that a private fit promises, and at which delta: this one, or its own where that is smaller or its noise is not ours to account.

    A fit's own delta may be near 1 / n, and at such a delta no guess of canaries refutes anything: twice the canaries times delta is allowed for.
    """
    from mitate.generators import accountant
    from mitate.generators.accountant import Part

    if not facts:
        return None, 0.0
    if facts["delta"] <= delta or facts.get("accountant", {}).get("by") != "mitate":
        return facts["epsilon"], facts["delta"]
    beside = (Part(1.0, facts["sum_noise_multiplier"], facts["sums"]),) if facts["sums"] else ()
    return accountant.spent(Part(facts["sampling_rate"], facts["noise_multiplier"], facts["steps"]), *beside, delta=delta).epsilon, delta


# what `leakage` reads of them -----------------------------------------------------------------------------------------


def members_of(real: Entry, fitted_on: Entry | None) -> np.ndarray:
    """Rows of the real images that the generator was fitted on, int64, ascending; all of them where that is not known."""

    digests = read_facts(real)["digests"]
    if fitted_on is None:
        return np.arange(len(digests))
    seen = set(read_facts(fitted_on)["digests"])
    return np.array([i for i, d in enumerate(digests) if d in seen], dtype=np.int64)


def loss_of(inputs: Mapping[str, Entry]) -> tuple[np.ndarray, np.ndarray] | str:
    """Scores of members and held-out images by their loss, or why there are none."""
    from mitate.metrics.membership import loss_scores

    entries = [inputs[role] for role in ("member_losses", "held_out_losses")]
    if whys := [entry.result["why"] for entry in entries if "why" in entry.result]:
        return str(whys[0])
    members, others = (loss_scores(np.load(entry.path("losses.npy"), allow_pickle=False)) for entry in entries)
    return (members, others) if np.isfinite(members).all() and np.isfinite(others).all() else "some losses are not finite"


def on_model(inputs: Mapping[str, Entry], members: np.ndarray, *, pairs: int, seed: int, groups: tuple[np.ndarray | None, ...]) -> OnClassifier | str:
    """LiRA on the model that was trained on synthetic images: members (rows of real) against held-out images, by `2 * pairs` shadow models.

    A held-out image is judged by the shadow models that did not draw it, one of each pair. All of them saw no member, so by a coin a member is
    judged by one of each pair too: judged by more, its score would vary less, and an attack could look better or worse than it is. A text says
    why there is none.
    """
    from mitate.metrics.membership import log_odds_of_probabilities, on_classifier
    from mitate.runtime import seed_of

    y = {role: read_pixels(inputs[role]).y for role in ("real", "held_out")}
    rows = {"real": members, "held_out": np.arange(len(y["held_out"]))}

    def phi(model: str) -> np.ndarray:
        found = [np.load(inputs[f"{model}/{role}"].path("probabilities.npy"), allow_pickle=False)[rows[role]] for role in rows]
        return log_odds_of_probabilities(np.concatenate(found), np.concatenate([y[role][rows[role]] for role in rows]))

    coins = np.random.default_rng(seed_of("judges", seed)).random((pairs, len(members))) < 0.5
    left_out = np.stack([coins, ~coins], axis=1).reshape(2 * pairs, len(members))
    inside = np.concatenate([left_out, halves_of(inputs["held_out"], pairs=pairs, seed=seed)], axis=1)
    side = np.arange(inside.shape[1]) < len(members)
    whole = None if groups[0] is None or groups[1] is None else np.concatenate([groups[0], groups[1]])
    try:
        return on_classifier(phi(TARGET), side, np.stack([phi(f"shadow{k}") for k in range(2 * pairs)]), inside, groups=whole)
    except ValueError as wrong:
        return str(wrong)


def halves_of(held_out: Entry, *, pairs: int, seed: int) -> np.ndarray:
    """`membership.halves` of a stored set, by its groups. ValueError where it cannot be halved."""
    from mitate.metrics.membership import halves

    return halves(read_pixels(held_out).y, pairs=pairs, seed=seed, groups=groups_of(held_out)[0])


def _classes_of(y: np.ndarray, classes: list[str], known: list[str]) -> np.ndarray:
    """Labels as the generator numbers them, int64 [n]; -1 where it does not know the class, or there is none."""
    place = {name.strip().casefold(): k for k, name in enumerate(known)}
    table = np.array([place.get(name.strip().casefold(), -1) for name in classes] + [-1], dtype=np.int64)  # a label of -1 takes the last
    return table[y]
