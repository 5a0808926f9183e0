"""Templates of the pages: everything put into them is escaped, and a name that is missing is an error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mitate.errors import DataError, MitateError


def render(name: str, **values: Any) -> str:
    """The page that the template `name` makes of `values`."""
    import jinja2

    loader = jinja2.PackageLoader("mitate", "report")
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.get_template(name).render(**values)


@contextmanager
def read_from(folder: Path) -> Iterator[None]:
    """Inside, whatever stumbles over the files of a run folder is one line: files that somebody changed can hold anything where a number should be."""
    try:
        yield
    except (MitateError, OSError):
        raise
    except Exception as wrong:
        what = f"{folder} does not hold what a run holds ({type(wrong).__name__}: {str(wrong)[:200]})."
        raise DataError(what, fix=f"mitate verify --run {folder} names the files that were changed; bring them back, or run it again elsewhere") from wrong
