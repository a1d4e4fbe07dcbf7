"""The whole circle on a planted world: it learns what helps, and resumes exactly."""

from __future__ import annotations

import json
import math
from dataclasses import fields, replace
from pathlib import Path

import planted
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from run.watching import Quiet, facts

from mads.annotate.annotate import annotate
from mads.config import EvaluationConfig, Recipe, ReferenceConfig, RewardsConfig, TaskConfig
from mads.console import RULES
from mads.console.bayes import BayesConfig
from mads.errors import DataError, Interrupted, UsageError
from mads.rewards.estimators import ESTIMATORS
from mads.rewards.estimators.gradient import gradient
from mads.rewards.estimators.question import Measured, Question
from mads.rewards.sections import ESTIMATOR_SECTIONS
from mads.run.loop import train
from mads.run.records import FeedbackRecord, StepRecord
from mads.store.store import Store


def feedback_of(watcher: Quiet, number: int) -> FeedbackRecord:
    """Return what was noted of a round's rewards."""
    found = watcher.rounds[number].feedback
    assert found is not None
    return found


def test_the_console_learns_the_planted_answer(folder: Path, store: Store, tmp_path: Path) -> None:
    """Helpful gains, harmful loses, for each agent that knows; θ leaves the one that does not."""
    recipe = planted.recipe(folder, steps=45, first_update=15, update_every=5)
    watcher = Quiet()
    result = train(store, tmp_path / "run", recipe, watcher)
    weights = result.weights
    assert weights["kind"]["useful"] > 1 > weights["kind"]["noise"]
    assert weights["quality"]["high"] > 1 > weights["quality"]["low"]
    theta = result.theta
    assert theta["coin"] < 1 / 3 < min(theta["kind"], theta["quality"])
    assert sum(theta.values()) == pytest.approx(1.0)
    (last,) = watcher.ends
    assert last.losses["planted"] < watcher.rounds[1].losses["planted"]
    selected = pq.read_table(tmp_path / "run" / "rounds" / "0006" / "selection.parquet")
    cells = store.cells
    kind = cells.category_CA[selected["cell"].to_numpy(), cells.agents.index("kind")]
    names = cells.categories["kind"]
    share = {n: float((kind == i).mean()) for i, n in enumerate(names)}
    assert share["useful"] > 0.5 > share["noise"]


def estimated_by(recipe: Recipe, estimator: str) -> RewardsConfig:
    """Return the rewards' section with another estimator and its defaults."""
    common = {f.name: getattr(recipe.rewards, f.name) for f in fields(RewardsConfig)}
    return ESTIMATOR_SECTIONS[estimator](**common | {"estimator": estimator})


@pytest.mark.parametrize("rule", sorted(RULES))
@pytest.mark.parametrize("estimator", sorted(ESTIMATORS))
def test_the_sign_under_every_rule_and_estimator(
    folder: Path, store: Store, tmp_path: Path, rule: str, estimator: str
) -> None:
    recipe = planted.recipe(folder, steps=30, first_update=15, update_every=5)
    recipe = replace(
        recipe,
        console=RULES[rule].section(rule=rule),
        rewards=estimated_by(recipe, estimator),
    )
    weights = train(store, tmp_path / "run", recipe, Quiet()).weights
    assert weights["kind"]["useful"] > max(weights["kind"]["neutral"], weights["kind"]["noise"])
    assert weights["quality"]["high"] > weights["quality"]["low"]


@pytest.fixture(scope="module")
def five_kinds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("five")
    planted.build(path, tuple(planted.FIVE))
    return path


@pytest.mark.parametrize("seed", range(5, 10))
@pytest.mark.parametrize("estimator", sorted(ESTIMATORS))
def test_useful_text_rises_above_all_else_within_three_rounds(
    five_kinds: Path, tmp_path: Path, estimator: str, seed: int
) -> None:
    """Of 30 other seeds 27 do; shuffled words of useful text are useful too."""
    recipe = planted.recipe(five_kinds, tuple(planted.FIVE), steps=30, first_update=15)
    recipe = replace(
        recipe,
        seed=seed,
        rewards=estimated_by(recipe, estimator),
    )
    watcher = Quiet()
    train(Store(five_kinds / "store"), tmp_path / "run", recipe, watcher)
    rounds = [record.weights["kind"] for record in watcher.rounds]
    assert len(rounds) == 4
    last = dict(rounds[-1])
    useful = last.pop("useful")
    assert useful > 1.05 * max(last.values()), last


