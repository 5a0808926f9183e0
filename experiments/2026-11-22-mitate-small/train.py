"""Train mitate-small: a small network that learns to see as MobileNetV2 does, on pictures that may be used freely.

    MITATE_DATA=folder nice python train.py [--out runs/mitate-small] [--pictures 40000] [--steps 3200]

Three stages, each kept in OUT and gone on with after a kill: draw the pictures, look at them with the teacher, fit the student. Then the
weights are folded, rounded to float16 and written to src/mitate/weights/mitate-small.safetensors (--ship), beside what was measured.
One thread; the processor time of each stage is in OUT/cost.json.

The student's features carry three heads, which are thrown away: the teacher's embedding (square error on standardised square roots), the
class of the picture, and how much of each degradation it has had.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from draw import DEGRADED, SIDE, Sources, draw, read_sources
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from mitate.files import file_digest
from mitate.fitting import Schedule, optimise
from mitate.runtime import seed_of, torch_threads
from mitate.training.backbones import mobilenet_v2
from mitate.training.small_net import WIDTH, SmallNet

SEED = 0
BATCH = 128
HELD = 1000  # pictures that the student is not fitted on
TEACHER_SIDE = 96  # pixels the teacher is shown
HERE = Path(__file__).parent
WEIGHTS = HERE.parents[1] / "src" / "mitate" / "weights" / "mitate-small.safetensors"
CLASS, DEGRADATION = 0.1, 2.0  # weights of the two other terms


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--out", type=Path, default=Path("runs/mitate-small"))
    options.add_argument("--pictures", type=int, default=40_000)
    options.add_argument("--steps", type=int, default=3_200)
    options.add_argument("--ship", action="store_true")
    given = options.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    data = Path(os.environ["MITATE_DATA"])
    with torch_threads():
        sources = read_sources(data)
        pictures = stage(given.out, "pictures", lambda: draw_all(given.pictures, sources))
        seen = stage(given.out, "teacher", lambda: {"embedding": look(pictures["x"], data / "backbones" / "mobilenet_v2.safetensors")})
        student = Student(sources.n_classes)
        facts = fit(student, pictures, standard(seen["embedding"]), steps=given.steps, out=given.out)
        net = ship(student, pictures["x"])
    state = {name: tensor.half().contiguous() for name, tensor in net.state_dict().items()}
    save_file(state, given.out / WEIGHTS.name)
    cost = json.loads((given.out / "cost.json").read_text())
    facts |= {"seed": SEED, "processor_seconds": cost, "torch": torch.__version__, "sha256": digests(data) | {"weights": file_digest(given.out / WEIGHTS.name)}}
    (given.out / "trained.json").write_text(json.dumps(facts, indent=1) + "\n")
    print(json.dumps(facts))
    if given.ship:
        WEIGHTS.parent.mkdir(exist_ok=True)
        WEIGHTS.write_bytes((given.out / WEIGHTS.name).read_bytes())
        (HERE / "trained.json").write_bytes((given.out / "trained.json").read_bytes())


def stage(out: Path, name: str, make) -> dict[str, np.ndarray]:  # type: ignore[no-untyped-def]
    """The arrays of a stage, made once."""
    path = out / f"{name}.npz"
    if not path.exists():
        begun = time.process_time()
        np.savez(out / f"{name}.tmp.npz", **make())
        spend(out, name, time.process_time() - begun)
        (out / f"{name}.tmp.npz").rename(path)
    with np.load(path) as found:
        return {key: found[key] for key in found.files}


def spend(out: Path, name: str, seconds: float) -> None:
    """Add processor seconds to the account of a stage."""
    path = out / "cost.json"
    cost = json.loads(path.read_text()) if path.exists() else {}
    cost[f"{name}_seconds"] = round(cost.get(f"{name}_seconds", 0.0) + seconds, 1)
    path.write_text(json.dumps(cost))


def draw_all(n: int, sources: Sources) -> dict[str, np.ndarray]:
    x, label, degraded = np.empty((n, SIDE, SIDE, 3), np.uint8), np.empty(n, np.int64), np.empty((n, len(DEGRADED)), np.float32)
    for i in range(n):
        drawn = draw(i, sources, seed=SEED)
        x[i], label[i], degraded[i] = drawn.pixels, drawn.label, drawn.degraded
    return {"x": x, "label": label, "degraded": degraded}


@torch.no_grad()
def look(x: np.ndarray, weights: Path) -> np.ndarray:
    """The teacher's embedding of each picture, float16 [n, 1280]; computed in bfloat16, which is twice as fast here."""
    teacher = mobilenet_v2(shape=(SIDE, SIDE, 3), n_classes=2, weights=weights, frozen=True).eval().body
    teacher.size = TEACHER_SIDE
    found = np.empty((len(x), 1280), np.float16)
    with torch.autocast("cpu", torch.bfloat16):
        for start in range(0, len(x), 64):
            found[start : start + 64] = teacher(to_network(x[start : start + 64])).float().numpy()
    return found


def standard(embedding: np.ndarray) -> Tensor:
    """Square roots, which have shorter tails, each with mean 0 and deviation 1 over the pictures; float16."""
    roots = torch.from_numpy(np.sqrt(embedding.astype(np.float32)))
    deviation, mean = torch.std_mean(roots, dim=0)
    return ((roots - mean) / deviation.clamp_min(1e-3)).clamp(-5, 5).half()


