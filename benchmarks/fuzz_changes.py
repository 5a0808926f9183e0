"""Changes of a file, for benchmarks/fuzz_readers.py: mostly as its form is (values, keys, members, headers replaced by hostile ones), sometimes blindly."""

from __future__ import annotations

import gzip
import io
import json
import random
import re
import zipfile
import zlib
from collections.abc import Sequence
from typing import Any

RAW = {  # what JSON can hold and no Python value is written as
    "huge": "1" + "0" * 400, "long": "9" * 5000, "over": "1e400", "nan": "NaN", "inf": "-Infinity", "half": '"\\ud800"', "deep": "[" * 20_000,
    "deeper": '{"a":' * 20_000, "nul": '"a\\u0000b"',
}  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1.5, 2**31, 2**63, -(2**70), 1e308, "", " ", "a", "\x1b[2J", "\u202eabc", "../../etc/passwd", "/etc/passwd", "C:\\x", "x" * 5000,
    "=cmd()", "<script>", [], {}, [[]], [None], {"": None}, {"a": 1}, [1, "a", None], "nan", "1e999", "-1", "\n", "NUL", *(f"@@{name}@@" for name in RAW),
)  # fmt: skip
WORDS = (
    "", "[", "]", "{", "}", '"', "'", "=", ",", "0", "-1", "1e400", "nan", "inf", "true", "\x00", "\x1b[2J", "\u202e", "../..", "#", "9" * 5000, "[" * 3000,
    "\\u0000",
)  # fmt: skip


def changed(data: bytes, form: str, chance: random.Random, words: Sequence[str] = ()) -> bytes:
    """The file, changed once to four times: mostly as its form is, sometimes blindly. words: what the reader's own code knows, put in beside hostile ones."""
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        try:
            data = FORMS[form](data, chance, words) if form in FORMS and chance.random() < 0.75 else of_bytes(data, chance, words)
        except Exception:  # the form is broken already
            data = of_bytes(data, chance, words)
    return data


def of_bytes(data: bytes, chance: random.Random, words: Sequence[str] = ()) -> bytes:
    """Bits flipped, cut, a part repeated, moved or overwritten."""
    if not data:
        return bytes(chance.randrange(256) for _ in range(8))
    at, size = chance.randrange(len(data)), chance.choice((1, 2, 4, 8, 64, 1024))
    other = chance.randrange(len(data))
    return chance.choice((
        lambda: data[:at] + bytes([data[at] ^ (1 << chance.randrange(8))]) + data[at + 1 :],
        lambda: data[:at],
        lambda: data[:at] + data[at + size :],
        lambda: data[:at] + data[other : other + size] + data[at:],
        lambda: data[:at] + chance.choice((b"\xff", b"\x00")) * min(size, 8) + data[at + min(size, 8) :],
        lambda: data[:at] + chance.choice((b"\xff\xff\xff\x7f", b"\xff" * 8, b"\x00" * 8, b"\x00\x00\x00\x80")) + data[at + 4 :],
        lambda: data[:at] + _word(chance, words).encode("utf-8", "surrogatepass") + data[at:],
    ))()  # fmt: skip


def of_json(data: bytes, chance: random.Random, words: Sequence[str] = ()) -> bytes:
    """One value, key or item of a JSON document replaced, left out or doubled."""
    return _written(_node_changed(json.loads(data), chance, words))


def of_lines(data: bytes, chance: random.Random, words: Sequence[str] = ()) -> bytes:
    """One line of JSON lines changed, doubled or moved."""
    lines = data.split(b"\n")
    at = chance.randrange(max(1, len(lines) - 1))
    if chance.random() < 0.15:
        return b"\n".join([*lines[:at], lines[at], *lines[at:]])
    return b"\n".join([*lines[:at], of_json(lines[at], chance, words), *lines[at + 1 :]])


def of_words(data: bytes, chance: random.Random, words: Sequence[str] = ()) -> bytes:
    """One word or sign of a text replaced (TOML, CSV)."""
    parts = re.findall(r"\w+|\s+|[^\w\s]", data.decode("utf-8", "replace"))
    parts[chance.randrange(len(parts))] = chance.choice((_word(chance, words), chance.choice(parts)))
    return "".join(parts).encode("utf-8", "surrogatepass")


def of_safetensors(data: bytes, chance: random.Random, words: Sequence[str] = ()) -> bytes:
    """The header, as JSON; its length told rightly, or not."""
    size = int.from_bytes(data[:8], "little")
    header = of_json(data[8 : 8 + size], chance, words)
    told = len(header) if chance.random() < 0.95 else chance.choice((0, 2**63, len(header) + 8, 100_000_001))
    return told.to_bytes(8, "little") + header + data[8 + size :]


def of_zip(data: bytes, chance: random.Random, words: Sequence[str] = ()) -> bytes:
    """One member of a zip changed and packed again, or left out."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        names = old.namelist()
        one = chance.choice(names)
        for name in names:
            if name == one and chance.random() < 0.1:
                continue
            inner = old.open(name).read(1 << 17)
            new.writestr(zipfile.ZipInfo(name), of_bytes(inner[:128], chance, words) + inner[128:] if name == one else inner, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def of_gzip(data: bytes, chance: random.Random, words: Sequence[str] = ()) -> bytes:
    return gzip.compress(of_bytes(zlib.decompressobj(31).decompress(data, 1 << 17), chance, words), 1, mtime=0)


def of_head(data: bytes, chance: random.Random, words: Sequence[str] = ()) -> bytes:
    """The first 128 bytes of a .npy, which say what follows."""
    return of_bytes(data[:128], chance, words) + data[128:]


FORMS = {"head": of_head, "json": of_json, "lines": of_lines, "words": of_words, "safetensors": of_safetensors, "zip": of_zip, "gzip": of_gzip}


def _node_changed(node: Any, chance: random.Random, words: Sequence[str]) -> Any:
    inside = isinstance(node, (dict, list)) and len(node) > 0
    if not inside or chance.random() < 0.12:
        return chance.choice(words) if words and chance.random() < 0.2 else chance.choice(VALUES)
    if isinstance(node, list):
        at = chance.randrange(len(node))
        kind = chance.random()
        if kind < 0.1:
            return node[:at] + node[at + 1 :]
        if kind < 0.2:
            return [*node, node[at]]
        return [*node[:at], _node_changed(node[at], chance, words), *node[at + 1 :]]
    key = chance.choice(list(node))
    kind = chance.random()
    if kind < 0.1:
        return {k: v for k, v in node.items() if k != key}
    if kind < 0.2:
        return {(str(chance.choice(VALUES))[:200] if k == key else k): v for k, v in node.items()}
    if kind < 0.3 and words:
        return {**node, chance.choice(words): chance.choice((node[key], chance.choice(VALUES)))}
    return {k: (_node_changed(v, chance, words) if k == key else v) for k, v in node.items()}


def _written(value: Any) -> bytes:
    text = json.dumps(value, ensure_ascii=False)
    return re.sub(r'"@@(\w+)@@"', lambda found: RAW.get(found[1], found[0]), text).encode("utf-8", "surrogatepass")


def _word(chance: random.Random, words: Sequence[str]) -> str:
    return chance.choice(words) if words and chance.random() < 0.5 else chance.choice(WORDS)
