"""The assessment: what a set of synthetic images is worth on six axes and in style, for a folder from any tool or a kept generator.

    assess(Assess(fakes="fakes/", real="leaves/train", held_out="leaves/holdout"), store=Store.find()) -> Assessment

Every number that can have one stands beside its *floor*: what held-out real images score in the place of the synthetic ones, at as many
images. Without a held-out set there is no floor and no privacy. Each axis is one or more jobs of the store, so a second call computes
nothing. An assessment is a measurement, not a verdict on a purchase: that is the pilot's.
"""

from __future__ import annotations

from collections.abc import Callable

from mitate.engine import Engine, Workers, in_order
from mitate.features.given import is_given
from mitate.intake.opening import Source
from mitate.progress import Line
from mitate.score import Assessment
from mitate.store import Store
from mitate.studies.assess_answer import answer
from mitate.studies.assess_planning import Assess, check_asked, plan_assess
from mitate.studies.assess_sets import open_sets


def assess(
    asked: Assess,
    *,
    store: Store,
    fakes: Source | None = None,
    real: Source | None = None,
    held_out: Source | None = None,
    foreign: Source | None = None,
    workers: Workers = None,
    tell: Callable[[str], None] = lambda line: None,
) -> Assessment:
    """The scores of a synthetic set. fakes, real, held_out, foreign: anything `open_images` takes, in place of the names in `asked`.

    Where all that `asked` names are features (`.npy`), theirs. tell: takes a line on how long it will take, before it begins.
    """
    check_asked(asked)
    if fakes is None and any(map(is_given, (asked.fakes, asked.real, asked.held_out))):
        from mitate.studies.assess_given import assess_given

        return assess_given(asked, store=store, workers=workers, tell=tell)
    fakes, real = fakes if fakes is not None else asked.fakes, real if real is not None else asked.real
    held_out, foreign = held_out if held_out is not None else asked.held_out or None, foreign if foreign is not None else asked.foreign or None
    sets = open_sets(fakes, real=real, held_out=held_out, foreign=foreign, per_class=asked.per_class, seed=asked.seed, store=store)
    plan = plan_assess(asked, sets, store=store)
    line = Line(sum(job.estimate for job in in_order(plan.all)), title="assess")
    with Engine(store, workers=workers) as engine:
        found = engine.run(plan.all, done=lambda job, entry, reused: line.advance(job.estimate, job.name))
    line.close()
    return answer(asked, sets, plan, found)
