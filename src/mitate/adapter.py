"""Noun 3, Adapter: what is learnt on top of a frozen generator or image set, as a small file of tensors.

An adapter knows the digest of its base and of its parents; loading it on another base is an error. On disk it is a folder with
`adapter.json` and `adapter.safetensors`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from mitate.errors import DataError
from mitate.files import write_json
from mitate.settings import digest, parsed


@dataclass(frozen=True, eq=False)
class Adapter:
    """kind: a row of the registry. base: digest of what it was fitted on top of. tensors: name -> array."""

    kind: str
    base: str
    tensors: Mapping[str, np.ndarray]
    settings: Mapping[str, Any] = field(default_factory=dict)
    parents: tuple[str, ...] = ()

    @cached_property
    def digest(self) -> str:
        """Name of the content: kind, base, settings, parents and every tensor's bytes."""
        tensors = {k: [str(v.dtype), list(v.shape), hashlib.sha256(np.ascontiguousarray(v).tobytes()).hexdigest()] for k, v in self.tensors.items()}
        return digest("mitate.adapter", [self.kind, self.base, dict(self.settings), list(self.parents), tensors])

    def require_base(self, base: str) -> None:
        """Raise DataError unless `base` is the digest this adapter was fitted on."""
        if base != self.base:
            raise DataError(
                f"This {self.kind} adapter was fitted on {self.base[:12]}, not on {base[:12]}.", fix="load the generator it was fitted on, or fit it again"
            )

    def save(self, folder: Path) -> None:
        """Write `adapter.safetensors` and `adapter.json` into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file({k: np.ascontiguousarray(v) for k, v in self.tensors.items()}, folder / "adapter.safetensors")
        facts = {"kind": self.kind, "base": self.base, "settings": dict(self.settings), "parents": list(self.parents), "digest": self.digest}
        write_json(folder / "adapter.json", facts)

    @classmethod
    def load(cls, folder: Path) -> Adapter:
        """The adapter in `folder`; DataError when it is damaged or its content does not give its digest."""
        try:
            facts = parsed((folder / "adapter.json").read_text())
            adapter = cls(facts["kind"], facts["base"], load_file(folder / "adapter.safetensors"), facts["settings"], tuple(facts["parents"]))
            same = adapter.digest == facts["digest"]
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as wrong:
            raise DataError(f"{folder} holds no adapter that can be read ({wrong}).", fix="fit it again, or copy it whole") from wrong
        if not same:
            raise DataError(f"The adapter in {folder} was changed since it was written.", fix="fit it again, or copy it whole")
        return adapter
