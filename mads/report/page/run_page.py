"""The page of a run: which sections there are, and what they say."""

from __future__ import annotations

from mads.report.page import run_figures as figures
from mads.report.page.collect import RunData
from mads.report.page.html import Excerpt, Page, Section, Table
from mads.report.page.scale import fixed, number, percent, short, signed
from mads.run.ledger import Spent

NEEDS_STORE = (
    "What each round has read, the agents' labels and how far they agree, and the documents with "
    "the largest and smallest rewards are left out: they need the store. Add --store STORE."
)


def run_page(run: RunData) -> Page:
    """Return the page of a run; sections for which there is nothing yet are left out."""
    notes = []
    if not run.ended:
        notes.append(
            f"The run is still going on, or was stopped: {run.steps_done:,} of {run.steps:,} steps "
            "are done. Make the page again to see more."
        )
    if not run.rounds:
        notes.append("No round has begun yet, so there is nothing to show but the recipe.")
    if run.store is None:
        notes.append(NEEDS_STORE)
    sections = (
        _losses(run),
        _weights(run),
        _composition(run),
        _rewards(run),
        _documents(run),
        _agents(run),
        _health(run),
        _cost(run),
        _provenance(run),
    )
    return Page(
        title=f"Run {run.name}",
        subtitle=f"strategy {run.strategy}{_rule(run)}, seed {_seed(run)}, mads "
        f"{run.provenance.mads}",
        facts=_facts(run),
        sections=tuple(section for section in sections if section is not None),
        notes=tuple(notes),
    )


def _rule(run: RunData) -> str:
    return f" with rule {run.rule}" if run.strategy == "console" else ""


def _seed(run: RunData) -> str:
    line = next(
        (line for line in run.recipe.splitlines() if line.startswith("seed = ")), "seed = –"
    )
    return line.removeprefix("seed = ")


def _facts(run: RunData) -> tuple[tuple[str, str], ...]:
    tokens = run.cost.training_tokens
    facts = [
        ("Steps", f"{run.steps_done:,} of {run.steps:,}" if not run.ended else f"{run.steps:,}"),
        ("Tokens read", short(tokens)),
        ("Rounds", str(len(run.rounds))),
    ]
    for name, mean in (
        ("Reference loss", figures.mean_loss(run, held_out=False)),
        ("Held-out loss", figures.mean_loss(run, held_out=True)),
    ):
        if mean is not None:
            facts.append((name, f"{fixed(mean[0], 2)} → {fixed(mean[1], 2)}"))
    if run.measured and run.cost.training_s:
        facts.append(
            ("Rewards, of training time", percent(run.cost.reward_s / run.cost.training_s))
        )
    return tuple(facts)


def _losses(run: RunData) -> Section | None:
    found = (
        figures.training_loss(run),
        figures.task_losses(run, held_out=False),
        figures.task_losses(run, held_out=True),
    )
    kept = tuple(figure for figure in found if figure is not None)
    if not kept:
        return None
    text = (
        "Nats per token, lower is better. Rewards are measured by the reference tasks; evaluation "
        "tasks are never used as feedback."
    )
    return Section("Loss", text, kept)


def _weights(run: RunData) -> Section | None:
    if not any(one.record.weights for one in run.rounds):
        return None
    kept = (figures.theta(run), *figures.weights(run), *figures.effects(run))
    text = (
        "θ says how much an agent counts, w how much a category helps: above 1 more than its "
        "agent's average, below 1 less."
    )
    if any(one.weight_error for one in run.rounds):
        text += " Bands are 95% intervals of w from the rule's covariance, before guard rails act."
    return Section("What the console has learned", text, kept)


def _composition(run: RunData) -> Section | None:
    if run.store is None or not run.store.read:
        return None
    text = "How each round's tokens are shared by the categories of each agent; first the corpus."
    return Section("What was read", text, figures.compositions(run))


def _rewards(run: RunData) -> Section | None:
    last = figures.last_rewards(run)
    if last is None:
        return None
    text = (
        f"Mean reward of the documents of each category in round {last[0]}: positive means that "
        "training on them lowers the reference loss. Intervals are ± 1.96 standard errors; a "
        "hollow dot's interval holds 0."
    )
    return Section("Rewards", text, (*figures.rewards(run), *figures.task_rewards(run)))


