"""What another day goes on from: the parts of what is shipped, put back where the scripts look, and the two that are not shipped, kept in `start/`.

python handover.py --take [--work runs/lab-models]              autoencoder, text encoder, tokenizer and painter from weights/lab; eye and head from start/
python handover.py --round text-to-image [--work ...]           write start/: the eye, and the head that reads from the painter's maps

The painter comes as `painter.safetensors` (averaged weights, float16), for `text_to_image.py --start`.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from pack import WEIGHTS, placeless_files
from safetensors.torch import load_file, save_file

START, LAB = Path(__file__).parent / "start", WEIGHTS / "lab"
SHIPPED = {"vae": ("vae", "vae-refined"), "text_encoder": ("text-encoder",), "tokenizer": ("tokenizer",)}  # a part of weights/lab, and what it is called here


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--work", type=Path, default=Path("runs/lab-models"))
    options.add_argument("--take", action="store_true")
    options.add_argument("--round", default="text-to-image", help="folder of the painter's training")
    given = options.parse_args()
    take(given.work) if given.take else give(given.work, given.round)


def take(work: Path) -> None:
    for part, names in SHIPPED.items():
        for name in names:
            shutil.copytree(LAB / part, work / name, dirs_exist_ok=True)
    shutil.copytree(START / "eye", work / "eye", dirs_exist_ok=True)
    unet = {f"unet.{k}": v for k, v in load_file(LAB / "unet" / "diffusion_pytorch_model.safetensors").items()}
    facts = json.loads((LAB / "mitate.json").read_text())
    about = {"step": str(facts["trained_steps"]), "cpu_seconds": str(facts["trained_core_seconds"])}
    save_file(unet | load_file(START / "head.safetensors"), work / "painter.safetensors", metadata=about)


def give(work: Path, round_: str) -> None:
    shutil.copytree(work / "eye", START / "eye", dirs_exist_ok=True)
    path = START / "eye" / "model.safetensors"
    save_file({k: v.half() for k, v in load_file(path).items()}, path, metadata={"format": "pt"})
    mean = load_file(work / round_ / "checkpoint.safetensors")
    save_file({k.removeprefix("mean."): v.half() for k, v in mean.items() if k.startswith("mean.head.")}, START / "head.safetensors")
    placeless_files(START)


if __name__ == "__main__":
    main()
