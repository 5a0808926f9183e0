"""What another day needs to go on: the parts that are finished, and the painter's averaged weights, as float16 in `start/`.

python handover.py [--work runs/lab-models]              write start/
python handover.py --take [--work runs/lab-models]       and put it back where the scripts look
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from loop import lend
from pack import placeless_files
from safetensors.torch import load_file, save_file

START = Path(__file__).parent / "start"
PARTS = ("vae", "vae-refined", "text-encoder", "tokenizer", "eye")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--work", type=Path, default=Path("runs/lab-models"))
    options.add_argument("--take", action="store_true")
    given = options.parse_args()
    one, two = (START, given.work) if given.take else (given.work, START)
    for part in PARTS:
        if (one / part).exists():
            shutil.rmtree(two / part, ignore_errors=True)
            shutil.copytree(one / part, two / part)
    if not given.take:
        for path in START.rglob("*.safetensors"):
            save_file({k: v.half() for k, v in load_file(path).items()}, path, metadata={"format": "pt"})
        lend(given.work / "text-to-image", START / "painter.safetensors")
        placeless_files(START)


if __name__ == "__main__":
    main()