def selecting_every(recipe: Recipe, steps: int) -> Recipe:
    """Return a recipe that selects every so many steps; 0 = once a round."""
    return replace(recipe, selection=replace(recipe.selection, select_every=steps))


@pytest.mark.parametrize("every", [0, 1, 3])
def test_10_and_10_steps_are_20(folder: Path, store: Store, tmp_path: Path, every: int) -> None:
    recipe = planted.recipe(folder, steps=20, checkpoint_every=100)
    recipe = selecting_every(recipe, every)
    train(store, tmp_path / "whole", recipe, Quiet())
    for stop in (10, 7):  # at the end of a round, and inside one (of 3 steps: inside a stretch)
        run = tmp_path / f"halves-{stop}"
        with pytest.raises(Interrupted, match=f"after step {stop}; the work is saved"):
            train(store, run, recipe, Quiet(stop_after=stop))
        watcher = Quiet()
        train(store, run, recipe, watcher)
        assert watcher.steps[0].step == stop
        assert facts(run) == facts(tmp_path / "whole")


@pytest.mark.parametrize("every", [0, 1, 2])
def test_a_killed_run_goes_on_from_its_last_checkpoint(
    folder: Path, store: Store, tmp_path: Path, every: int
) -> None:
    """Killed without warning: steps after the checkpoint are taken again, with the same result."""
    recipe = selecting_every(planted.recipe(folder, steps=20, checkpoint_every=8), every)
    train(store, tmp_path / "whole", recipe, Quiet())

    class Stopped(BaseException):
        """As sudden as SIGKILL: nothing is saved."""

    class Killed(Quiet):
        def step(self, record: StepRecord) -> None:
            if record.step == 13:
                raise Stopped

    with pytest.raises(Stopped):
        train(store, tmp_path / "run", recipe, Killed())
    with (tmp_path / "run" / "metrics.jsonl").open("a") as handle:
        handle.write('{"kind": "st')
    watcher = Quiet()
    train(store, tmp_path / "run", recipe, watcher)
    assert watcher.steps[0].step == 8
    assert "going on from step 8" in watcher.notes[0]
    assert facts(tmp_path / "run") == facts(tmp_path / "whole")


def test_a_selection_for_every_step(folder: Path, store: Store, tmp_path: Path) -> None:
    """Feedback stays once a round; every step reads what was selected for it, and says how long."""
    recipe = selecting_every(planted.recipe(folder, steps=15), 1)
    watcher = Quiet()
    train(store, tmp_path / "run", recipe, watcher)
    assert [record.round for record in watcher.rounds] == [0, 1, 2]
    assert all(record.select_ms for record in watcher.steps)
    for number in range(3):
        folder_of = tmp_path / "run" / "rounds" / f"{number:04d}"
        table = pq.read_table(folder_of / "selection.parquet")
        steps = range(5 * number, 5 * number + 5)
        assert set(table["step"].to_pylist()) == set(steps)
        for step in steps:
            rows = table.filter(pc.equal(table["step"], step))
            assert pc.sum(rows["num_tokens"]).as_py() >= recipe.training.batch_tokens
    once = Quiet()
    train(store, tmp_path / "once", planted.recipe(folder, steps=15), once)
    begins = [record.select_ms is not None for record in once.steps]
    assert begins == 3 * [True, False, False, False, False]


def test_a_complete_run_is_left_alone(folder: Path, store: Store, tmp_path: Path) -> None:
    recipe = planted.recipe(folder, steps=10)
    one = train(store, tmp_path / "run", recipe, Quiet())
    before = facts(tmp_path / "run")
    watcher = Quiet()
    two = train(store, tmp_path / "run", recipe, watcher)
    assert watcher.steps == []
    assert two.losses == one.losses
    assert facts(tmp_path / "run") == before


def test_the_store_is_never_written(folder: Path, store: Store, tmp_path: Path) -> None:
    """Mistake 8: corpus files were rewritten every round."""
    watched = [*store.dir.root.rglob("*"), folder / "corpus.jsonl"]
    before = {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in watched if p.is_file()}
    train(store, tmp_path / "run", planted.recipe(folder, steps=10), Quiet())
    assert {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in before} == before


