"""Which privacy measure catches which sort of leak, from 50 to 1,000 training images? Fashion-MNIST and sets whose truth is known.

    MITATE_DATA=data python benchmarks/leakage_quality.py [--part sets,vae,canaries,classifier] [--only n] [--summary]

A replicate draws training and held-out images of n a set (n / 10 a class) and builds a synthetic set. `sets`:

    fresh        real images that are in neither: nothing must be found
    fresh 10x    ten times as many (up to 2,000): still nothing
    copied       every training image, as it is
    half copied  half of them, and as many fresh ones
    few copied   1 in 20 of them, the rest fresh
    noisy        every training image with noise of 30 grey levels
    augmented    every training image flipped or not and shifted by up to 2 pixels
    mixed        averages of two training images of a class

`vae`: 1,000 images of the project's VAE, as it comes (`vae`) and with 1,500 steps without early stop (`vae long`), beside its own loss as a white-box
attack. `canaries`: `vae long` with 100 planted canaries and the one-run audit. `classifier`: offline LiRA and the plain threshold on a logistic regression.

Caught: an attack's p is at most 0.025; of a distance, its interval lies beyond 0.5 (nearer), 0 (c_t) or its floor's interval. One JSON line a cell in
results/leakage_quality.jsonl: how many of the replicates were caught, and the mean value. Finished cells are skipped. `--summary` prints the tables.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from mitate.metrics import audit, exposure, membership, privacy
from mitate.metrics.intervals import Interval, clopper_pearson
from mitate.runtime import seed_of

OUT = Path(__file__).parent / "results" / "leakage_quality.jsonl"
SIZES = (50, 100, 200, 1000)
FITTED = (100, 1000)
REPLICATES = {50: 60, 100: 60, 200: 60, 1000: 12}
FITS = {100: 4, 1000: 2}
SETS = ("fresh", "fresh 10x", "copied", "half copied", "few copied", "noisy", "augmented", "mixed")
LONG = 1500  # steps
SAMPLES = 1000
CANARIES = 100
SHADOWS = 32


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("--part", default="sets,vae,canaries,classifier")
    asked.add_argument("--only", type=int)
    asked.add_argument("--replicates", type=int)
    asked.add_argument("--summary", action="store_true")
    asked.add_argument("--out", type=Path, default=OUT)
    options = asked.parse_args()
    lines = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.exists() else []
    if not options.summary:
        done = {(line["part"], line["set"], line["n"]) for line in lines}
        options.out.parent.mkdir(parents=True, exist_ok=True)
        for part, name, n, run in cells(options.part.split(",")):
            if (part, name, n) in done or options.only not in (None, n):
                continue
            replicates = options.replicates or (REPLICATES if part == "sets" else FITS)[n]
            found = [run(Draw(n, replicate)) for replicate in range(replicates)]
            line = {"what": "leakage_quality", "part": part, "set": name, "n": n, "replicates": replicates, "measures": gathered(found)}
            lines.append(line)
            with options.out.open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(f"{part} {name} {n}", flush=True)
    show(lines)


def cells(parts: list[str]) -> Iterator[tuple[str, str, int, Callable[[Draw], dict[str, Any]]]]:
    if "sets" in parts:
        yield from (("sets", name, n, lambda draw, name=name: of_set(draw, name)) for n in SIZES for name in SETS)
    if "vae" in parts:
        yield from (("vae", name, n, lambda draw, name=name: of_vae(draw, name)) for n in FITTED for name in ("vae", "vae long"))
    if "canaries" in parts:
        yield from (("canaries", name, n, lambda draw, name=name: of_canaries(draw, name)) for n in FITTED for name in ("vae long",))
    if "classifier" in parts:
        yield from (("classifier", "logistic regression", n, of_classifier) for n in FITTED)


# what is drawn --------------------------------------------------------------------------------------------------------


@cache
def clothing() -> tuple[np.ndarray, np.ndarray]:
    data = np.load(Path(os.environ["MITATE_DATA"]) / "fashion_mnist.npz", allow_pickle=False)
    return data["x_train"][..., None], data["y_train"].astype(np.int64)


class Draw:
    """Training, held-out and fresh images of one replicate, as many of each class."""

    def __init__(self, n: int, replicate: int) -> None:
        self.n, self.replicate = n, replicate
        x, y = clothing()
        self.rng = np.random.default_rng(seed_of("leakage quality", n, replicate))
        own = [self.rng.permutation(np.flatnonzero(y == k)) for k in range(10)]
        a, more = n // 10, min(n, 200)
        parts = [np.concatenate([rows[i:j] for rows in own]) for i, j in ((0, a), (a, 2 * a), (2 * a, 3 * a), (2 * a, 2 * a + more))]
        (self.train, self.y), (self.held_out, self.held_y), (self.fresh, _), (self.more, _) = ((x[rows], y[rows]) for rows in parts)

    def synthetic(self, name: str) -> np.ndarray:
        train, fresh, rng = self.train, self.fresh, self.rng
        some = rng.permutation(self.n)
        if name == "fresh":
            return fresh
        if name == "fresh 10x":
            return self.more
        if name == "copied":
            return train
        if name in ("half copied", "few copied"):
            part = self.n // (2 if name == "half copied" else 20)
            return np.concatenate([train[some[:part]], fresh[some[part:]]])
        if name == "noisy":
            return np.clip(train + rng.normal(0, 30, train.shape), 0, 255).astype(np.uint8)
        if name == "augmented":
            versions = np.concatenate(
                [train[None], membership.views(train, shift=1).reshape(17, *train.shape), membership.views(train).reshape(17, *train.shape)]
            )
            return versions[rng.integers(0, len(versions), self.n), np.arange(self.n)]
        if name == "mixed":
            partner = np.concatenate([np.roll(np.flatnonzero(self.y == k), 1) for k in range(10)])
            return ((train[np.argsort(self.y, kind="stable")].astype(np.int64) + train[partner]) // 2).astype(np.uint8)
        raise ValueError(name)


def fitted(draw: Draw, name: str, train: np.ndarray, y: np.ndarray) -> tuple[Any, np.ndarray]:
    """A VAE fitted on the images with a fifth as many others to stop in time, and its samples."""
    from mitate.generator import Pixels, image_seeds
    from mitate.generators.vae import VAE
    from mitate.progress import Silent

    kind = VAE.default_for((28, 28, 1), draw.n) if name == "vae" else VAE(steps=LONG, patience=0)
    rows = draw.rng.permutation(draw.n)[: draw.n // 5]
    selection = Pixels(draw.fresh[rows], draw.y[rows], 10)  # the fresh images have the classes of the training ones, in order
    with tempfile.TemporaryDirectory() as folder:
        kind.fit(Pixels(train, y, 10), selection, seed=draw.replicate, folder=Path(folder) / "fit", checkpoint=Path(folder) / "c", progress=Silent())
        generator = kind.load(Path(folder) / "fit")
    classes = np.arange(SAMPLES, dtype=np.int64) % 10
    return generator, generator.sample(image_seeds(draw.replicate, SAMPLES, condition=0), classes)


# what is measured -----------------------------------------------------------------------------------------------------


def of_set(draw: Draw, name: str) -> dict[str, Any]:
    return measured(draw, draw.synthetic(name))


def measured(draw: Draw, synthetic: np.ndarray) -> dict[str, Any]:
    """Each measure's value and whether it caught something."""
    train, held_out, made, views = (privacy.features(x) for x in (draw.train, draw.held_out, synthetic, membership.views(synthetic)))
    found = exposure.privacy_of(made, train, held_out, seed=draw.replicate, views=views)
    assert found.ratio and found.near and found.votes and found.nearer and found.data_copying and found.blind
    plain = membership.sample_scores(train, held_out, made)
    copies = privacy.copies(made, train, held_out)
    measures = {
        "attack near": of_attack(membership.attack("near", *plain.near)),
        "attack ratio": of_attack(membership.attack("ratio", *plain.ratio)),
        "attack near, views": of_attack(found.near),
        "attack ratio, views": of_attack(found.ratio),
        "attack votes": of_attack(found.votes),
        "verdict": {"value": 1.0 if found.verdict.p is None else found.verdict.p, "caught": found.verdict.state == "leaks"},
        "nearer_to_train": of(found.nearer, found.nearer.low > 0.5),
        "distance_ratio": of(found.distance_ratio, below(found.distance_ratio, found.distance_ratio_floor)),
        "authenticity": of(found.authenticity, below(found.authenticity, found.authenticity_floor)),
        "copies": of(copies.excess, copies.excess.low > 0),
        "told apart blindly": {"value": found.blind.p, "caught": found.blind.p < exposure.BLIND},
    }
    if found.data_copying.value is not None:
        measures["c_t"] = of(found.data_copying.value, found.data_copying.value.high < 0)
    return measures


