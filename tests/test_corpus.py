"""The kept inputs of the fuzzing, each at its door again: read, or refused in one line with a fix.

benchmarks/fuzz_readers.py --save writes tests/corpus/READER/: small files that take steps through mitate's code which no other of that reader takes, and among
them what once was a finding.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mitate.errors import MitateError

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

from fuzz_guidance import MOST_BYTES, MOST_OF_READER, Reached, chosen  # noqa: E402
from fuzz_models import MODELS  # noqa: E402
from fuzz_readers import CORPUS, PLACES, corpus  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # damaged pictures and models are warned of by the libraries that read them
HEAVY = [
    name for name in MODELS if name not in ("lora", "peft", "words", "weights", "adapter-json", "adapter", "checkpoint")
]  # they open diffusers, transformers


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) if name in HEAVY else name for name in PLACES])
def test_a_kept_input_is_read_or_refused_in_one_line(name: str, tmp_path: Path) -> None:
    file, read = PLACES[name].make(tmp_path)
    read()
    for data in corpus(name):
        file.write_bytes(data)
        try:
            read()
        except MitateError as wrong:
            assert len(wrong.message.splitlines()) == 1 and wrong.fix and len(wrong.message) < 4000


def test_every_folder_of_the_corpus_is_a_reader_and_is_small() -> None:
    found = {folder.name: [path.stat().st_size for path in folder.iterdir()] for folder in CORPUS.iterdir() if folder.is_dir()}
    assert found.keys() <= PLACES.keys()
    assert all(max(sizes) <= MOST_BYTES and sum(sizes) <= MOST_OF_READER for sizes in found.values())
    assert sum(map(sum, found.values())) < 1_500_000


def test_the_guidance_keeps_what_takes_a_step_of_its_own_and_makes_it_small() -> None:
    from mitate.settings import parsed

    reached = Reached()

    def steps(data: bytes) -> set[tuple[int, int, int]]:
        def read() -> None:
            try:
                parsed(data.decode())
            except ValueError:
                pass

        return set(reached.of(read))

    known = steps(b"{}")
    half = b'["' + b"a" * 400 + b'", "\\ud800"]'
    assert steps(b"[1]") == known and not steps(half) <= known
    (kept,) = chosen([half, b"[1]", b"[2]", half + b" " * 900], steps, known=known, seconds=30)
    assert len(kept) < 250 and b"\\ud800" in kept and not steps(kept) <= known