def to_network(x: np.ndarray) -> Tensor:
    return torch.from_numpy(x).permute(0, 3, 1, 2).float().div_(255).contiguous(memory_format=torch.channels_last)


class Student(nn.Module):
    """The network with batch normalisation after each convolution, and the three heads."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        torch.manual_seed(seed_of("mitate-small", "init", SEED))
        self.net = SmallNet()
        normalise(self.net)
        self.teacher, self.label, self.degraded = nn.Linear(WIDTH, 1280), nn.Linear(WIDTH, n_classes), nn.Linear(WIDTH, len(DEGRADED))


def normalise(module: nn.Module) -> None:
    for name, child in list(module.named_children()):
        if isinstance(child, nn.Conv2d):
            conv = nn.Conv2d(child.in_channels, child.out_channels, child.kernel_size, child.stride, child.padding, bias=False)  # type: ignore[arg-type]
            setattr(module, name, nn.Sequential(conv, nn.BatchNorm2d(child.out_channels)))
        else:
            normalise(child)


def fold(module: nn.Module) -> None:
    for name, child in list(module.named_children()):
        if isinstance(child, nn.Sequential) and len(child) == 2 and isinstance(child[1], nn.BatchNorm2d):
            setattr(module, name, fuse_conv_bn_eval(child[0].eval(), child[1].eval()))
        else:
            fold(child)


def digests(data: Path) -> dict[str, str]:
    """SHA-256 of all that was learnt from; of a folder, that of its files' own lines as sha256sum prints them, sorted by path."""
    found = {name: file_digest(data / name) for name in ("fashion_mnist.npz", "few_shot/omniglot_greek_reference.npz", "backbones/mobilenet_v2.safetensors")}
    for folder in ("grocery_fruit/train", "few_shot/omniglot_greek_10shot"):
        files = sorted(p for p in (data / folder).rglob("*") if p.is_file())
        found[folder] = hashlib.sha256("".join(f"{file_digest(p)}  {p.relative_to(data / folder).as_posix()}\n" for p in files).encode()).hexdigest()
    return found


def fit(student: Student, pictures: dict[str, np.ndarray], target: Tensor, *, steps: int, out: Path) -> dict[str, float]:
    """Fit the student, and say how much of the held pictures' teacher embedding it explains."""
    x, label, degraded = pictures["x"], torch.from_numpy(pictures["label"]), torch.from_numpy(pictures["degraded"])
    n, clock = len(x) - HELD, [time.process_time()]
    per_epoch = n // BATCH

    def batch_loss(module: nn.Module, step: int) -> Tensor:
        assert isinstance(module, Student)
        order = np.random.default_rng(seed_of("mitate-small", "order", SEED, step // per_epoch)).permutation(n)
        rows = order[(step % per_epoch) * BATCH :][:BATCH]
        batch = to_network(x[rows])
        if torch.rand(()) < 0.5:
            batch = batch.flip(3)
        with torch.autocast("cpu", torch.bfloat16):
            late, _ = module.net(batch)
            embedding, logits, much = module.teacher(late), module.label(late), module.degraded(late)
        loss = F.mse_loss(embedding.float(), target[rows].float())
        loss = loss + CLASS * F.cross_entropy(logits.float(), label[rows], ignore_index=-1) + DEGRADATION * F.mse_loss(much.float(), degraded[rows])
        if (step + 1) % 50 == 0 or step + 1 == steps:
            spend(out, "fit", time.process_time() - clock[0])
            clock[0] = time.process_time()
            print(step + 1, f"{loss.item():.4f}", flush=True)
        return loss

    student.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    student.train()
    optimise(student, batch_loss, Schedule(steps=steps, lr=2e-3, weight_decay=0.02, warmup=200, clip=2.0), seed=SEED, checkpoint=out / "fit")
    student.eval()
    with torch.no_grad():
        late = torch.cat([student.net(to_network(x[i : i + 100]))[0] for i in range(n, len(x), 100)])
        left = (student.teacher(late) - target[n:].float()).square().mean(0) / target[n:].float().var(0, correction=0).clamp_min(1e-3)
        right = (student.label(late).argmax(1) == label[n:])[label[n:] >= 0].float().mean()
        much = 1 - (student.degraded(late) - degraded[n:]).square().mean(0) / degraded[n:].var(0, correction=0)
    facts = {"pictures": len(x), "steps": steps, "batch": BATCH, "teacher_explained": float(1 - left.mean()), "class_right": float(right)}
    return facts | {f"{name}_explained": float(value) for name, value in zip(DEGRADED, much, strict=True)}


@torch.no_grad()
def ship(student: Student, x: np.ndarray) -> SmallNet:
    """The network with its normalisation folded, rounded to float16, and the mean and deviation of its features over the pictures."""
    net = student.net.eval()
    some = to_network(x[:64])
    before, _ = net(some)
    fold(net)
    after, _ = net(some)
    assert torch.allclose(before, after, atol=1e-3, rtol=1e-3), "folding changed the network"
    net.load_state_dict({name: tensor.half().float() for name, tensor in net.state_dict().items()})
    late = torch.cat([net(to_network(x[i : i + 64]))[0] for i in range(0, len(x), 64)])
    deviation, mean = torch.std_mean(late, dim=0)
    net.mean.copy_(mean)
    net.deviation.copy_(deviation.clamp_min(1e-3))
    return net


if __name__ == "__main__":
    main()
