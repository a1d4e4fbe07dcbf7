"""Tables and words for what the commands return."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mads.agents.target import BINS
from mads.annotate.annotate import AnnotateResult
from mads.annotate.sharded import PartDone, Planned
from mads.codec import to_json
from mads.demo.harvest import HarvestSummary
from mads.export.command import PartWritten, Selected
from mads.report.compare import HELD_OUT, REFERENCES, Comparison, Needed
from mads.report.diff import ConsoleDiff, SelectionDiff
from mads.report.explain import Explanation, RoundOfDocument
from mads.report.statistics import Estimate
from mads.report.status import Status
from mads.report.store_status import StoreStatus
from mads.selection.composition import Shares
from mads.terminal import say, table
from mads.types import Cells

if TYPE_CHECKING:  # they read models, which takes time to import
    from mads.evaluation.evaluate import Evaluation, Mean, Scores
    from mads.experiments.regmix import Fitted
    from mads.fit.cluster import Clusters
    from mads.fit.target import Targets
    from mads.rewards.influence import Influence
    from mads.rewards.matching import Matched

TOP_STEPS = 2
TRUSTED = 0.5  # rank correlation of a mixing law below which the user is warned
TOP_CLUSTERS = 40


def show_cells(cells: Cells) -> None:
    """Show how each agent's categories share the corpus."""
    for agent, names in cells.categories.items():
        docs, tokens = (
            cells.by_category(agent, counts) for counts in (cells.num_docs_C, cells.num_tokens_C)
        )
        rows = [
            [name, f"{d:,.0f}", f"{d / docs.sum():.1%}", f"{t / tokens.sum():.1%}"]
            for name, d, t in zip(names, docs, tokens, strict=True)
        ]
        table(agent, ["category", "documents", "of documents", "of tokens"], rows)


def show_annotated(out: Path, found: AnnotateResult, cells: Cells, seconds: float) -> None:
    """Show what ``mads annotate`` wrote."""
    show_cells(cells)
    for name, edges in found.edges.items():
        say(f"{name}: bins by quantiles begin at {', '.join(f'{edge:.6g}' for edge in edges)}.")
    statuses = ", ".join(f"{count:,} {name}" for name, count in found.statuses.items() if count)
    what = f"took {seconds:.1f} s" if found.new_index else "was complete already"
    if found.layout or found.id_field:
        layout = f"Layout: {found.layout}. " if found.layout else ""
        say(layout + _told_of_ids(found))
    for problem in found.skipped:
        say(f"Skipped: {problem}.")
    if found.left_out:
        more = f" and {len(found.left_out) - 3} more" if len(found.left_out) > 3 else ""
        say(
            f"Left out, as notes beside the documents: {', '.join(found.left_out[:3])}{more}. "
            "Name them to take them in."
        )
    say(
        f"{out}: {found.rows:,} documents ({statuses}), {found.text_bytes / 1e6:,.1f} MB of "
        f"text, {found.tokens:,} tokens, {found.cells} cells; {what}."
    )


def show_planned(out: Path, found: Planned, seconds: float) -> None:
    """Show what ``mads annotate --plan`` decided, and how to go on."""
    for problem in found.skipped:
        say(f"Skipped: {problem}.")
    say(
        f"{out}: planned {found.files:,} files, {found.rows:,} rows, "
        f"{found.text_bytes / 1e6:,.1f} MB of text, in {found.shards:,} shards, of which "
        f"{found.new_shards:,} are to do; took {seconds:.1f} s. Go on with the same command and "
        "--shard 1/N … N/N instead of --plan, on any machines; the last one out builds the index, "
        "or --finish does."
    )


def show_part_done(out: Path, found: PartDone, seconds: float) -> None:
    """Show what ``mads annotate --shard`` did, and what is left."""
    if found.finished is not None:
        left = f"the store is complete: {found.finished.tokens:,} tokens"
        left += f", {found.finished.cells} cells"
    elif found.complete:
        left = "all parts are done, and another process builds the index"
    else:
        left = "other parts are still to do"
    say(
        f"{out}: part {found.part}/{found.parts} of {found.shards:,} shards, of which "
        f"{found.new_shards:,} were to do; took {seconds:.1f} s; {left}."
    )


def _told_of_ids(found: AnnotateResult) -> str:
    if found.ids is None:
        return "No ids are kept; corpus.id_field names their field."
    wrong = [
        f"{count:,} rows {what}"
        for count, what in (
            (found.ids.missing, "have none"),
            (found.ids.repeated, "have that of a row before them"),
        )
        if count
    ]
    return f"Ids are from {found.id_field}" + (f"; {', '.join(wrong)}." if wrong else ".")