def _documents(run: RunData) -> Section | None:
    if run.store is None or not run.store.documents:
        return None
    excerpts = tuple(
        Excerpt(
            "  ".join(
                [signed(one.reward, 4), f"{one.file}:{one.row}", *([one.id] if one.id else [])]
            ),
            (
                *(f"{agent}: {name}" for agent, name in one.labels.items()),
                f"{one.num_tokens:,} tokens",
            ),
            one.excerpt,
        )
        for one in run.store.documents
    )
    text = (
        f"Measured in round {run.store.documents_round}, the largest reward first, the smallest "
        "last. A single document's reward is noisy."
    )
    return Section("Most and least rewarded documents", text, excerpts=excerpts)


def _agents(run: RunData) -> Section | None:
    if run.store is None:
        return None
    text = (
        "Labels of the corpus's documents. Agents that agree much say the same twice: Cramér's V "
        "is 0 for independent labels and 1 where one follows from the other."
    )
    return Section("The agents", text, (figures.agreement(run.store), *figures.labels(run.store)))


def _health(run: RunData) -> Section | None:
    if not run.rounds:
        return None
    rows, quiet = [], True
    for one in run.rounds:
        record, feedback = one.record, one.record.feedback
        acted = [f"{name} × {n}" for name, n in (feedback.guards if feedback else {}).items() if n]
        raised = [f"{name} × {n}" for name, n in (record.alarms or {}).items() if n]
        refused = feedback.refused if feedback else ""
        quiet = quiet and not (acted or raised or refused)
        error = feedback.oracle_error if feedback and run.oracle_docs else None
        rows.append(
            (
                str(record.round),
                f"{record.step:,}",
                f"{record.num_docs:,}",
                f"{feedback.probes:,}" if feedback else "–",
                number(error) if error is not None else "–",
                ", ".join(acted) or "–",
                ", ".join(raised) or "–",
                refused or "–",
            )
        )
    text = "No guard rail has acted, no alarm was raised, and no rewards were refused."
    if not quiet:
        text = "Guard rails that acted, alarms that were raised, and rewards that were refused."
    columns = (
        "round",
        "step",
        "documents",
        "probes",
        "oracle error",
        "guards",
        "alarms",
        "refused",
    )
    return Section("Guards and alarms", text, tables=(("", Table(columns, tuple(rows))),))


def _cost(run: RunData) -> Section | None:
    cost = run.cost
    if not cost.training_tokens:
        return None

    def row(name: str, seconds: float, tokens: int | None, spent: Spent) -> tuple[str, ...]:
        flops = f"{spent.flops:.3g}" if spent.flops is not None else "–"
        share = percent(seconds / cost.training_s) if cost.training_s else "–"
        part = percent(tokens / cost.training_tokens) if tokens is not None else "–"
        return (
            name,
            f"{seconds:,.1f}",
            share,
            f"{tokens:,}" if tokens is not None else "–",
            part,
            flops,
        )

    rows = (
        row("training steps", cost.training_s, cost.training_tokens, cost.ledger.training),
        row("measuring rewards", cost.reward_s, cost.reward_tokens, cost.ledger.rewards),
        row("evaluating tasks", cost.ledger.evaluation.seconds, None, cost.ledger.evaluation),
        row("selecting", cost.select_s, None, cost.ledger.select),
    )
    text = (
        "Time and tokens, as shares of those of the training steps. Probes are read with forward "
        "passes only under the default estimator, so a token of theirs costs less. FLOPs are the "
        "model's: 6·N + 12·L·d·T for each token trained. Labelling the corpus, once for all runs, "
        "is not counted."
    )
    columns = ("", "seconds", "of training", "tokens", "of training", "FLOPs")
    return Section("Cost", text, tables=(("", Table(columns, rows)),))


def _provenance(run: RunData) -> Section:
    found = run.provenance
    rows = (
        ("mads", found.mads),
        ("Python", found.python),
        *found.packages.items(),
        ("system", f"{found.machine.system}, {found.machine.cores or '?'} cores"),
        ("store", f"{found.store_path}, generation {found.generation}"),
        ("store's fingerprint", found.store),
        ("recipe's sha256", found.recipe),
        ("command", " ".join(found.command)),
    )
    table = Table(("what", "value"), rows, plain=True)
    recipe = (("The whole recipe", run.recipe),)
    return Section("Where it comes from", tables=(("", table),), folded=recipe)