def test_rewards_that_are_not_finite_keep_the_weights(
    folder: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(question: Question) -> Measured:
        found = gradient(question)
        found.reward_DN[0, 0] = math.nan
        return found

    monkeypatch.setitem(ESTIMATORS, "forward", broken)
    recipe = planted.recipe(folder, steps=10)
    watcher = Quiet()
    result = train(store, tmp_path / "run", recipe, watcher)
    assert {w for table in result.weights.values() for w in table.values()} == {1.0}
    assert any(
        "the console keeps its weights: rewards that are not finite" in n for n in watcher.notes
    )


def test_an_estimator_that_is_off_is_told(folder: Path, store: Store, tmp_path: Path) -> None:
    recipe = planted.recipe(folder, steps=10)
    rewards = replace(estimated_by(recipe, "forward"), epsilon=0.1)  # type: ignore[call-arg]
    recipe = replace(recipe, rewards=rewards)
    watcher = Quiet()
    train(store, tmp_path / "run", recipe, watcher)
    assert any("off the exact gradients" in note for note in watcher.notes)


def test_bfloat16_training_has_exact_feedback(folder: Path, store: Store, tmp_path: Path) -> None:
    watcher = Quiet()
    train(store, tmp_path / "run", planted.recipe(folder, steps=10, precision="bfloat16"), watcher)
    error = feedback_of(watcher, 1).oracle_error
    assert error is not None
    assert error < 1e-3
    assert not any("off the exact" in note for note in watcher.notes)


def test_random_selection_measures_no_rewards(folder: Path, store: Store, tmp_path: Path) -> None:
    recipe = planted.recipe(folder, steps=15)
    recipe = replace(recipe, selection=replace(recipe.selection, policy="random"))
    watcher = Quiet()
    result = train(store, tmp_path / "run", recipe, watcher)
    assert not list((tmp_path / "run").rglob("rewards.parquet"))
    assert result.rounds == 3
    assert result.strategy == "random"
    losses = [record.losses for record in watcher.rounds] + [end.losses for end in watcher.ends]
    assert all("planted" in found for found in losses)
    assert {record.feedback for record in watcher.rounds} == {None}


def test_a_corpus_smaller_than_a_round_is_read_again(
    folder: Path, store: Store, tmp_path: Path
) -> None:
    recipe = planted.recipe(folder, steps=80, first_update=80, batch_tokens=1024)
    train(store, tmp_path / "run", recipe, Quiet())
    plan = json.loads((tmp_path / "run" / "rounds" / "0000" / "plan.json").read_text())
    assert plan["num_tokens"] >= 80 * 1024 > int(store.cells.num_tokens_C.sum())
    assert max(plan["cursors"]["passes"]) >= 1


def test_a_corpus_that_is_used_up(folder: Path, store: Store, tmp_path: Path) -> None:
    recipe = planted.recipe(folder, steps=80, first_update=80, batch_tokens=1024)
    recipe = replace(recipe, selection=replace(recipe.selection, max_passes=1))
    with pytest.raises(DataError, match=r"round 0: the corpus is used up; .* selection.max_passes"):
        train(store, tmp_path / "run", recipe, Quiet())


def test_evaluation_is_not_feedback(folder: Path, store: Store, tmp_path: Path) -> None:
    """Mistake 14: evaluation sets were loaded next to reference sets."""
    recipe = planted.recipe(folder, steps=10)
    task = recipe.rewards.tasks["planted"]
    same = replace(recipe, evaluation=EvaluationConfig(tasks={"again": task}))
    with pytest.raises(UsageError, match=r"evaluation.tasks.again and rewards.tasks.planted read"):
        train(store, tmp_path / "same", same, Quiet())
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(Path(task.path).read_bytes())
    disguised = EvaluationConfig(tasks={"again": TaskConfig(path=str(copy), split="test")})
    with pytest.raises(UsageError, match=r"evaluation.tasks.again and rewards.tasks.planted read"):
        train(store, tmp_path / "same", replace(recipe, evaluation=disguised), Quiet())
    held_out = tmp_path / "held_out.jsonl"
    held_out.write_text('{"context": "uno dos", "continuation": " tres cuatro"}\n')
    other = EvaluationConfig(tasks={"spanish": TaskConfig(path=str(held_out))})
    plain = train(store, tmp_path / "plain", recipe, Quiet())
    watcher = Quiet()
    followed = train(store, tmp_path / "both", replace(recipe, evaluation=other), watcher)
    assert (followed.weights, followed.theta) == (plain.weights, plain.theta)
    assert followed.losses["planted"] == plain.losses["planted"]
    assert {"planted", "spanish"} == set(watcher.ends[-1].losses)


def test_refusals(folder: Path, store: Store, tmp_path: Path) -> None:
    recipe = planted.recipe(folder, steps=10)
    without = replace(recipe, rewards=replace(recipe.rewards, tasks={}))
    with pytest.raises(UsageError, match=r"no reference task: add a \[rewards.tasks.NAME\]"):
        train(store, tmp_path / "none", without, Quiet())
    train(store, tmp_path / "run", recipe, Quiet())
    other = replace(recipe, seed=5)
    with pytest.raises(UsageError, match=r"begun with another recipe: seed: 0 -> 5\. Give"):
        train(store, tmp_path / "run", other, Quiet())
    (tmp_path / "busy").mkdir()
    (tmp_path / "busy" / "letter.txt").write_text("dear")
    with pytest.raises(UsageError, match="neither empty nor a run"):
        train(store, tmp_path / "busy", recipe, Quiet())


def test_a_first_call_that_fails_leaves_the_folder_free(
    folder: Path, store: Store, tmp_path: Path
) -> None:
    recipe = planted.recipe(folder, steps=5)
    task = ReferenceConfig(path=str(tmp_path / "nowhere.jsonl"))
    bad_task = replace(recipe, rewards=replace(recipe.rewards, tasks={"planted": task}))
    floor = replace(recipe.selection, min_share={"kind": {"usefull": 0.1}})
    for bad, message in (
        (bad_task, "nowhere.jsonl does not exist"),
        (replace(recipe, selection=floor), "did you mean 'useful'"),
        (replace(recipe, training=replace(recipe.training, device="tpu")), "'tpu' is not known"),
    ):
        with pytest.raises(UsageError, match=message):
            train(store, tmp_path / "run", bad, Quiet())
    # Nor does a call that was killed while it wrote its first files.
    (tmp_path / "run" / "recipe.toml").write_text("seed = 3")
    (tmp_path / "run" / "provenance.json.partial").write_text("{")
    assert train(store, tmp_path / "run", recipe, Quiet()).steps == 5


def test_parts_longer_than_a_round_are_told(folder: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "long.jsonl"
    lines = planted.documents(each=2)
    lines += [{**lines[0], "text": " ".join(planted.USEFUL * 400)}]
    corpus.write_text("\n".join(json.dumps(line) for line in lines) + "\n")
    annotate([corpus], tmp_path / "store", planted.recipe(folder), lambda *_: None)
    watcher = Quiet()
    recipe = planted.recipe(
        *(folder,), steps=4, first_update=2, update_every=2, part_tokens=1_000_000
    )
    train(Store(tmp_path / "store"), tmp_path / "whole", recipe, watcher)
    what = "tokens were selected for 1,024, since parts of documents have up to 1,000,000"
    assert any(what in note for note in watcher.notes)
    watcher = Quiet()
    recipe = planted.recipe(folder, steps=4, first_update=2, update_every=2)
    train(Store(tmp_path / "store"), tmp_path / "parts", recipe, watcher)
    assert not any("were selected for" in note for note in watcher.notes)


def test_prior_weights_begin_the_run(folder: Path, store: Store, tmp_path: Path) -> None:
    """Round 0 already follows them."""
    recipe = planted.recipe(folder, steps=5)
    prior = {"kind": {"useful": 4.0, "noise": 0.01}, "coin": {"tails": 1.5}}
    recipe = replace(recipe, console=replace(recipe.console, prior=prior))
    watcher = Quiet()
    train(store, tmp_path / "run", recipe, watcher)
    weights = watcher.rounds[0].weights
    assert weights["kind"] == {"useful": 4.0, "neutral": 1.0, "noise": 0.01}
    assert weights["coin"] == {"heads": 1.0, "tails": 1.5}
    table = pq.read_table(tmp_path / "run" / "rounds" / "0000" / "selection.parquet")
    kinds = store.cells.category_CA[table["cell"].to_numpy(), store.cells.agents.index("kind")]
    assert (kinds == 0).sum() > 2 * (kinds == 2).sum()


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        ({"kinds": {}}, r"console.prior.kinds: no such agent; did you mean 'kind'\?"),
        ({"kind": {"usefull": 1.0}}, r"prior.kind.usefull: no such category; did you mean"),
    ],
)
def test_a_prior_that_does_not_fit_the_store(
    folder: Path, store: Store, tmp_path: Path, prior: dict[str, dict[str, float]], message: str
) -> None:
    recipe = planted.recipe(folder, steps=5)
    recipe = replace(recipe, console=replace(recipe.console, prior=prior))
    with pytest.raises(UsageError, match=message):
        train(store, tmp_path / "run", recipe, Quiet())


