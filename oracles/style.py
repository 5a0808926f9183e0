"""What scikit-learn says of the inputs of tests/test_told_apart.py and tests/test_transfer.py, written to tests/oracles/style.json. Run by `make oracles`.

The folds are our own (they are part of the input); the classifier, the AUC, the balanced accuracy, the largest evidence (BayesianRidge with
flat priors on both precisions) and the nearest neighbours are scikit-learn's.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
from sklearn.linear_model import BayesianRidge, LogisticRegression
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.model_selection import LeaveOneOut, cross_val_score
from sklearn.neighbors import KNeighborsClassifier

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from oracle_inputs import STYLE_NAMES, style_features, style_folds, transfer_features  # noqa: E402

PACKAGES = ("numpy", "scikit-learn", "scipy")


def main() -> None:
    found = {
        "versions": {p: version(p) for p in PACKAGES},
        "told_apart": {name: told_apart(name) for name in STYLE_NAMES},
        "transfer": {str(d): transfer(d) for d in (8, 40, 90)},
    }
    path = ROOT / "tests" / "oracles" / "style.json"
    path.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    print(path.relative_to(ROOT))


def told_apart(name: str) -> dict[str, object]:
    real, fake = style_features(name)
    folds = np.concatenate(style_folds(len(real), len(fake)))
    x, y = np.concatenate([real, fake]), np.repeat([0, 1], [len(real), len(fake)])
    scores, aucs = np.empty(len(x)), []
    for k in range(5):
        train, test = folds != k, folds == k
        mean, deviation = x[train].mean(axis=0), x[train].std(axis=0)
        model = LogisticRegression(C=1.0, class_weight="balanced", tol=1e-10, max_iter=10000).fit((x[train] - mean) / deviation, y[train])
        scores[test] = model.decision_function((x[test] - mean) / deviation)
        aucs.append(roc_auc_score(y[test], scores[test]))
    return {
        "inputs": float(np.abs(x).sum()), "auc": float(np.mean(aucs)), "balanced": float(balanced_accuracy_score(y, scores > 0)), "scores": scores.tolist(),
    }  # fmt: skip


def transfer(d: int) -> dict[str, object]:
    x, y = transfer_features(d)
    evidence = []
    for k in np.unique(y):
        flat = {"alpha_1": 0.0, "alpha_2": 0.0, "lambda_1": 0.0, "lambda_2": 0.0}
        model = BayesianRidge(max_iter=20000, tol=1e-12, fit_intercept=False, compute_score=True, **flat).fit(x, (y == k).astype(float))
        evidence.append(float(model.scores_[-1]) / len(y))
    near = cross_val_score(KNeighborsClassifier(n_neighbors=1), x, y, cv=LeaveOneOut())
    return {"inputs": float(np.abs(x).sum()), "logme": float(np.mean(evidence)), "nearest": float(near.mean())}


if __name__ == "__main__":
    main()
