"""The page of a comparison: its figures, and what they say."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from mads.report.compare import HELD_OUT, REFERENCES, Arm, Comparison, Curve, Needed
from mads.report.page.arms import ComparisonData
from mads.report.page.bars import Stack, stacked
from mads.report.page.forest import Measure, Row, forest
from mads.report.page.html import Figure, Page, Section, Table
from mads.report.page.lines import Axes, Line, line_chart, trained
from mads.report.page.scale import fixed, number, percent, short, signed
from mads.report.page.svg import COLOURS, cut
from mads.report.statistics import Estimate

LONGEST_CHANGE = 120  # characters that are shown of a changed value; arms.toml has all
GROUPS = {REFERENCES: "Reference tasks", HELD_OUT: "Held-out tasks"}


def comparison_page(data: ComparisonData) -> Page:
    """Return the page of a comparison."""
    found = data.found
    sections = [_losses(found), _differences(found), _needed(found), _composition(found)]
    sections += [_cost(found), _settings(data)]
    count = len(_others(found))
    others = f"{count} arm{'s' if count != 1 else ''} against {found.baseline}"
    notes = []
    if not data.ended:
        notes.append(
            "The comparison is still going on. This page shows the arms and seeds that have ended "
            f"so far: {', '.join(found.arms)}; {_seeds(found)}."
        )
    if len(found.seeds) == 1:
        notes.append("One seed says nothing of the spread, so there are no intervals.")
    return Page(
        title=f"Comparison {data.name}",
        subtitle=f"{others}, {_seeds(found)}, equal tokens",
        facts=(
            ("Tokens a run", short(found.tokens)),
            ("Parameters", short(found.parameters)),
            ("Seeds", str(len(found.seeds))),
            *_best(found),
        ),
        sections=tuple(section for section in sections if section is not None),
        notes=tuple(notes),
    )


def _seeds(found: Comparison) -> str:
    return f"seed{'s' if len(found.seeds) > 1 else ''} {', '.join(map(str, found.seeds))}"


def _groups(found: Comparison) -> list[str]:
    of = {REFERENCES: found.references, HELD_OUT: found.held_out}
    return [group for group, tasks in of.items() if tasks]


def _best(found: Comparison) -> list[tuple[str, str]]:
    """Return the arm with the lowest loss in each group, with its difference."""
    facts = []
    for group in _groups(found):
        name = min(found.arms, key=lambda arm: found.arms[arm].means[group].mean)
        other = found.arms[name].mean_differences.get(group)
        change = f" {_estimate_row(name, other).text}" if other else ""
        facts.append((f"Lowest loss, {group}", f"{name}{change}"))
    return facts


def _losses(found: Comparison) -> Section:
    kept = [_curves(found, group, None) for group in _groups(found)]
    tasks = (*found.references, *found.held_out)
    if len(tasks) > 1:
        kept += [_curves(found, task, i) for i, task in enumerate(tasks)]
    text = "Nats per token of the answers, lower is better. Lines are means over seeds"
    text += ", bands reach from the lowest seed to the highest." if len(found.seeds) > 1 else "."
    return Section("Loss", text, tuple(kept))


def _curves(found: Comparison, of: str, task: int | None) -> Figure:
    """Return the mean curve of each arm, of a group of tasks or of one."""
    lines, rows = [], []
    skipped, first = 0, math.nan
    for index, (name, arm) in enumerate(found.arms.items()):
        tokens, losses = _by_seed([run.curve for run in arm.runs], of, task is None)
        mean = [math.fsum(at) / len(at) for at in losses]
        band = tuple((min(at), max(at)) for at in losses) if len(found.seeds) > 1 else ()
        points = trained(list(zip(tokens, mean, strict=True)))
        skipped, first = len(tokens) - len(points), mean[0]
        at = tuple(tokens[skipped:]) if band else ()
        lines.append(Line(name, points, index % COLOURS, at, band[skipped:]))
        rows += [
            (name, f"{x:,.0f}", fixed(m, 4), fixed(min(of_x), 4), fixed(max(of_x), 4))
            for x, m, of_x in zip(tokens, mean, losses, strict=True)
        ]
    if task is None:
        slug, title, text = f"loss-{of}", GROUPS[of], "Mean over the tasks."
    else:
        slug, title = f"loss-task-{task}", of
        text = "A reference task." if of in found.references else "A held-out task."
    if skipped:
        text += f" Untrained, not drawn: {fixed(first, 2)}."
    svg = line_chart(slug, title, text, lines, Axes("tokens read", "nats per token"))
    table = Table(("arm", "tokens", "mean", "lowest seed", "highest seed"), tuple(rows))
    return Figure(slug, title, text, svg, table, main=task is None)


def _by_seed(
    curves: Sequence[Curve], of: str, is_group: bool
) -> tuple[list[float], list[tuple[float, ...]]]:
    """Return the points that all seeds have, and the losses of all of them there."""
    values = [
        dict(zip(c.tokens, (c.means if is_group else c.tasks)[of], strict=True)) for c in curves
    ]
    shared = sorted(set(values[0]).intersection(*values[1:]))
    return [float(x) for x in shared], [tuple(v[x] for v in values) for x in shared]


def _others(found: Comparison) -> dict[str, Arm]:
    return {name: arm for name, arm in found.arms.items() if name != found.baseline}


def _differences(found: Comparison) -> Section | None:
    others = _others(found)
    if not others:
        return None
    kept = [_difference(found, group) for group in _groups(found)]
    estimates = [
        e
        for arm in others.values()
        for e in (*arm.task_differences.values(), *arm.mean_differences.values())
    ]
    around = tuple(v for e in estimates for v in (e.mean, e.low, e.high) if v is not None)
    kept += [_of_arm(found, name, index, around) for index, name in enumerate(others)]
    text = (
        f"Loss at the end minus that of {found.baseline} with the same seed: left of the line is "
        "better. Bars are 95% t intervals over seeds; a hollow dot's interval holds 0."
    )
    return Section(f"Differences from {found.baseline}", text, tuple(kept))


def _estimate_row(name: str, found: Estimate, *, strong: bool = False) -> Row:
    half = "" if found.high is None else f" ±{fixed(found.high - found.mean)}"
    return Row(name, found.mean, found.low, found.high, signed(found.mean) + half, strong)


def _estimate_table(first: str, found: Mapping[str, Estimate]) -> Table:
    rows = tuple(
        (
            name,
            signed(e.mean, 4),
            *(signed(v, 4) if v is not None else "–" for v in (e.low, e.high)),
        )
        for name, e in found.items()
    )
    return Table((first, "difference", "low", "high"), rows)


def _difference(found: Comparison, group: str) -> Figure:
    of = {name: arm.mean_differences[group] for name, arm in _others(found).items()}
    title, text = f"{GROUPS[group]}, all arms", "Difference of the mean loss at the end."
    rows = [_estimate_row(name, estimate) for name, estimate in of.items()]
    svg = forest(f"difference-{group}", title, text, rows, Measure("nats per token"))
    return Figure(f"difference-{group}", title, text, svg, _estimate_table("arm", of))


def _of_arm(found: Comparison, name: str, index: int, around: tuple[float, ...]) -> Figure:
    arm = found.arms[name]
    strong = {f"all {group}": arm.mean_differences[group] for group in _groups(found)}
    of = {**strong, **arm.task_differences}
    title, text = f"{name}, by task", "All arms have the same axis."
    rows = [_estimate_row(task, e, strong=task in strong) for task, e in of.items()]
    measure = Measure("nats per token", around=around)
    svg = forest(f"difference-arm-{index}", title, text, rows, measure)
    return Figure(f"difference-arm-{index}", title, text, svg, _estimate_table("task", of))


def _needed(found: Comparison) -> Section | None:
    others = _others(found)
    kept = []
    for group in _groups(found) if others else ():
        of = {name: arm.needed[group] for name, arm in others.items()}
        title, text = GROUPS[group], "Above 1 means fewer tokens than the baseline."
        rows = [_needed_row(name, needed) for name, needed in of.items()]
        measure = Measure("baseline's tokens by the arm's", 1.0, log=True)
        svg = forest(f"needed-{group}", title, text, rows, measure)
        table = Table(
            ("arm", "tokens by seed", "ratio"),
            tuple((row.name, _tokens(of[row.name], found.tokens), row.text) for row in rows),
        )
        kept.append(Figure(f"needed-{group}", title, text, svg, table))
    if not kept:
        return None
    text = (
        f"How many times fewer tokens an arm needs for the final loss of {found.baseline}, as "
        "geometric mean over seeds with its 95% interval. A triangle is an upper bound: a seed has "
        "not come that far with all its tokens."
    )
    return Section("Tokens needed", text, tuple(kept))


def _needed_row(name: str, found: Needed) -> Row:
    if found.ratio is not None:
        low, high = found.ratio.low, found.ratio.high
        ends = f" [{number(low)}, {number(high)}]" if low is not None and high is not None else ""
        return Row(name, found.ratio.mean, low, high, f"{number(found.ratio.mean)}×{ends}")
    if found.at_most is not None:
        return Row(name, found.at_most, text=f"< {number(found.at_most)}×", bounded=True)
    return Row(name, None, text="–")


def _tokens(found: Needed, most: int) -> str:
    return ", ".join(f"{at:,.0f}" if at is not None else f"over {most:,}" for at in found.tokens)


def _composition(found: Comparison) -> Section | None:
    kept = []
    for index, (agent, corpus) in enumerate(found.corpus.items()):
        stacks = [Stack("corpus", corpus)]
        stacks += [Stack(name, arm.read[agent]) for name, arm in found.arms.items()]
        title, text = f"Read by {agent}", "Shares of tokens: the corpus, then each arm."
        name = f"composition-{index}"
        svg = stacked(name, title, text, stacks)
        rows = tuple((n, *(percent(stack.shares[n]) for stack in stacks)) for n in corpus)
        table = Table(("category", *(stack.name for stack in stacks)), rows)
        kept.append(Figure(name, title, text, svg, table))
    if not kept:
        return None
    return Section("What was read", "Means over all rounds and seeds.", tuple(kept))


def _cost(found: Comparison) -> Section:
    rows = tuple(
        (
            name,
            number(arm.cost.training),
            number(arm.cost.selection),
            percent(arm.cost.selection / arm.cost.training),
        )
        for name, arm in found.arms.items()
    )
    columns = ("arm", "training", "measuring rewards", "of training")
    text = (
        "Floating-point operations of a run: 6 for each parameter and token trained. Evaluation, "
        "and labelling the corpus once for all runs, are not counted."
    )
    return Section("Cost", text, tables=(("", Table(columns, rows)),))


def _changed(changes: Sequence[str]) -> str:
    """Return what an arm changes; long values, such as a prior's, are cut."""
    return "; ".join(cut(change, LONGEST_CHANGE) for change in changes) or "nothing"


def _settings(data: ComparisonData) -> Section:
    found = data.found
    rows = (
        ("baseline", found.baseline),
        ("seeds", ", ".join(map(str, found.seeds))),
        ("tokens that each run reads", f"{found.tokens:,}"),
        ("parameters", f"{found.parameters:,}"),
        ("reference tasks", ", ".join(found.references)),
        ("held-out tasks", ", ".join(found.held_out) or "none"),
        ("store's fingerprint", f"{found.store}, generation {found.generation}"),
    )
    changes = tuple(
        (arm, "the baseline" if arm == found.baseline else _changed(of))
        for arm, of in data.changes.items()
    )
    runs = tuple(
        (f"{arm}, seed {seed}", "ended" if ended else f"{done:,} of {data.steps:,} steps")
        for (arm, seed), (done, ended) in sorted(data.progress.items())
    )
    tables = (
        ("", Table(("what", "value"), rows, plain=True)),
        (f"What an arm changes of {found.baseline}", Table(("arm", "recipe"), changes, plain=True)),
        ("Runs", Table(("run", "state"), runs, plain=True)),
    )
    return Section("Settings", tables=tables)
