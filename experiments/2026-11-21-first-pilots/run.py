"""First pilots on real images at 20 a class: coffee leaves, blood cells, Fashion-MNIST, and digits with images from another program.

    MITATE_DATA=folder python run.py [--budget 10m] [--out folder]

Resumable: a finished pilot is a row of results.jsonl, an unfinished one goes on. Reports are in OUT/<name>/report.html.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--budget", default="10m")
    options.add_argument("--out", type=Path, default=Path("runs/first-pilots"))
    given = options.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    data = Path(os.environ["MITATE_DATA"])
    fonts = given.out / "font-digits"
    if not fonts.is_dir():
        subprocess.run([HERE / "font_digits.sh", given.out / ".fonts"], check=True)
        (given.out / ".fonts").rename(fonts)
    pilots = {
        "coffee_leaf": [str(data / "coffee_leaf"), "--per-class", "20"],
        "bccd_cells": [str(data / "bccd_cells"), "--per-class", "20"],
        "fashion_mnist": [str(data / "fashion_mnist.npz"), "--per-class", "20"],
        "digits_fonts": ["digits:20", "--generators", f"vae,folder:{fonts}"],
    }
    results = HERE / "results.jsonl"
    done = {json.loads(line)["name"] for line in results.read_text().splitlines()} if results.exists() else set()
    for name, words in pilots.items():
        if name in done:
            continue
        out = given.out / name
        subprocess.run([sys.executable, "-m", "mitate", "pilot", *words, "--budget", given.budget, "--out", str(out)], check=True)
        with open(results, "a") as lines:
            lines.write(json.dumps(row(name, out)) + "\n")


def row(name: str, out: Path) -> dict[str, object]:
    """What is kept of a pilot: verdict, arms with intervals, gates, sizes, time."""
    decision, study = (json.loads((out / f).read_text()) for f in ("decision.json", "study.json"))
    arms = [{k: a[k] for k in ("label", "role", "split", "score", "gain", "p_holm", "dropped")} for a in decision["arms"]]
    kept = ("verdict", "reason", "candidate", "gates", "looks", "smallest_detectable_gain", "cost")
    sizes = {k: study["sizes"][k] for k in ("size", "channels", "arms", "training", "generators", "synthetic_per_class", "small", "full")}
    for facts in sizes["generators"].values():
        facts.pop("images", None)
    return {"name": name, **{k: decision[k] for k in kept}, "arms": arms, "images": study["data"]["images"], "sizes": sizes}


if __name__ == "__main__":
    main()