def test_guard_rails_that_act_are_counted_and_a_collapse_is_told(
    folder: Path, store: Store, tmp_path: Path
) -> None:
    recipe = planted.recipe(folder, steps=15)
    console = BayesConfig(rule="bayes", theta_floor=0.33, min_entropy=0.999)
    recipe = replace(recipe, console=console)
    watcher = Quiet()
    result = train(store, tmp_path / "run", recipe, watcher)
    assert any("weights were about to collapse onto few categories" in n for n in watcher.notes)
    for guard in ("theta_floor", "entropy"):
        told = [
            record.feedback.guards.get(guard, 0) for record in watcher.rounds if record.feedback
        ]
        assert result.guards[guard] == sum(told) > 0
    saved = json.loads((tmp_path / "run" / "result.json").read_text())
    assert saved["guards"] == dict(result.guards)


def test_a_mixture_that_swings_and_collapses_is_told_and_counted(
    folder: Path, store: Store, tmp_path: Path
) -> None:
    recipe = planted.recipe(folder, steps=15)
    recipe = replace(recipe, selection=replace(recipe.selection, temperature=1e-3))
    watcher = Quiet()
    result = train(store, tmp_path / "run", recipe, watcher)
    assert any(
        note.startswith("round 1: ") and "the mixture swings" in note for note in watcher.notes
    )
    assert any("the mixture has collapsed" in note for note in watcher.notes)
    for alarm in ("swing", "collapse"):
        raised = [(record.alarms or {}).get(alarm, 0) for record in watcher.rounds]
        assert result.guards[alarm] == sum(raised) > 0
        assert raised[0] == 0


