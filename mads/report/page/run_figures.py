"""The figures of a run, each with its data as a table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from mads.report.page.bars import Bar, Stack, bar_rows, stacked
from mads.report.page.collect import RunData, StoreData
from mads.report.page.forest import Matrix, Measure, Row, forest, matrix
from mads.report.page.html import Figure, Table
from mads.report.page.lines import Axes, Line, line_chart, ranked, trained
from mads.report.page.scale import chunks, fixed, number, percent, signed, smoothed
from mads.report.page.svg import COLOURS

Z95 = 1.96  # of the normal distribution
MOST_POINTS = 160
BANDS = 5  # categories up to which each has a band; more would hide each other


def mean_loss(run: RunData, *, held_out: bool) -> tuple[float, float] | None:
    """Return the mean loss at the beginning and now of the reference or the evaluation tasks."""
    of = [points for name, points in run.losses.items() if (name in run.held_out) == held_out]
    if not of:
        return None
    first = math.fsum(points[0][1] for points in of) / len(of)
    return first, math.fsum(points[-1][1] for points in of) / len(of)


def training_loss(run: RunData) -> Figure | None:
    """Return the loss of the batches: a running mean, and the range of the single steps."""
    if not run.training:
        return None
    steps = [step for step, _ in run.training]
    losses = [loss for _, loss in run.training]
    span = min(max(len(losses) / 40, 1.0), 100.0)
    mean = smoothed(losses, span)
    parts = chunks(len(losses), MOST_POINTS)
    points = tuple((float(steps[part[-1]]), mean[part[-1]]) for part in parts)
    ranges = chunks(len(losses), 60)
    at = tuple((steps[part[0]] + steps[part[-1]]) / 2 for part in ranges)
    band = tuple((min(losses[i] for i in p), max(losses[i] for i in p)) for p in ranges)
    text = f"Running mean over about {span:.0f} steps, and the range of single steps."
    axes = Axes("step", "nats per token", whole=True)
    svg = line_chart(
        "training-loss", "Training loss", text, [Line("training", points, 0, at, band)], axes
    )
    rows = tuple((f"{x:,.0f}", fixed(y, 4)) for x, y in points)
    return Figure(
        "training-loss", "Training loss", text, svg, Table(("step", "running mean"), rows)
    )


def task_losses(run: RunData, *, held_out: bool) -> Figure | None:
    """Return the losses of the reference or the evaluation tasks at the beginning of each round."""
    of = {n: points for n, points in run.losses.items() if (n in run.held_out) == held_out}
    if not of:
        return None
    name, title = (
        ("evaluation-loss", "Evaluation tasks")
        if held_out
        else ("reference-loss", "Reference tasks")
    )
    text = "Never used as feedback." if held_out else "What rewards are measured by."
    text += _untrained(of)
    lines = [
        Line(task, trained([(float(x), y) for x, y in points]), i if i < COLOURS else None)
        for i, (task, points) in enumerate(of.items())
    ]
    svg = line_chart(name, title, text, lines, Axes("step", "nats per token", whole=True))
    steps = sorted({x for points in of.values() for x, _ in points})
    at = {task: dict(points) for task, points in of.items()}
    rows = tuple(
        (f"{x:,}", *(fixed(at[task][x], 4) if x in at[task] else "–" for task in of)) for x in steps
    )
    return Figure(name, title, text, svg, Table(("step", *of), rows))


def _untrained(of: Mapping[str, Sequence[tuple[int, float]]]) -> str:
    """Return what is not drawn of curves whose first point is left out."""
    first = [points[0][1] for points in of.values() if len(trained(points)) < len(points)]
    if not first:
        return ""
    low, high = fixed(min(first), 2), fixed(max(first), 2)
    return f" Untrained, not drawn: {low}{f' to {high}' if high != low else ''}."


def theta(run: RunData) -> Figure:
    """Return θ of each agent by round."""
    text = "How much each agent counts."
    series = {
        agent: [
            (float(one.record.round), value[agent])
            for one in run.rounds
            if agent in (value := one.record.theta)
        ]
        for agent in _agents(run)
    }
    lines = [
        Line(agent, tuple(points), i % COLOURS) for i, (agent, points) in enumerate(series.items())
    ]
    svg = line_chart(
        "theta", "θ of the agents", text, lines, Axes("round", "θ", zero=True, whole=True)
    )
    rows = tuple(
        (str(one.record.round), *(fixed(one.record.theta.get(a, math.nan)) for a in series))
        for one in run.rounds
    )
    return Figure("theta", "θ of the agents", text, svg, Table(("round", *series), rows))


def _agents(run: RunData) -> list[str]:
    return list(dict.fromkeys(agent for one in run.rounds for agent in one.record.weights))


def weights(run: RunData) -> tuple[Figure, ...]:
    """Return w of each agent's categories by round, with intervals where they are known."""
    return tuple(_weights(run, agent, number) for number, agent in enumerate(_agents(run)))


