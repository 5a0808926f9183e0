"""Skills as data: what a kind of prompt tests, its rules, seed examples and word limit, in a TOML file.

read_skill("counting")          one that comes with mitate (SKILLS)
read_skill("my-skill.toml")     one's own; `mitate prompts --show template` prints a file to start from

Five of them are the kinds of SELMA (Li et al. 2024, arXiv 2403.06952: everyday, counting, detailed, counterfactual, long), in our own words. `templates` with
`slots`, or the name of a skill of the lab, say what the offline grammar writes.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mitate.errors import SettingError
from mitate.files import checked_name
from mitate.lab.skills import SKILLS as OF_LAB
from mitate.prompts.wording import judged
from mitate.settings import record, suggest

FOLDER = Path(__file__).parent / "skills"
TEMPLATE = "template"
MOST_BYTES = 1_000_000
MOST_WORDS = 200
SLOT = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class SkillSpec:
    """A kind of prompts.

    tests: what a picture of such a prompt shows a model to be able to, in a few words; rules: of the prompts, a sentence each; seeds: examples written by
    hand; max_words: of a prompt. For the offline grammar, either templates with {slots}, or lab: the skill of the lab whose prompts these are.
    """

    name: str
    tests: str
    seeds: tuple[str, ...]
    rules: tuple[str, ...] = ()
    max_words: int = 30
    templates: tuple[str, ...] = ()
    slots: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    lab: str = ""

    def __post_init__(self) -> None:
        where = f"The skill {self.name!r}"
        checked_name(self.name)
        if not 1 <= self.max_words <= MOST_WORDS:
            raise SettingError(f"{where} has prompts of {self.max_words} words.", fix=f"give max_words from 1 to {MOST_WORDS}")
        if not self.tests.strip() or not self.seeds:
            raise SettingError(f"{where} does not say what it tests, or has no seeds.", fix="fill in tests and seeds (three are usual)")
        for seed in self.seeds:
            if (found := judged(seed, most=self.max_words)).reason or found.text != seed:
                told = found.reason or "quotes or needless spaces"
                raise SettingError(f"{where} has a seed that would be dropped as a prompt ({told}): {seed[:60]!r}.", fix="mend it, or raise max_words")
        if len(set(self.seeds)) < len(self.seeds):
            raise SettingError(f"{where} has a seed twice.", fix="write another one")
        if self.lab and self.lab not in OF_LAB:
            raise SettingError(f"{where}: the lab has no skill {self.lab!r}.", fix=suggest(self.lab, OF_LAB))
        if self.lab and self.templates:
            raise SettingError(f"{where} has templates and a skill of the lab.", fix="keep one of the two")
        self._check_slots(where)

    def _check_slots(self, where: str) -> None:
        used = {slot for template in self.templates for slot in SLOT.findall(template)}
        if unknown := sorted(used - self.slots.keys()):
            raise SettingError(f"{where}: a template has {{{unknown[0]}}}, and there is no such slot.", fix=suggest(unknown[0], self.slots) if self.slots
                               else f'write {unknown[0]} = ["...", "..."] under [slots]')  # fmt: skip
        if idle := sorted(self.slots.keys() - used):
            raise SettingError(f"{where}: no template has the slot {{{idle[0]}}}.", fix="use it in a template, or leave it out")
        if empty := sorted(slot for slot, options in self.slots.items() if not options):
            raise SettingError(f"{where}: the slot {empty[0]!r} is empty.", fix="write what may stand there")

    @property
    def ways(self) -> tuple[int, ...]:
        """How many ways there are to fill each template."""
        return tuple(math.prod(len(self.slots[slot]) for slot in SLOT.findall(template)) for template in self.templates)

    @property
    def combinations(self) -> int:
        """The same for all templates."""
        return sum(self.ways)


def names() -> list[str]:
    """The skills that come with mitate, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.toml") if path.stem != TEMPLATE)


def read_skill(source: str | Path) -> SkillSpec:
    """The skill of a name of ours or of a TOML file."""
    if Path(source).suffix.lower() == ".toml":
        return _read(Path(source))
    if str(source) not in names():
        raise SettingError(f"There is no skill {str(source)!r}.", fix=f"{suggest(str(source), names())}; or give a file of your own, my-skill.toml")
    return _read(FOLDER / f"{source}.toml")


def skill_file(name: str) -> str:
    """The TOML of a skill of ours, or of `template`, to be changed into one's own."""
    if name not in (*names(), TEMPLATE):
        raise SettingError(f"There is no skill {name!r}.", fix=suggest(name, [*names(), TEMPLATE]))
    return (FOLDER / f"{name}.toml").read_text(encoding="utf-8")


def _read(path: Path) -> SkillSpec:
    try:
        with open(path, "rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as wrong:
        raise SettingError(f"The skill {path} cannot be read ({wrong.strerror}).", fix="check the path") from wrong
    if len(data) > MOST_BYTES:
        raise SettingError(f"The skill {path} has more than {MOST_BYTES} bytes.", fix="give a TOML file like that of mitate prompts --show template")
    try:
        values = tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as wrong:
        raise SettingError(f"The skill {path} is not TOML ({wrong}).", fix="mend that line") from wrong
    return record(SkillSpec, values, where=f"The skill {path}")