def test_probes_within_a_budget_of_tokens(folder: Path, store: Store, tmp_path: Path) -> None:
    recipe = planted.recipe(folder, steps=15)
    recipe = replace(recipe, rewards=replace(recipe.rewards, probe_tokens=1500))
    watcher = Quiet()
    train(store, tmp_path / "run", recipe, watcher)
    spent = [record.feedback.probe_tokens for record in watcher.rounds if record.feedback]
    assert len(spent) == 2
    assert all(1000 < tokens < 1700 for tokens in spent)


def test_rewards_are_kept_for_each_task(folder: Path, store: Store, tmp_path: Path) -> None:
    recipe = planted.recipe(folder, steps=10)
    spanish = tmp_path / "spanish.jsonl"
    spanish.write_text('{"context": "uno dos tres", "continuation": " cuatro cinco seis"}\n')
    tasks = {**recipe.rewards.tasks, "spanish": ReferenceConfig(path=str(spanish), num_examples=0)}
    recipe = replace(recipe, rewards=replace(recipe.rewards, tasks=tasks))
    watcher = Quiet()
    train(store, tmp_path / "run", recipe, watcher)
    table = pq.read_table(tmp_path / "run" / "rounds" / "0001" / "rewards.parquet")
    assert {"reward", "reward_planted", "reward_spanish", "kind"} <= set(table.column_names)
    rewards = feedback_of(watcher, 1).task_rewards
    assert rewards is not None
    assert rewards["planted"]["kind"]["useful"] > rewards["planted"]["kind"]["neutral"]
    assert rewards["spanish"]["kind"]["neutral"] > rewards["spanish"]["kind"]["useful"]