def show_harvest(out: Path, found: HarvestSummary) -> None:
    """Show what ``mads harvest`` wrote."""
    rows = [
        [name, f"{docs:,}", f"{found.num_bytes[name] / 1e6:.2f}"]
        for name, docs in found.num_docs.items()
    ]
    table("Corpus", ["domain", "documents", "MB"], rows)
    say(f"{out}: corpus/ and reference.jsonl with {found.num_reference} held-out items.")


def show_influence(out: Path, found: Influence) -> None:
    """Show what ``mads fit influence`` wrote, and how to use it."""
    say(
        f"{out}: fitted to {found.documents:,} documents of {len(found.rounds)} round(s); rank "
        f"correlation {found.spearman:.2f} on {found.held_out:,} held-out ones. To use it, add\n\n"
        f'  [agents.influence]\n  backend = "fasttext"\n  model = "{out}"\n\n'
        "to the recipe, and run the same `mads annotate` again: it adds this memory only."
    )


def show_clusters(out: Path, found: Clusters) -> None:
    """Show what ``mads fit cluster`` wrote, the largest clusters first, and how to use it."""
    rows = [
        [name, f"{size:,}", f"{size / found.documents:.1%}", " ".join(found.words[name])]
        for name, size in list(found.sizes.items())[:TOP_CLUSTERS]
    ]
    table("Clusters", ["category", "documents", "of documents", "characteristic words"], rows)
    if len(found.sizes) > TOP_CLUSTERS:
        say(f"... and {len(found.sizes) - TOP_CLUSTERS} smaller ones; --json lists all of them.")
    say(
        f"{out}: {len(found.sizes)} clusters of {found.documents:,} documents in {found.dims} "
        f"dimensions, which keep {found.variance:.0%} of the variance of words; mean cosine to the "
        f"centroid {found.cosine:.2f}. The largest cluster has {found.largest_share:.1%} of the "
        f"documents, {sum(not size for size in found.sizes.values())} have none. To use it, add"
        f'\n\n  [agents.{out.stem}]\n  backend = "cluster"\n  model = "{out}"\n\n'
        "to the recipe, and run the same `mads annotate` again: it adds this memory only."
    )


def show_targets(out: Path, found: Targets) -> None:
    """Show what ``mads fit target`` wrote, and how to use it."""
    rows = [
        [
            *(task.name, f"{task.share:.0%}", f"{task.items:,}", f"{task.grams:,}"),
            *(f"{task.unseen:.1%}", f"{task.mean:.3g}", f"{task.spread:.3g}"),
        ]
        for task in found.tasks
    ]
    table(
        f"Log importance ratio of a document's {'n-gram' if found.per_gram else 'n-grams'}, nats",
        ["task", "weight", "items", "n-grams", "corpus's unseen", "mean", "spread"],
        rows,
    )
    ((name, weights),) = found.weights.items()
    bins = "" if len(weights) == BINS else f"\n  quantiles = {len(weights)}"
    say(
        f"{out}: fitted to {len(found.tasks)} reference task(s) and {found.documents:,} documents. "
        f'To use it, add\n\n  [agents.{name}]\n  backend = "target"\n  model = "{out}"{bins}\n\n'
        "to the recipe, and run the same `mads annotate` again: it adds this memory only. As the "
        "only agent, it selects by importance resampling (DSIR) with --set strategy=fixed --set "
        f"console.prior_file={out.with_suffix('.json')}"
    )


def show_prior(out: Path, found: Matched) -> None:
    """Show what ``mads fit prior`` wrote, how far it can be believed, and how to use it."""
    show_shares(found.shares, ("corpus", "prior"))
    rows = [
        [task, f"{gain:+.4f}", f"{found.held_out[task]:+.4f}" if task in found.held_out else "–"]
        for task, gain in found.gain.items()
    ]
    table(
        "Gain over the corpus's mixture, in nats per n-gram",
        ["task", "under the prior", "under that of the other tasks"],
        rows,
    )
    say(
        f"{out}: matched to {len(found.gain)} reference task(s) over {found.documents:,} documents "
        f"(pull {found.pull:g}). To begin a run with it: --set console.prior_file={out}; to keep "
        "to it, without feedback: --set strategy=fixed as well."
    )