def _weights(run: RunData, agent: str, index: int) -> Figure:
    rounds = [one for one in run.rounds if agent in one.record.weights]
    last = rounds[-1].record.weights[agent]
    colours = ranked({name: value - 1 for name, value in last.items()}, COLOURS)
    wide = set(sorted(last, key=lambda name: -abs(last[name] - 1))[:BANDS])
    lines, rows = [], []
    for name, colour in colours.items():
        points, at, band = [], [], []
        for one in rounds:
            x, w = float(one.record.round), one.record.weights[agent][name]
            error = one.weight_error.get(agent, {}).get(name)
            points.append((x, w))
            half = "–"
            if error is not None:
                half = f"±{fixed(Z95 * error)}"
                at.append(x)
                band.append((w - Z95 * error, w + Z95 * error))
            rows.append((name, str(one.record.round), fixed(w), half))
        shown = name in wide
        lines.append(
            Line(
                name,
                tuple(points),
                colour,
                tuple(at if shown else ()),
                tuple(band if shown else ()),
            )
        )
    title = f"w of {agent}"
    text = "Weight of each category."
    if any(line.band for line in lines) and len(lines) > BANDS:
        text += f" Intervals of the {BANDS} furthest from 1; all are in the data."
    svg = line_chart(
        f"weights-{index}", title, text, lines, Axes("round", "w", reference=1.0, whole=True)
    )
    table = Table(("category", "round", "w", "95%"), tuple(rows))
    return Figure(f"weights-{index}", title, text, svg, table)


def effects(run: RunData) -> tuple[Figure, ...]:
    """Return what the rule holds of each category's effect after the last round."""
    if run.effects is None:
        return ()
    found = []
    for index, (agent, mean) in enumerate(run.effects.mean.items()):
        deviation = run.effects.deviation[agent]
        title = f"Fitted effects of {agent}"
        text = "On rewards, all agents fitted at once; 95% intervals."
        items = {name: (mean[name], deviation[name]) for name in mean}
        rows = _interval_rows(items, 2)
        svg = forest(
            f"effects-{index}", title, text, rows, Measure("standard deviations of a reward")
        )
        table = _interval_table(items)
        found.append(Figure(f"effects-{index}", title, text, svg, table, main=False))
    return tuple(found)


def _interval_rows(items: Mapping[str, tuple[float, float]], decimals: int) -> list[Row]:
    """Return rows of (mean, standard error), the largest mean first."""
    ordered = sorted(items.items(), key=lambda item: -item[1][0])
    return [
        Row(name, mean, mean - Z95 * error, mean + Z95 * error, signed(mean, decimals))
        for name, (mean, error) in ordered
        if math.isfinite(mean) and math.isfinite(error)
    ]


def _interval_table(items: Mapping[str, tuple[float, float]]) -> Table:
    rows = tuple(
        (name, number(m), number(m - Z95 * e), number(m + Z95 * e))
        for name, (m, e) in items.items()
    )
    return Table(("category", "mean", "low", "high"), rows)


def compositions(run: RunData) -> tuple[Figure, ...]:
    """Return, for each agent, how the tokens of each round are shared."""
    assert run.store is not None
    found = []
    for index, (agent, corpus) in enumerate(run.store.tokens.items()):
        stacks = [Stack("corpus", corpus)]
        stacks += [
            Stack(str(n), read[agent]) for n, read in run.store.read.items() if agent in read
        ]
        title, text = f"Read by {agent}", "Shares of tokens: the corpus, then each round."
        name = f"composition-{index}"
        svg = stacked(name, title, text, stacks, x_title="round")
        table = _share_table(stacks)
        found.append(Figure(name, title, text, svg, table))
    return tuple(found)


