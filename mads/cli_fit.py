"""The commands below `mads fit`: what is learned for a run or from one."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from mads import options
from mads.errors import UsageError
from mads.units import shorten

fit_app = typer.Typer(no_args_is_help=True, help="Fit an agent's model.")


@fit_app.command("prior")
def fit_prior(
    store: options.StoreOption,
    out: options.NewPriorOption,
    recipe: options.RecipeOption = None,
    changes: options.SetOption = None,
    method: options.MethodOption = "matching",
    proxies: options.ProxiesOption = 64,
    work: options.ProxiesFolderOption = None,
    jobs: options.JobsOption = 1,
    as_json: options.JsonOption = False,
) -> None:
    """Find a mixture that suits the reference tasks, to begin a run with or to keep to.

    Matching takes the mixture whose text is most like the tasks', in seconds. RegMix trains small
    models on random mixtures and regresses their losses; the same call goes on where it stopped.
    """
    from mads.codec import to_json
    from mads.experiments import regmix
    from mads.recipe import load_recipe
    from mads.rewards import matching
    from mads.store.store import Store
    from mads.tables import show_prior, show_regmix
    from mads.terminal import print_json, progress

    if method not in (matching.METHOD, regmix.METHOD):
        known = f"{matching.METHOD}, {regmix.METHOD}"
        raise UsageError(f"--method: {shorten(method)} is unknown; expected one of {known}.")
    found: matching.Matched | regmix.Fitted
    with progress() as report:
        if method == regmix.METHOD:
            small = load_recipe(recipe, [*regmix.SMALL, *(changes or ())])
            folder = work or out.with_suffix(".proxies")
            found = regmix.fit_regmix(Store(store), small, out, folder, proxies, jobs, report)
        else:
            read = partial(report, "read documents")
            found = matching.fit_prior(Store(store), load_recipe(recipe, changes or ()), out, read)
    if as_json:
        print_json(to_json(found))
    elif isinstance(found, regmix.Fitted):
        show_regmix(out, found)
    else:
        show_prior(out, found)


@fit_app.command("influence")
def fit_influence(
    store: options.StoreOption,
    run: options.RewardsRunOption,
    out: options.NewModelOption,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="The latest ones.")] = 3,
    bins: Annotated[int, typer.Option("--bins", min=2, max=100, help="Categories.")] = 5,
    as_json: options.JsonOption = False,
) -> None:
    """Learn rewards from texts; with it as an agent, `mads annotate` adds its memory."""
    from mads.codec import to_json
    from mads.rewards import influence
    from mads.run.reader import Run, open_store
    from mads.tables import show_influence
    from mads.terminal import print_json

    measured = Run(run).latest_rewards(rounds)
    found = influence.fit_influence(open_store(store, run), measured, str(run), out, bins)
    if as_json:
        print_json(to_json(found))
        return
    show_influence(out, found)


@fit_app.command("cluster")
def fit_cluster(
    store: options.StoreOption,
    out: options.NewArraysOption,
    clusters: Annotated[int, typer.Option("--clusters", help="How many, 2 to 1,024.")] = 256,
    dims: Annotated[int, typer.Option("--dims", help="Dimensions of a text, at most.")] = 128,
    docs: options.SampleOption = 20_000,
    seed: options.FitSeedOption = 0,
    as_json: options.JsonOption = False,
) -> None:
    """Group the documents by their words; with it as an agent, `mads annotate` labels them."""
    from mads.codec import to_json
    from mads.fit import cluster
    from mads.store.store import Store
    from mads.tables import show_clusters
    from mads.terminal import print_json, progress

    with progress() as report:
        found = cluster.fit_cluster(Store(store), out, clusters, dims, docs, seed, report)
    if as_json:
        print_json(to_json(found))
        return
    show_clusters(out, found)


@fit_app.command("target")
def fit_target(
    store: options.StoreOption,
    out: options.NewArraysOption,
    recipe: options.RecipeOption = None,
    changes: options.SetOption = None,
    method: Annotated[
        str, typer.Option("--method", help="smoothed, or dsir: as published.")
    ] = "smoothed",
    total: Annotated[
        bool, typer.Option("--total", help="Ratios of whole texts, not of the mean n-gram.")
    ] = False,
    bins: Annotated[
        int, typer.Option("--bins", min=2, max=100, help="Of the weights in the card.")
    ] = 10,
    docs: options.SampleOption = 20_000,
    seed: options.FitSeedOption = 0,
    as_json: options.JsonOption = False,
) -> None:
    """Learn how much a text is like the reference tasks; as an agent, it bins the corpus by it."""
    from mads.codec import to_json
    from mads.fit import target
    from mads.recipe import load_recipe
    from mads.store.store import Store
    from mads.tables import show_targets
    from mads.terminal import print_json, progress

    settings = load_recipe(recipe, changes or ())
    with progress() as report:
        found = target.fit_target(
            Store(store), settings, out, method, not total, docs, bins, seed, report
        )
    if as_json:
        print_json(to_json(found))
        return
    show_targets(out, found)
