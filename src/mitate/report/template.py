"""Templates of the pages: everything put into them is escaped, and a name that is missing is an error."""

from __future__ import annotations

from typing import Any


def render(name: str, **values: Any) -> str:
    """The page that the template `name` makes of `values`."""
    import jinja2

    loader = jinja2.PackageLoader("mitate", "report")
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.get_template(name).render(**values)