def _share_table(stacks: Sequence[Stack]) -> Table:
    rows = tuple(
        (name, *(percent(stack.shares[name]) for stack in stacks)) for name in stacks[0].shares
    )
    return Table(("category", *(stack.name for stack in stacks)), rows)


def last_rewards(
    run: RunData,
) -> tuple[int, Mapping[str, Mapping[str, tuple[float, float]]]] | None:
    """Return the last round whose rewards were used, and (mean, standard error) by category."""
    for round_, feedback in run.measured[::-1]:
        if feedback.rewards:
            return round_, {
                agent: {name: (pair[0], pair[1]) for name, pair in table.items()}
                for agent, table in feedback.rewards.items()
            }
    return None


def rewards(run: RunData) -> tuple[Figure, ...]:
    """Return each agent's mean rewards by category, with intervals."""
    last = last_rewards(run)
    if last is None:
        return ()
    found = []
    for index, (agent, items) in enumerate(last[1].items()):
        title, text = f"Reward by {agent}", f"Round {last[0]}; 95% intervals."
        rows = _interval_rows(items, 3)
        svg = forest(f"rewards-{index}", title, text, rows, Measure("mean reward"))
        found.append(Figure(f"rewards-{index}", title, text, svg, _history(run, agent)))
    return tuple(found)


def _history(run: RunData, agent: str) -> Table:
    """Return the rewards of all rounds."""
    measured = [(n, f.rewards[agent]) for n, f in run.measured if f.rewards and agent in f.rewards]
    names = dict.fromkeys(name for _, table in measured for name in table)
    rows = tuple(
        (
            name,
            *(
                f"{signed(table[name][0], 4)} ±{fixed(Z95 * table[name][1], 4)}"
                if name in table
                else "–"
                for _, table in measured
            ),
        )
        for name in names
    )
    return Table(("category", *(f"round {n}" for n, _ in measured)), rows)


def task_rewards(run: RunData) -> tuple[Figure, ...]:
    """Return each agent's mean rewards by category and reference task."""
    tasks = next((f.task_rewards for _, f in run.measured[::-1] if f.task_rewards), None)
    if not tasks or len(tasks) < 2:
        return ()
    found = []
    for index, agent in enumerate(next(iter(tasks.values()))):
        names = tuple(dict.fromkeys(n for table in tasks.values() for n in table.get(agent, {})))
        values = {
            (name, task): table[agent][name]
            for task, table in tasks.items()
            for name in names
            if name in table.get(agent, {})
        }
        title, text = f"Reward by {agent} and task", "Blue helps the task, orange harms it."
        svg = matrix(f"tasks-{index}", title, text, Matrix(names, tuple(tasks), values))
        rows = tuple((n, *(number(values.get((n, t), math.nan)) for t in tasks)) for n in names)
        table_ = Table(("category", *tasks), rows)
        found.append(Figure(f"tasks-{index}", title, text, svg, table_, main=False))
    return tuple(found)


def agreement(store: StoreData) -> Figure:
    """Return Cramér's V of each two agents."""
    agents = tuple(store.tokens)
    others = {pair: v for pair, v in store.agreement.items() if pair[0] != pair[1]}
    text = "Cramér's V of each two agents' labels, over documents."
    svg = matrix("agreement", "How far agents agree", text, Matrix(agents, agents, others), 2)
    rows = tuple((a, *(fixed(others.get((a, b), math.nan), 3) for b in agents)) for a in agents)
    return Figure("agreement", "How far agents agree", text, svg, Table(("", *agents), rows))


def labels(store: StoreData) -> tuple[Figure, ...]:
    """Return how each agent's labels are distributed over the corpus."""
    found = []
    for index, (agent, docs) in enumerate(store.docs.items()):
        tokens = store.tokens[agent]
        rows = [Bar(name, share, tokens[name]) for name, share in docs.items()]
        title, text = f"Labels of {agent}", "Shares of the corpus."
        svg = bar_rows(f"labels-{index}", title, text, rows, ("of documents", "of tokens"))
        table = Table(
            ("category", "documents", "tokens"),
            tuple((row.name, percent(row.share), percent(row.mark)) for row in rows),
        )
        found.append(Figure(f"labels-{index}", title, text, svg, table, main=False))
    return tuple(found)