def of(value: Interval, caught: bool) -> dict[str, Any]:
    return {"value": value.value, "low": value.low, "high": value.high, "caught": bool(caught)}


def of_attack(attack: membership.Attack) -> dict[str, Any]:
    return of(attack.auc, attack.p <= 0.025) | {"auc_caught": attack.auc.low > 0.5, "tail_caught": attack.surest.p <= 0.025, "tail": attack.surest.caught.value}


def below(value: Interval, floor: Interval | None) -> bool:
    return floor is not None and value.high < floor.low


def of_vae(draw: Draw, name: str) -> dict[str, Any]:
    generator, synthetic = fitted(draw, name, draw.train, draw.y)
    losses = [elbo(generator, x, y) for x, y in ((draw.train, draw.y), (draw.held_out, draw.held_y))]
    loss = membership.attack("loss", *(membership.loss_scores(x) for x in losses))
    return measured(draw, synthetic) | {"attack loss": of_attack(loss)}


def elbo(generator: Any, x: np.ndarray, y: np.ndarray, draws: int = 8) -> np.ndarray:
    """Negative evidence bound of each image, [n, draws], with the decoder's own deviation."""
    import torch

    net = generator.net
    maps, classes = net.packing.pack(x), torch.from_numpy(y)
    chance = torch.Generator().manual_seed(0)
    with torch.no_grad():
        mean, log_deviation = net.encode(maps, classes)
        kl = 0.5 * (mean.square() + (2 * log_deviation).exp() - 1 - 2 * log_deviation).sum(1)
        said = []
        for _ in range(draws):
            shown = net.decode(mean + log_deviation.exp() * torch.randn(mean.shape, generator=chance), classes)
            said.append(((maps - shown).square().flatten(1) / (2 * net.deviation[0] ** 2)).sum(1) + kl)
    return torch.stack(said, dim=1).double().numpy()


