"""Put the lab's trained models where mitate ships them: src/mitate/weights/lab, lab-captioner, lab-clip, in float16.

    python pack.py [--parts lab,lab-captioner,lab-clip] [--work runs/lab-models] [--steps 12] [--guidance 5]
                   [--round text-to-image]

Cards (README.md) that are there stay. The pipeline is packed from its last checkpoint, also of a training that still runs; it gets the refined decoder
(autoencoder.py --decoder) where there is one, and `mitate.json` with its default steps and guidance.
"""

from __future__ import annotations

import argparse
import json
import shutil
import warnings
from pathlib import Path

import tokenizer
from diffusers import AutoencoderKL
from safetensors import safe_open
from safetensors.torch import load_file
from text_to_image import denoiser, write
from transformers import CLIPTextModel

WEIGHTS = Path(__file__).parents[2] / "src" / "mitate" / "weights"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--work", type=Path, default=Path("runs/lab-models"))
    options.add_argument("--out", type=Path, default=WEIGHTS)
    options.add_argument("--parts", default="lab,lab-captioner,lab-clip")
    options.add_argument("--steps", type=int, default=12)
    options.add_argument("--guidance", type=float, default=5.0)
    options.add_argument("--round", default="text-to-image", help="folder of the painter's training")
    given = options.parse_args()
    warnings.filterwarnings("ignore")
    for part in given.parts.split(","):
        folder = given.out / part
        for path in folder.glob("*") if folder.exists() else ():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != "README.md":
                path.unlink()
        if part == "lab":
            pipeline(given, folder)
        else:
            shutil.copytree(given.work / part, folder, dirs_exist_ok=True)
    for part in given.parts.split(","):
        placeless_files(given.out / part)
    for path in sorted(p for p in given.out.glob("lab*/**/*") if p.is_file()):
        print(f"{path.relative_to(given.out)}: {path.stat().st_size / 1e6:.2f} MB")


def placeless_files(folder: Path) -> None:
    """Take out of every configuration where the libraries loaded it from, which is nobody's business, and let everybody read the files."""
    for path in folder.rglob("*"):
        if path.name == "config.json":
            path.write_text(json.dumps(placeless(json.loads(path.read_text())), indent=2, sort_keys=True) + "\n")
        if path.is_file():
            path.chmod(0o644)


def placeless(value: object) -> object:
    """A configuration without the places it was loaded from."""
    return {key: placeless(v) for key, v in value.items() if key != "_name_or_path"} if isinstance(value, dict) else value


def pipeline(given: argparse.Namespace, folder: Path) -> None:
    """The text-to-image model from its last checkpoint, with its defaults."""
    facts: dict[str, object] = {"steps": given.steps, "guidance": given.guidance}
    facts |= {"template": "a picture of a {label}", "styled": "a picture of a {label}, {style}"}
    unet, place = denoiser(), given.work / given.round / "checkpoint.safetensors"
    before = given.round.rpartition("-")[2]  # a further round is called by the batch that it began at
    unet.load_state_dict({k.removeprefix("mean.unet."): v for k, v in load_file(place).items() if k.startswith("mean.unet.")})
    with safe_open(place, "pt") as opened:
        facts["trained_steps"] = int(opened.metadata()["step"]) + (int(before) if before.isdigit() else 0)
        facts["trained_core_seconds"] = round(float(opened.metadata()["cpu_seconds"]))
    vae = AutoencoderKL.from_pretrained(given.work / ("vae-refined" if (given.work / "vae-refined").exists() else "vae"))
    write(unet.eval(), CLIPTextModel.from_pretrained(given.work / "text-encoder"), vae, tokenizer.opened(given.work), folder)
    (folder / "mitate.json").write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
