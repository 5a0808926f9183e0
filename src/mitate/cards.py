"""The dataset card of a synthetic set: README.md with the YAML header that the Hugging Face hub reads, in English and Japanese."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

from mitate import codec
from mitate.images import ImageSet

MOST_SHOWN = 100  # rows of the table
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))  # the hub's own words

PRIVACY = """- Differential privacy (DP-SGD): epsilon {epsilon:.3g} at delta {delta:.2g}, for one image (and its class) added or removed, of {images:,}.
  For k images of one person: k epsilon, at delta times k exp((k - 1) epsilon). Noise {noise_multiplier:.3g} over the clipping norm,
  each image in a step with probability {sampling_rate:.3g}, {steps:,} steps. Classes, number and size of the images, and settings are not covered.
"""
PRIVACY_JA = """- 差分プライバシー (DP-SGD): 単位は画像 1 枚 (とそのクラス) の追加または削除です。学習画像 {images:,} 枚、ε = {epsilon:.3g}、δ = {delta:.2g}。
  同じ人の画像 k 枚に対しては、ε は k 倍、δ は k·exp((k - 1)ε) 倍です。ノイズ {noise_multiplier:.3g} (クリッピングノルム比)、各画像が
  1 回の更新に使われる確率 {sampling_rate:.3g}、更新 {steps:,} 回。クラスの一覧、画像の枚数と大きさ、設定は保護の対象外です。
"""


@dataclass(frozen=True)
class HowRead:
    """What a card says of the form in which its set lies; words in English and Japanese. code: Python, a line each; each: what a mark is in."""

    code: str
    seed: tuple[str, str]
    label: tuple[str, str]
    prompt: tuple[str, str]
    each: tuple[str, str]


FOLDER = HowRead(
    code='from datasets import load_dataset\nload_dataset("imagefolder", data_dir="this folder", split="train")',
    seed=("in `metadata.jsonl`", "`metadata.jsonl` に記録"),
    label=(
        "The class is the column `label`; folder names are only made safe from it.",
        "クラスは `label` 列です。フォルダ名は、安全に使える文字に直したものです。",
    ),
    prompt=("The prompt is the column `caption`.", "プロンプトは `caption` 列です。"),
    each=("file", "すべてのファイル"),
)


def dataset_card(images: ImageSet, *, licence: str = "unknown", read: HowRead = FOLDER) -> str:
    """README.md of a synthetic set. `licence`: an identifier of the hub (cc-by-4.0, other, ...); nobody can guess it."""
    made = images.provenance
    if made is None:
        raise ValueError("a card of synthetic images needs their provenance")
    header = {
        "license": licence,
        "pretty_name": images.name,
        "task_categories": ["image-classification"],
        "annotations_creators": ["machine-generated"],
        "tags": ["synthetic", "mitate"],
        "size_categories": [next((word for limit, word in SIZES if len(images) < limit), "1M<n<10M")],
    }
    yaml = "\n".join(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in header.items())  # JSON is YAML
    painted = images.captions is not None and not images.classes  # of prompts, not of classes
    if painted:
        header["task_categories"] = ["text-to-image"]
        yaml = "\n".join(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in header.items())
    counts = dict(Counter(images.captions)) if painted else images.counts()
    what, what_ja = ("prompts", "種類のプロンプト") if painted else ("classes", "クラス")
    column, column_ja = read.prompt if painted else read.label
    code = "\n".join(f"    {line}" for line in read.code.splitlines())
    labels, labels_ja = ("prompts", "プロンプトは、生成モデルに与えた指示です。") if painted else ("labels", "ラベルは、生成モデルに指定したクラスです。")
    shown = dict(list(counts.items())[:MOST_SHOWN])
    table = "\n".join(f"| {_cell(label)} | {count:,} |" for label, count in shown.items())
    table += f"\n| ... {len(counts) - len(shown):,} more | |" if len(counts) > len(shown) else ""
    settings = json.dumps(made.settings, ensure_ascii=False, sort_keys=True)
    parents = ", ".join(f"`{_code(p[:16])}`" for p in made.parents)
    private, private_ja = (_privacy(made.settings.get("privacy"), words) for words in (PRIVACY, PRIVACY_JA))
    return f"""---
{yaml}
---

# {_cell(images.name)}

**{len(images):,} synthetic images, {len(counts):,} {what}.** Made by a generative model, not photographed.
日本語の説明は[下](#日本語)にあります。

| {"Prompt / プロンプト" if painted else "Class / クラス"} | Images / 枚数 |
|---|---:|
{table}

## How it was made

- Generator: `{_code(made.generator)}`, digest `{_code(made.digest)}`
- Settings: `{_code(settings)}`
- Made from (digests): {parents or "not recorded"}
- Seeds: {f"one an image, {read.seed[0]}" if made.seeds else "not recorded (the images were made by another program)"}
{private}
Every {read.each[0]} carries the IPTC digital source type `{codec.SOURCE_TYPE}` in its metadata.

## How to read it

{code}

{column} `sha256sum -c SHA256SUMS` checks every file.

## Before you use it

- The {labels} are what the generator was asked for. Whether each picture shows it was not checked by a person, unless `filters` says so.
- The licence of the real images the generator learnt from, and the generator's own, apply. Neither is known to this card: see `license` above.
- Never use these images as test images, and never mix them unmarked into real ones.
- Whether they help a model is answered by `mitate pilot`, not by looking at them.

## 日本語

**合成画像 {len(images):,} 枚、{len(counts):,} {what_ja}です。** 撮影したものではなく、生成モデルが作りました。

- 生成モデル: `{_code(made.generator)}` (ダイジェスト `{_code(made.digest[:16])}`)
- 元になった画像と生成モデルのダイジェスト: {parents or "記録なし"}
- 乱数シード: {f"1 枚ごとに {read.seed[1]}" if made.seeds else "記録なし (ほかのプログラムで作られた画像)"}
{private_ja}- {read.each[1]}のメタデータに、IPTC のデジタルソースタイプ (trained algorithmic media) を記録しています。
- {column_ja}

使う前の注意:

- {labels_ja}`filters` に記載がない限り、人手による確認はしていません。
- 学習に使った実画像のライセンスと、生成モデル自体のライセンスに従ってください。このカードでは判断できません。
- テスト画像として使わないでください。印のないまま実画像に混ぜないでください。
- モデルの改善に役立つかどうかは、見た目ではなく `mitate pilot` で確かめてください。
"""


def _privacy(told: Any, words: str) -> str:
    """What a private fit of ours spent, in words; nothing for another fit (a plug-in's own account stands among the settings)."""
    return words.format(**told) if isinstance(told, dict) and told.get("accountant", {}).get("by") == "mitate" else ""


def _cell(text: str) -> str:
    """Text from a user inside Markdown: no table, HTML, heading or link can come out of it."""
    flat = re.sub(r"\s+", " ", text)
    return re.sub(r"([\\`*_{}\[\]()#+!|~-])", r"\\\1", flat).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _code(text: str) -> str:
    """Text from a user inside a code span."""
    return re.sub(r"\s+", " ", text).replace("`", "'")
