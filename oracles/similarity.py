"""What scikit-image says of the structural similarity of pairs of tests/oracle_inputs.py, written to tests/oracles/similarity.json. Run by `make oracles`.

torchmetrics, with the same Gaussian window, takes its mean over a border of reflected pixels as well, and so says other numbers.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path

from skimage.metrics import structural_similarity

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from oracle_inputs import picture_pairs  # noqa: E402


def main() -> None:
    how = {"gaussian_weights": True, "sigma": 1.5, "truncate": 5 / 1.5, "use_sample_covariance": False, "data_range": 255, "channel_axis": 2}
    found: dict[str, object] = {"versions": {"scikit-image": version("scikit-image")}}
    for name, (a, b) in picture_pairs().items():
        found[name] = [float(structural_similarity(x, y, **how)) for x, y in zip(a, b, strict=True)]
    path = ROOT / "tests" / "oracles" / "similarity.json"
    path.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