def show_regmix(out: Path, found: Fitted) -> None:
    """Show what regression on proxies found, how far it can be believed, and how to use it."""
    show_shares(found.shares, ("corpus", "prior"))
    rows = [["0 (the corpus)", f"{found.corpus:.4f}", "–"]]
    for one in found.line:
        losses = ", ".join(f"{loss:.4f}" for loss in one.losses)
        rows.append([f"{one.kl:g}", f"{sum(one.losses) / len(one.losses):.4f}", losses])
    table("Proxies along the line", ["nats from the corpus", "loss", "by seed"], rows)
    say(
        f"{out}: fitted to {found.proxies} proxies; predicted and true losses of proxies that were "
        f"left out have a rank correlation of {found.spearman:.2f}. To begin a run with it: --set "
        f"console.prior_file={out}; to keep to it, without feedback: --set strategy=fixed as well."
    )
    if found.spearman < TRUSTED:
        say(
            "note: that correlation is low: the proxies' losses say little of the mixture. More "
            "--proxies, more training.steps or larger models would tell more."
        )


def show_shares(shares: Shares, titles: tuple[str, str]) -> None:
    """Show two distributions of tokens over each agent's categories."""
    for agent, categories in shares.items():
        rows = [
            [name, f"{before:.1%}", f"{after:.1%}", f"{after / before:.2f}" if before else "–"]
            for name, (before, after) in categories.items()
        ]
        table(f"{agent}: share of tokens", ["category", *titles, "ratio"], rows)


def show_status(found: Status) -> None:
    """Show how a run stands."""
    stages = to_json(found.ledger).items()
    spent = [[name, *map(_amount, one.values())] for name, one in stages if one["seconds"]]
    if spent:
        table("Cost", ["stage", "seconds", "FLOPs", "GPU-seconds"], spent)
    if found.losses:
        rows = [
            [task, f"{found.first_losses[task]:.3f}", f"{loss:.3f}"]
            for task, loss in found.losses.items()
            if task in found.first_losses
        ]
        table("Losses, nats per token", ["task", "step 0", f"step {found.losses_step}"], rows)
    parts = [
        f"{found.run}: {found.state}, step {found.steps_done:,} of {found.steps:,} "
        f"(round {found.round}, latest checkpoint {found.checkpoint:,})"
    ]
    if found.loss is not None and found.tokens_per_s is not None:
        parts.append(f"training loss {found.loss:.3f}, {found.tokens_per_s:,.0f} tokens/s")
    if found.seconds_left is not None and found.state == "running":
        parts.append(f"{found.seconds_left / 60:,.0f} min left")
    if found.guards:
        acted = ", ".join(f"{name} {count}" for name, count in found.guards.items())
        parts.append(f"guards and alarms: {acted}")
    say("; ".join(parts) + ".")


def show_store_status(found: StoreStatus) -> None:
    """Show how a store stands."""
    if found.bad_files:
        rows = [[path, f"{count:,}"] for path, count in found.bad_files.items()]
        table("Files with rows that are not ok", ["file", "rows"], rows)
    if found.left:
        rows = [[part, f"{count:,}"] for part, count in found.left.items()]
        table("Left to do", ["part", "shards"], rows)
    usable = f" (generation {found.generation})" if found.generation else ""
    bad = sum(found.statuses.values()) - found.statuses["ok"]
    parts = [
        f"{found.store}: {found.state}{usable}, {found.rows_done:,} of {found.rows:,} documents "
        f"in {found.shards_done:,} of {found.shards:,} shards, {found.tokens_done:,} tokens, "
        f"{bad:,} rows not ok"
    ]
    if found.docs_per_s is not None and found.tokens_per_s is not None:
        parts.append(f"{found.docs_per_s:,.0f} documents/s, {found.tokens_per_s:,.0f} tokens/s")
    if found.workers:
        parts.append(f"{found.workers} processes at work")
    if found.seconds_left is not None:
        parts.append(f"{found.seconds_left / 60:,.0f} min left")
    say("; ".join(parts) + ".")


def _amount(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.1f}" if value < 1e6 else f"{value:.3g}"


def show_selected(found: Selected, seconds: float) -> None:
    """Show what ``mads select`` wrote."""
    show_shares(found.composition, ("corpus", "selection"))
    for short, name in ((found.shortfall_tokens, "tokens"), (found.shortfall_docs, "documents")):
        if short:
            say(f"note: there is less than the budget asks for; {short:,} {name} are missing.")
    _show_written(found, found.out, seconds)


def show_part(found: PartWritten, seconds: float) -> None:
    """Show what ``mads part`` wrote."""
    _show_written(found, f"{found.out} (part {found.shard})", seconds)


def _show_written(found: Selected | PartWritten, what: str, seconds: float) -> None:
    end = "it was complete already" if found.complete else f"{seconds:.2f} s"
    say(f"{what}: {found.num_docs:,} documents, {found.num_tokens:,} tokens; {end}.")