def of_canaries(draw: Draw, name: str) -> dict[str, Any]:
    canaries = audit.make_canaries(draw.train, draw.y, count=CANARIES, seed=draw.replicate)
    generator, synthetic = fitted(draw, name, *canaries.plant(draw.train, draw.y))
    made, planted = privacy.features(synthetic), privacy.features(canaries.x)
    found = {}
    for which, scores in (
        ("audit, samples", membership.near_scores(planted, made)),
        ("audit, loss", membership.loss_scores(elbo(generator, canaries.x, canaries.y))),
    ):
        bound = audit.epsilon_one_run(scores, canaries.included)
        found[which] = {"value": bound.epsilon.low, "caught": bound.epsilon.low > 0}
    return found


def of_classifier(draw: Draw) -> dict[str, Any]:
    """The target and 32 shadow models each train on a random half of the training and held-out images."""
    from sklearn.linear_model import LogisticRegression

    x = np.concatenate([draw.train, draw.held_out]).reshape(2 * draw.n, -1) / 255.0
    y = np.concatenate([draw.y, draw.held_y])
    inside = draw.rng.random((SHADOWS + 1, 2 * draw.n)) < 0.5
    phi = []
    for rows in inside:
        model = LogisticRegression(C=1.0, max_iter=300).fit(x[rows], y[rows])
        assert np.array_equal(model.classes_, np.arange(10))
        phi.append(membership.log_odds_of_logits(model.decision_function(x), y))
    found = membership.on_classifier(phi[0], inside[0], np.stack(phi[1:]), inside[1:])
    return {"lira": of_attack(found.lira), "threshold": of_attack(found.threshold)}


# what is said ---------------------------------------------------------------------------------------------------------


def gathered(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Each measure over replicates: how many caught, and the mean of its numbers."""
    names = dict.fromkeys(name for one in found for name in one)
    return {
        name: {
            "measured": len(mine := [one[name] for one in found if name in one]),
            **{key: round(float(np.mean([m[key] for m in mine])), 4) for key in mine[0] if not key.endswith("caught")},
            **{key: int(sum(m[key] for m in mine)) for key in mine[0] if key.endswith("caught")},
        }
        for name in names
    }


def show(lines: list[dict[str, Any]]) -> None:
    """A table a part and size: rows are measures, columns sets; each cell the mean value, and the share caught with its interval over replicates."""
    for part, n in dict.fromkeys((line["part"], line["n"]) for line in lines):
        mine = [line for line in lines if (line["part"], line["n"]) == (part, n)]
        print(f"\n{part}, n = {n}, {mine[0]['replicates']} replicates\n\n| measure | " + " | ".join(line["set"] for line in mine) + " |")
        print("|---" * (len(mine) + 1) + "|")
        for name in dict.fromkeys(name for line in mine for name in line["measures"]):
            print(f"| {name} | " + " | ".join(cell(line["measures"].get(name)) for line in mine) + " |")


def cell(m: dict[str, Any] | None) -> str:
    if m is None:
        return "not measured"
    share = clopper_pearson(m["caught"], m["measured"])
    return f"{m['value']:.3g}: {share.value:.2f} [{share.low:.2f}, {share.high:.2f}]"


if __name__ == "__main__":
    main()
