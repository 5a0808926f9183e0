"""The tree of errors: what happened, and what to do about it.

MitateError                  everything we raise on purpose; the command line prints it in one line, exit code 2
├── DataError                images, labels or splits that cannot be used
├── SettingError             an option, a plan file or a name that cannot be used
├── MissingExtra             a package that this verb needs is not installed
├── StoreError               the disk said no, or an object in the store is damaged
└── JobError                 a job of a study failed; finished jobs are kept
"""

from __future__ import annotations


class MitateError(Exception):
    """An error the user can act on: `message` says what happened with the value, `fix` says what to do. Each is one line, whatever it quotes."""

    exit_code = 2

    def __init__(self, message: str, *, fix: str) -> None:
        self.message, self.fix = (" ".join(text.splitlines()) for text in (message, fix))
        super().__init__(self.message, self.fix)

    def __str__(self) -> str:
        return f"{self.message}  fix: {self.fix}"

    def __reduce__(self) -> tuple[object, ...]:
        """Errors cross process borders whole, keyword and all."""
        return (_rebuild, (type(self), self.message, self.fix))


class DataError(MitateError):
    """Images, labels or splits that cannot be used."""


class SettingError(MitateError):
    """An option, a plan file or a name that cannot be used."""


class MissingExtra(MitateError):
    """A package that this verb needs is not installed."""

    @classmethod
    def of(cls, package: str, extra: str, why: str) -> MissingExtra:
        return cls(f"{why} needs the package {package}.", fix=f'pip install "mitate[{extra}]"')


class StoreError(MitateError):
    """The disk said no, or an object in the store is damaged."""


class JobError(MitateError):
    """A job of a study failed; finished jobs are kept, the same command goes on from there."""


def _rebuild(kind: type[MitateError], message: str, fix: str) -> MitateError:
    return kind(message, fix=fix)
