"""What opacus and jax-privacy say a private fit spends, written to tests/oracles/privacy_accountant.json. Run by `make oracles`."""

from __future__ import annotations

import json
import warnings
from importlib.metadata import version
from pathlib import Path

import dp_accounting
from jax_privacy.accounting import PldAccountantConfig, RdpAccountantConfig
from opacus.accountants import PRVAccountant, RDPAccountant
from opacus.accountants.analysis import rdp

ROOT = Path(__file__).parent.parent
DELTA = 1e-4
CASES = (  # rate, noise, steps
    (1.0, 5.0, 100),
    (1.0, 1.0, 10),
    (0.5, 4.0, 200),
    (0.256, 2.4, 300),
    (0.1, 1.5, 400),
    (0.05, 1.0, 1000),
    (0.05, 0.6, 50),
    (0.01, 0.8, 2000),
    (0.01, 4.0, 10000),
    (0.001, 0.7, 5000),
)
MIXED = (  # parts of one fit: steps on samples, and a sum over all
    ((0.128, 0.9, 200), (1.0, 6.0, 1)),
    ((0.0256, 0.7, 600), (1.0, 3.0, 2)),
)
ORDERS = (1.1, 1.5, 2.0, 2.7, 4.0, 6.3, 8.0, 10.9, 16.0, 32.0, 63.0)
WHOLE_ORDERS = tuple(range(2, 64))  # dp-accounting's series for other orders does not always converge, and then leaves the order out


def main() -> None:
    found = []
    for case in CASES:
        rate, noise, steps = case
        one = [float(value) for value in rdp.compute_rdp(q=rate, noise_multiplier=noise, steps=1, orders=list(ORDERS))]
        found.append({"rate": rate, "noise": noise, "steps": steps, "rdp": one, **epsilons(case)})
    packages = {p: version(p) for p in ("opacus", "jax_privacy", "dp-accounting", "torch", "scipy", "numpy")}
    what = {
        "versions": packages, "delta": DELTA, "orders": ORDERS, "epsilon_orders": RDPAccountant.DEFAULT_ALPHAS, "whole_orders": WHOLE_ORDERS,
        "cases": found, "mixed": [{"parts": parts, **epsilons(*parts)} for parts in MIXED],
    }  # fmt: skip
    path = ROOT / "tests" / "oracles" / "privacy_accountant.json"
    path.write_text(json.dumps(what, indent=1, sort_keys=True) + "\n")
    print(path.relative_to(ROOT))


def epsilons(*parts: tuple[float, float, int]) -> dict[str, float]:
    """Epsilon by Renyi divergences (opacus at `epsilon_orders`, jax-privacy at `whole_orders`) and from the whole distribution of the privacy loss.

    jax-privacy's accountants are those of dp-accounting, for the sampled Gaussian when one image is added or removed. Of the whole
    distribution both give an upper bound: opacus within 0.01, the other with losses rounded up to multiples of 0.001.
    """
    renyi, whole = RDPAccountant(), PRVAccountant()
    for accountant in (renyi, whole):
        accountant.history = [(noise, rate, steps) for rate, noise, steps in parts]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = {"renyi": float(renyi.get_epsilon(DELTA)), "prv": float(whole.get_epsilon(DELTA))}
    for name, config in (("jax_renyi", RdpAccountantConfig(orders=WHOLE_ORDERS)), ("jax_pld", PldAccountantConfig(value_discretization_interval=1e-3))):
        theirs = config.create_accountant()
        for rate, noise, steps in parts:
            gaussian = dp_accounting.GaussianDpEvent(noise)
            theirs.compose(gaussian if rate == 1 else dp_accounting.PoissonSampledDpEvent(rate, gaussian), steps)
        found[name] = float(theirs.get_epsilon(DELTA))
    return found


if __name__ == "__main__":
    main()