def show_weights(theta: Mapping[str, float], weights: Mapping[str, Mapping[str, float]]) -> None:
    """Show θ and w, the largest weights first."""
    for agent, categories in weights.items():
        ranked = sorted(categories.items(), key=lambda item: -item[1])
        rows = [[name, f"{value:.3f}"] for name, value in ranked]
        table(f"{agent}: θ = {theta[agent]:.3f}", ["category", "w"], rows)


def show_explanation(found: Explanation) -> None:
    """Show what ``mads explain`` found."""
    own = f", id {found.id}" if found.id is not None else ""
    say(f"document {found.doc}: row {found.row} of {found.file}{own}")
    say(f"status {found.status}, {found.num_tokens:,} tokens, {found.num_bytes:,} bytes")
    if not found.labels:
        say("It has no labels and is never selected.")
        return
    labels = [[a, label.category, f"{label.score:.3f}"] for a, label in found.labels.items()]
    table("Labels", ["agent", "category", "score"], labels)
    agents = list(found.labels)
    table(
        "Rounds (rank: of its cell; steps: from which on it was read)",
        ["round", *(f"θ·w {agent}" for agent in agents), "score", "rank", "tokens", "steps"],
        [_round_row(entry, agents) for entry in found.rounds],
    )
    before, pace = found.docs_before_it, found.cell_docs_last_round
    turn = "As things stand, its turn does not come."
    if pace:
        rounds = before // pace + 1
        turn = "At this pace its turn comes in the next round."
        if rounds > 1:
            turn = f"At this pace its turn comes {rounds:,} rounds from now."
    say(
        f"Its cell ({found.cell}) has {found.cell_docs:,} documents. From now on {before:,} "
        f"of them come before it; the last round took {pace:,}. {turn}"
    )
    if uses := found.rounds[-1].uses:
        say(f"When the run made these cells, its documents had been selected {uses:,} times each.")


def _round_row(entry: RoundOfDocument, agents: Sequence[str]) -> list[str]:
    return [
        str(entry.round),
        *(
            f"{entry.theta[a]:.2f}·{entry.weights[a]:.2f}" if a in entry.theta else "–"
            for a in agents
        ),
        f"{entry.score:.3f}",
        f"{entry.rank} of {entry.cells}",
        f"{entry.tokens:,}" if entry.steps else "–",
        _when(entry.steps),
    ]


def _when(steps: Sequence[int]) -> str:
    """Return from which steps on a round reads a document, the first ones by number."""
    if not steps:
        return "–"
    first = ", ".join(map(str, steps[:TOP_STEPS]))
    return first if len(steps) <= TOP_STEPS else f"{first}, +{len(steps) - TOP_STEPS}"


def show_selection_diff(found: SelectionDiff) -> None:
    """Show what ``mads diff`` found of two selections."""
    docs, tokens = found.docs, found.tokens
    show_shares(found.composition, ("A", "B"))
    say(
        f"{docs.both:,} documents are in both, {docs.only_a:,} only in A, "
        f"{docs.only_b:,} only in B; {tokens[0]:,} and {tokens[1]:,} tokens."
    )


def show_console_diff(found: ConsoleDiff) -> None:
    """Show what ``mads diff`` found of two console states."""

    def cells(pair: tuple[float | None, float | None]) -> list[str]:
        known = [value for value in pair if value is not None]
        change = f"{known[1] - known[0]:+.3f}" if len(known) == 2 else "–"
        return [*("–" if value is None else f"{value:.3f}" for value in pair), change]

    columns = [f"round {number}" for number in found.rounds]
    rows = [[agent, *cells(pair)] for agent, pair in found.theta.items()]
    table("θ", ["agent", *columns, "change"], rows)
    for agent, weights in found.weights.items():
        rows = [[name, *cells(pair)] for name, pair in weights.items()]
        table(f"w {agent}", ["category", *columns, "change"], rows)


