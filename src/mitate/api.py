"""The studies from Python: pilot, volume, compare, assess, scan, audit, run, report. A word of the command line is one call here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mitate.engine import Workers, how_many
from mitate.errors import SettingError
from mitate.features.given import is_given
from mitate.images import ImageSet
from mitate.recipe import DEFAULT_ARMS
from mitate.score import Assessment
from mitate.store import Store
from mitate.studies.assess import assess as assess_sets
from mitate.studies.assess_planning import AXES, Assess
from mitate.studies.compare import run_compare
from mitate.studies.compare_cells import AXES as SIX_AXES
from mitate.studies.compare_planning import PER_CLASS, SEEDS, SYNTHETIC, Compare, ComparePlan, plan_compare
from mitate.studies.pilot import run_pilot
from mitate.studies.planning import STEPS, Pilot, Plan, plan_pilot
from mitate.studies.spending import Prices
from mitate.studies.volume import run_volume
from mitate.studies.volume_planning import VOLUMES, Volume, VolumePlan, plan_volume
from mitate.study import Run

if TYPE_CHECKING:
    from mitate.fitted import Fitted
    from mitate.intake.opening import Source
    from mitate.intake.scanning import Scan
    from mitate.progress import Progress
    from mitate.studies.audit import Audit


def pilot(
    data: Source | None = None,
    *,
    train: ImageSet | None = None,
    test: ImageSet | None = None,
    per_class: int = 0,
    generators: Sequence[str] = ("vae", "diffusion"),
    arms: Sequence[str] = DEFAULT_ARMS,
    measure: str = "accuracy",
    worthwhile: float = 0.01,
    backbone: str = "small",
    budget: str = "10m",
    size: int = 0,
    synthetic_per_class: int = 0,
    replicates: int = 0,
    steps: int = STEPS,
    curve: str = "auto",
    seed: int = 0,
    label_price: float | None = None,
    machine_price: float | None = None,
    currency: str = "",
    workers: Workers = None,
    store: Store | None = None,
) -> Plan:
    """A planned pilot: images read and checked, speed probed, every integer fixed. Nothing has run; see `plan.cost()`.

    data: a folder, file or name that `open_images` takes; or give `train` and `test` image sets. label_price: of one more real labelled
    image; machine_price: of one worker for an hour; neither is part of the question. Everything else is as on the command line
    (`mitate pilot --help`). Raises DataError or SettingError for what cannot be used.
    """
    source = _source(data, train, test)
    asked = Pilot(
        data=_name(data, train), per_class=per_class, generators=tuple(generators), arms=tuple(arms), measure=measure, worthwhile=worthwhile,
        backbone=backbone, budget=budget, size=size, synthetic_per_class=synthetic_per_class, replicates=replicates, steps=steps, curve=curve, seed=seed,
    )  # fmt: skip
    prices = Prices(label_price, machine_price, currency)
    plan = plan_pilot(asked, source, store=store or Store.find(), workers=how_many(workers))
    return replace(plan, prices=prices)


def volume(
    data: Source | None = None,
    *,
    train: ImageSet | None = None,
    test: ImageSet | None = None,
    per_class: int = 0,
    generators: Sequence[str] = ("diffusion",),
    volumes: Sequence[int] = VOLUMES,
    arm: str = "balanced+augment",
    measure: str = "accuracy",
    worthwhile: float = 0.01,
    backbone: str = "small",
    budget: str = "10m",
    size: int = 0,
    replicates: int = 0,
    steps: int = STEPS,
    seed: int = 0,
    machine_price: float | None = None,
    currency: str = "",
    workers: Workers = None,
    store: Store | None = None,
) -> VolumePlan:
    """A planned volume study: utility against number of synthetic images of each class. Nothing has run; see `plan.cost()`.

    data: a folder, file or name that `open_images` takes; or give `train` and `test` image sets. volumes: images of each class,
    increasing; 0 is the baseline and always measured. Everything else is as on the command line (`mitate volume --help`). Raises
    DataError or SettingError for what cannot be used.
    """
    source = _source(data, train, test)
    asked = Volume(
        data=_name(data, train), per_class=per_class, generators=tuple(generators), volumes=tuple(volumes), arm=arm, measure=measure,
        worthwhile=worthwhile, backbone=backbone, budget=budget, size=size, replicates=replicates, steps=steps, seed=seed,
    )  # fmt: skip
    prices = Prices(machine_price=machine_price, currency=currency)
    return plan_volume(asked, source, store=store or Store.find(), workers=how_many(workers), prices=prices)


def compare(
    data: Source | None = None,
    *,
    train: ImageSet | None = None,
    test: ImageSet | None = None,
    generators: Sequence[str] = ("vae", "gan", "diffusion"),
    per_class: Sequence[int] = PER_CLASS,
    seeds: int = SEEDS,
    fits: int = 1,
    trainings: int = 3,
    axes: Sequence[str] = SIX_AXES,
    weights: Mapping[str, float] | None = None,
    epsilon: float = 0.0,
    past_the_gate: bool = False,
    options: Sequence[str] = (),
    features: str = "mitate-small",
    synthetic_per_class: int = SYNTHETIC,
    steps: int = 300,
    size: int = 0,
    seed: int = 0,
    workers: Workers = None,
    store: Store | None = None,
) -> ComparePlan:
    """A planned comparison of families of generators at several numbers of real images. Nothing has run; see `plan.cost()`.

    data: a folder, file or name that `open_images` takes; or give `train` and `test` image sets (the test stays closed). weights: of one's own use
    case, by axis. options: settings of families, like "vae.steps=400". Everything else is as on the command line (`mitate compare --help`). Raises
    DataError or SettingError for what cannot be used.
    """
    source = _source(data, train, test)
    asked = Compare(
        data=_name(data, train), generators=tuple(generators), per_class=tuple(per_class), seeds=seeds, fits=fits, trainings=trainings, axes=tuple(axes),
        weights=dict(weights or {}), epsilon=epsilon, past_the_gate=past_the_gate, options=tuple(options), features=features,
        synthetic_per_class=synthetic_per_class, steps=steps, size=size, seed=seed,
    )  # fmt: skip
    return plan_compare(asked, source, store=store or Store.find(), workers=how_many(workers))


def assess(
    fakes: Source,
    *,
    real: Source,
    held_out: Source | None = None,
    foreign: Source | None = None,
    features: str = "mitate-small",
    axes: Sequence[str] = AXES,
    size: int = 0,
    per_class: int = 0,
    replicates: int = 3,
    steps: int = 300,
    shadows: int = 0,
    most: int = 0,
    seed: int = 0,
    workers: Workers = None,
    store: Store | None = None,
) -> Assessment:
    """What a set of synthetic images is worth on six axes and in style; computed once, then read from the store.

    fakes: a folder, file, image set, or the name of a kept generator; real: images the generator may have seen; held_out: real images that
    it never saw: without them there is no floor, no privacy, no utility. shadows: shadow models of the attack on a model that was trained on
    the synthetic images (0: no such attack; else an even number from 4). foreign: images of other things, which a model must not accept
    (robustness). `result["privacy.copies"]` is one Score; `print(result)` lists them. Of `.npy` files, with a row of features an image, fidelity and
    diversity are told; most: images of a set whose neighbours are looked for (0: 200,000; of larger sets a part is drawn).
    Raises DataError or SettingError for what cannot be used.
    """
    asked = Assess(
        fakes=_told(fakes), real=_told(real), held_out=_told(held_out) if held_out is not None else "", features=features, axes=tuple(axes), size=size,
        per_class=per_class, replicates=replicates, steps=steps, shadows=shadows, most=most, seed=seed,
        foreign=_told(foreign) if foreign is not None else "",
    )  # fmt: skip
    held = store or Store.find()
    if any(map(is_given, (fakes, real, held_out))):
        return assess_sets(asked, store=held, workers=workers)
    return assess_sets(asked, store=held, fakes=fakes, real=real, held_out=held_out, foreign=foreign, workers=workers)


def scan(
    images: Source,
    *,
    known: Sequence[Source] = (),
    generators: Sequence[str | Fitted] = (),
    per_class: int = 0,
    stored: bool = True,
    store: Store | None = None,
    progress: Progress | None = None,
) -> Scan:
    """Synthetic images that came back as real: a verdict on every image of a folder, file or set. Nothing is moved or deleted.

    Marks in the files always count. Copies, also cropped, mirrored, re-encoded or resized ones, are sought of `known` (folders, files or
    sets of synthetic images), of kept generators' images (stored, or drawn now: `per_class` of each class, 200 where 0), and, with
    `stored`, of everything that mitate drew and the store still holds. `print(result)` sums it up; `result.found` are names.
    """
    from mitate.drawn import DRAWN, known_of, known_sets
    from mitate.intake.scanning import Known, listing_of, scan_listing

    store = store or Store.find()
    if per_class < 0:
        raise SettingError(f"per_class is {per_class}.", fix="give 1 or more, or 0 for 200")
    sets = [Known(_told(one), listing_of(one)) for one in known]
    for one in generators:
        sets += known_of(one, store=store, per_class=per_class or DRAWN, progress=progress)
    if stored:
        there = {k.listing.rows[0].stamp for k in sets}
        sets += [k for k in known_sets(store) if k.listing.rows[0].stamp not in there]
    return scan_listing(listing_of(images), sets, store=store, progress=progress)


def audit(
    kind: Any, images: Source, *, canaries: int = 200, seed: int = 0, size: int = 0, store: Store | None = None, progress: Progress | None = None
) -> Audit:
    """A lower bound on the epsilon of differential privacy that a fit of `kind` (`mi.VAE()`, ...) on these images can have had.

    Pictures that look like nothing else are planted, each by its own coin, and sought in the fitted generator, which is then thrown away.
    images: a set, or what `open_images` takes (its train split, where there is one). canaries: how many are made; more can show more, and change
    more of what is learnt. size: pixels (0: the images' own, at most 64).
    `print(result)` sums it up. Raises DataError or SettingError for what cannot be used.
    """
    from mitate.intake.opening import list_source, open_images
    from mitate.studies.audit import audit as audit_kind

    if not isinstance(images, ImageSet):
        images = open_images(images, split="train" if any(row.split == "train" for row in list_source(images).rows) else None)
    return audit_kind(kind, images, canaries=canaries, seed=seed, size=size, store=store, progress=progress)


def run(plan: Plan | VolumePlan | ComparePlan, folder: str | Path, *, workers: Workers = None) -> Run:
    """Run a planned study into `folder`. The same call again resumes; a finished run is returned at once."""
    if isinstance(plan, VolumePlan):
        return run_volume(plan, Path(folder), workers=workers)
    if isinstance(plan, ComparePlan):
        return run_compare(plan, Path(folder), workers=workers)
    return run_pilot(plan, Path(folder), workers=workers)


def report(
    run: Run | Assessment | str | Path,
    *,
    lang: str = "en",
    out: str | Path | None = None,
    label_price: float | None = None,
    machine_price: float | None = None,
    currency: str = "",
    beside: Sequence[str | Path] = (),
) -> Path:
    """Write the report of a run as one HTML file (`report.html`, or `report.ja.html` with lang="ja") and return its path.

    With prices the money of the run is told anew first; nothing is computed. An assessment has no folder, so its report needs `out`.
    beside: folders of other loops that a folder of loops is compared with.
    """
    from mitate.report.html import write_prices, write_report

    if isinstance(run, Assessment):
        from mitate.report.assessment import write_assessment

        if out is None:
            raise SettingError("There is no place for the report of an assessment.", fix='give out="assessment.html"')
        return write_assessment(run, Path(out), lang=lang)
    run = run if isinstance(run, Run) else Run(Path(run))
    if (prices := Prices(label_price, machine_price, currency)).given:
        write_prices(run, prices)
    return write_report(run, lang=lang, out=Path(out) if out is not None else None, beside=[Path(one) for one in beside])


def _source(data: Source | None, train: ImageSet | None, test: ImageSet | None) -> Source:
    if data is not None and (train is not None or test is not None):
        raise SettingError("The images were given twice.", fix="give data, or train (and test)")
    if data is not None:
        return data
    if train is None:
        raise SettingError("No images were given.", fix="give data, or train (and test)")
    if test is None:
        return train
    from mitate.intake.opening import joined

    return joined(train, test)


def _told(source: Source) -> str:
    """A source as the record names it."""
    return source.name if isinstance(source, ImageSet) else str(source) if isinstance(source, (str, Path)) else "arrays"


def _name(data: Source | None, train: ImageSet | None) -> str:
    if isinstance(data, (str, Path)):
        return str(data)
    return train.name if train is not None else "arrays"