def show_evaluation(found: Evaluation) -> None:
    """Show what ``mads evaluate`` found, each mean ± its standard error over items."""
    rows = []
    for name, task in found.tasks.items():
        several = len(task.by_shots) > 1
        for one in task.by_shots:
            cut = f"{one.truncated:,}" if one.truncated else "–"
            rows.append([name, str(one.shots), f"{task.num_items:,}", cut, *_scored(one.scores)])
        if several:
            rows.append([name, "mean", f"{task.num_items:,}", "", *_scored(task.mean)])
    if len(found.tasks) > 1:
        rows.append(["all tasks", "mean", "", "", *_scored(found.mean)])
    columns = ["task", "shots", "items", "cut", "bits per byte", "accuracy", "by bytes"]
    table("The right answer: mean ± standard error", columns, rows)
    for name, task in found.tasks.items():
        if task.left_out:
            say(f"note: {name}: {task.left_out:,} rows without a right answer are left out.")
    for name, reason in found.missing.items():
        say(f"note: {name} is not evaluated: {reason}.")
    say(
        f"{found.model}: {len(found.tasks)} tasks; cut: items whose beginning did not fit into the "
        f"model's {found.context:,} tokens."
    )


def _scored(scores: Scores) -> list[str]:
    return [
        _mean(scores.bits_per_byte, 1, 3),
        _mean(scores.accuracy, 100, 1),
        "–" if scores.normalised is None else _mean(scores.normalised, 100, 1),
    ]


def _mean(found: Mean, factor: float, digits: int) -> str:
    """Return a mean ± its standard error; shares are shown as percentages."""
    error = "–" if found.stderr is None else f"{found.stderr * factor:.{digits}f}"
    return f"{found.mean * factor:.{digits}f} ±{error}"


def show_comparison(out: Path, found: Comparison) -> None:
    """Show what ``mads compare`` found; the baseline's row has no differences."""
    groups = [g for g, of in ((REFERENCES, found.references), (HELD_OUT, found.held_out)) if of]
    minus = f"− {found.baseline}"
    _show_reads(found)
    rows = [
        [name, *(c for g in groups for c in _pair(arm.means[g], arm.mean_differences.get(g)))]
        for name, arm in found.arms.items()
    ]
    columns = ["arm", *(c for g in groups for c in (g, minus))]
    table("Loss at the end, in nats per token; difference ± its 95% interval", columns, rows)
    rows = [
        [
            task,
            *(
                " ".join(_pair(arm.tasks[task], arm.task_differences.get(task))).strip()
                for arm in found.arms.values()
            ),
        ]
        for task in (*found.references, *found.held_out)
    ]
    table("By task", ["task", *found.arms], rows)
    rows = [
        [name, *(c for g in groups for c in _needed(arm.needed[g], found.tokens))]
        for name, arm in found.arms.items()
        if name != found.baseline
    ]
    columns = ["arm", *(c for g in groups for c in (g, "times fewer"))]
    table(f"Tokens until the final loss of {found.baseline}", columns, rows)
    rows = [
        [name, f"{c.training:.3g}", f"{c.selection:.3g}", f"{c.selection / c.training:.2%}"]
        for name, c in ((name, arm.cost) for name, arm in found.arms.items())
    ]
    columns = ["arm", "training", "selection", "of training"]
    table("Cost of a run in FLOPs, evaluation left out", columns, rows)
    say(
        f"{out}: {len(found.arms)} arms, {len(found.seeds)} seed(s), {found.tokens:,} tokens a "
        f"run, {found.parameters:,} parameters."
    )


def _show_reads(found: Comparison) -> None:
    """Show how each arm's tokens were shared by categories."""
    for agent, corpus in found.corpus.items():
        rows = [
            [name, f"{share:.1%}", *(f"{arm.read[agent][name]:.1%}" for arm in found.arms.values())]
            for name, share in corpus.items()
        ]
        table(f"{agent}: share of the tokens read", ["category", "corpus", *found.arms], rows)


def _pair(loss: Estimate, difference: Estimate | None) -> list[str]:
    """Return a loss, and its difference ± half the interval; one seed has no interval."""
    if difference is None:
        return [f"{loss.mean:.4f}", ""]
    half = "–" if difference.high is None else f"±{difference.high - difference.mean:.4f}"
    return [f"{loss.mean:.4f}", f"{difference.mean:+.4f} {half}"]


def _needed(found: Needed, tokens: int) -> list[str]:
    """Return the mean of the tokens that were needed, and how many times fewer that is."""
    reached = [at for at in found.tokens if at is not None]
    missed = len(found.tokens) - len(reached)
    if missed:
        ratio = f"below {found.at_most:.2f}" if found.at_most is not None else "–"
        return [f"over {tokens:,} in {missed} of {len(found.tokens)}", ratio]
    mean = f"{sum(reached) / len(reached):,.0f}"
    if found.ratio is None:
        return [mean, "–"]
    ends = "–"
    if found.ratio.low is not None and found.ratio.high is not None:
        ends = f"[{found.ratio.low:.2f}, {found.ratio.high:.2f}]"
    return [mean, f"{found.ratio.mean:.2f} {ends}"]
