"""Reward models of outcomes: one reward at the end of a text, as plain `transformers` and TRL have it."""

import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from data.errors import ConfigError
from data.tasks.countdown import Countdown
from data.text.codec import load_codec
from rl.config.lora import Lora
from rl.learner.lora import ADAPTER_FILE, adapter_tensors
from rl.learner.masters import make_optimizer
from rl.learner.optimizer import optimizer_of, warmup_linear
from rl.learner.scorer_model import load_scorer, scorer_to_train, scores_of
from rl.scorers.held_out import read_held_out
from rl.scorers.pairs import Pair, pairs_of
from rl.scorers.target_rows import JudgedCall
from rl.scorers.worker import ScorerWorker
from rollout.commands import Score
from rollout.offline import drive
from rollout.protocols import build_protocol, default_params
from rollout.scoring import ScoreRequest
from tests.support.outcome_lab import answers, pairs_at, rows_at, save_scorer, stage_of, train_once
from tests.support.scorer_lab import PROBLEM, one_call, settings

LORA = Lora(rank=4, alpha=6.0)


@pytest.fixture(scope="module")
def scorer(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reward model of outcomes with a random head."""
    return save_scorer(tiny_model_dir, tmp_path_factory.mktemp("outcome"))


def plain(directory: Path) -> Any:
    return AutoModelForSequenceClassification.from_pretrained(directory, dtype=torch.float32).eval()


@torch.no_grad()
def plain_score(model: Any, ids: tuple[int, ...]) -> float:
    return float(torch.sigmoid(model(input_ids=torch.tensor([ids])).logits[0, 0].double()))


def test_scores_are_those_of_plain_transformers_and_of_the_host(scorer: Path, tiny_model_dir: Path) -> None:
    rows = [call.row for call in answers()]
    model, expected = load_scorer(scorer, "outcome"), plain(scorer)
    assert expected.config.num_labels == 1 and expected.config.id2label == {0: "right"}
    found = scores_of(model, rows)
    assert [one for (one,) in found] == pytest.approx(
        [plain_score(expected, row.ids) for row in rows], abs=1e-5
    )
    assert {one for (one,) in scores_of(load_scorer(tiny_model_dir, "outcome"), rows)} == {0.5}
    worker = ScorerWorker(settings(scorer, tiny_model_dir, target="outcome"), Countdown().params)
    episode = one_call(tiny_model_dir)
    (opinion,) = worker.score_group(PROBLEM, [episode])
    (call,) = episode.calls
    assert isinstance(opinion, tuple) and [(step.start, step.stop) for step in opinion] == [
        (0, len(call.output))
    ]
    whole = plain_score(expected, episode.context_ids(call) + call.output)
    assert opinion[0].value == pytest.approx(whole, abs=1e-5)


def test_the_other_kind_is_refused_by_name(scorer: Path, tiny_scorer: Path, tiny_model_dir: Path) -> None:
    with pytest.raises(ConfigError, match=r"(?s)is a Qwen3ForSequenceClassification with 1.*scorer\.target"):
        ScorerWorker(settings(scorer, tiny_model_dir), Countdown().params)
    with pytest.raises(ConfigError, match=r"is a Qwen3ForTokenClassification with 2 label.*target: outcome"):
        load_scorer(tiny_scorer, "outcome")


@pytest.mark.parametrize("pick", ["best", "vote"])
def test_best_of_n_picks_by_the_reward_of_each_chain(pick: str, scorer: Path, tiny_model_dir: Path) -> None:
    """Four chains with three answers, two of them equal: the highest score wins, or the highest sum."""
    codec = load_codec(tiny_model_dir)
    numbers = ((10, 9, 9), (9, 4, 9), (4, 2, 2), (2, 4, 4))
    said = [f"<try> {a} + {b} 2 4 {a + b} <answer> {c} <eos>" for a, b, c in numbers]
    chains = [tuple(codec.tokenizer(text)["input_ids"]) for text in said]
    worker = ScorerWorker(settings(scorer, tiny_model_dir, target="outcome"), Countdown().params)
    model, expected = plain(scorer), dict[int, float]()

    def judge(question: Score) -> Any:
        (found,) = worker.score_texts(PROBLEM, [ScoreRequest(problem=PROBLEM, texts=question.texts)])
        (text,) = question.texts
        expected[question.path[0]] = plain_score(model, text.context + text.output)
        assert found == ((pytest.approx(expected[question.path[0]], abs=1e-5),),)
        return found

    params = default_params("best_of_n").model_copy(update={"scorer": "reward_model", "pick": pick})
    episode = drive(
        build_protocol(params, codec), Countdown().prompt(PROBLEM),
        lambda generate: chains[generate.path[0]], judge=judge,
    )  # fmt: skip
    totals: dict[str, float] = {}
    for chain, answer in enumerate(("9", "9", "2", "4")):
        before = totals.get(answer, 0.0)
        totals[answer] = before + expected[chain] if pick == "vote" else max(before, expected[chain])
    answer = episode.answer_ids()
    assert answer is not None and len(expected) == 4
    assert codec.decode(answer).strip() == max(totals, key=totals.__getitem__)


def margins(calls: Any) -> list[Pair]:
    """All pairs, each with a margin of its own."""
    rng = random.Random(1)
    made = pairs_of(calls, most=100, margin=0.0, seed=0)
    return [Pair(better=pair.better, worse=pair.worse, margin=rng.random()) for pair in made]


@pytest.mark.medium
def test_losses_before_and_after_an_update_are_those_of_trl(
    scorer: Path, tiny_model_dir: Path, tmp_path: Path
) -> None:
    """The same pairs through TRL's RewardTrainer: the same weights, optimizer and learning rate."""
    from datasets import Dataset
    from trl import RewardConfig, RewardTrainer

    calls = answers()
    pairs = margins(calls)
    stage = stage_of(loss={"kind": "bradley_terry", "center": 0.05}, steps=3)
    logged = train_once(stage, scorer, tmp_path / "ours", pairs_at(tmp_path, tiny_model_dir, calls, pairs))
    model = plain(scorer)
    optimizer = make_optimizer(
        optimizer_of(stage), model, {}, lr=stage.learning_rate, weight_decay=stage.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: warmup_linear(step, warmup=0, total=3, final=0.05)
    )
    trained = [pair for pair in pairs if pair.problem != calls[-1].problem_id]
    table = [
        {"chosen_ids": pair.better.row.ids, "rejected_ids": pair.worse.row.ids, "margin": pair.margin}
        for pair in trained
    ]
    trainer = RewardTrainer(
        model=model,
        args=RewardConfig(
            output_dir=str(tmp_path / "trl"), per_device_train_batch_size=len(trained), max_steps=3,
            max_grad_norm=1.0, logging_steps=1, report_to=[], use_cpu=True, bf16=False, disable_tqdm=True,
            gradient_checkpointing=False, save_strategy="no", center_rewards_coefficient=0.05, seed=0,
        ),
        train_dataset=Dataset.from_list(table),
        processing_class=AutoTokenizer.from_pretrained(tiny_model_dir),
        optimizers=(optimizer, schedule),
    )  # fmt: skip
    trainer.train()
    expected = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    assert len(expected) == len(logged) == 3 and abs(expected[2] - expected[0]) > 1e-3
    assert logged == pytest.approx(expected, abs=1e-5)
    ours, start = load_file(tmp_path / "ours" / "model" / "model.safetensors"), plain(scorer).state_dict()
    for name, weight in trainer.model.state_dict().items():
        # AdamW's first steps are as large for a gradient of rounding errors as for any other.
        off, moved = (ours[name] - weight).norm(), (weight - start[name]).norm()
        assert moved > 0 and off < 1e-3 * moved, name


@pytest.mark.medium
@pytest.mark.parametrize("target", ["outcome", "steps"])
def test_adapters_change_nothing_at_first_and_are_merged_in_the_end(
    target: Any, tiny_model_dir: Path, tmp_path: Path
) -> None:
    base = save_scorer(tiny_model_dir, tmp_path / "base", target)
    calls = answers()
    rows = [call.row for call in calls]
    model, _ = scorer_to_train(base, target, LORA, checkpoint=None, seed=0, rounded=False)
    assert scores_of(model, rows) == scores_of(load_scorer(base, target), rows)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained and all(".lora_" in name or name.startswith("score.") for name in trained)
    made, stage = tmp_path / "made", stage_of(target=target, lora=LORA.model_dump(), learning_rate=1e-2)
    train_once(stage, base, made, rows_at(tmp_path, tiny_model_dir, calls))
    held_out = [call.row for call in calls if call.problem_id == calls[-1].problem_id]
    by_adapters = [list(call.scores) for call in read_held_out(made / "held_out.jsonl")]
    merged = scores_of(load_scorer(made / "model", target), held_out)
    before = scores_of(load_scorer(base, target), held_out)
    for one, other in zip(by_adapters, merged, strict=True):
        assert one == pytest.approx(other, abs=1e-5)
    assert (
        max(
            abs(a - b) for one, two in zip(merged, before, strict=True) for a, b in zip(one, two, strict=True)
        )
        > 0.01
    )
    checkpoint = made / "checkpoints" / "step-000002"
    again, _ = scorer_to_train(base, target, LORA, checkpoint=checkpoint, seed=9, rounded=False)
    saved = load_file(checkpoint / ADAPTER_FILE)
    assert all(torch.equal(tensor, saved[name]) for name, tensor in adapter_tensors(again).items())
    alone = [scores_of(again, [row])[0] for row in held_out]
    assert alone == by_adapters, "the head is the checkpoint's, too"


@pytest.mark.slow
def test_training_that_goes_on_ends_with_the_same_weights(tiny_model_dir: Path, tmp_path: Path) -> None:
    """From the checkpoint of update 50: the adapters, their head, and what the optimizer knew."""
    calls = answers()
    loss, lora = {"kind": "bradley_terry"}, LORA.model_dump()
    stage = stage_of(loss=loss, lora=lora, steps=52, tokens_per_step=96, forest_tokens=96)
    rows = pairs_at(tmp_path, tiny_model_dir, calls)
    whole = train_once(stage, tiny_model_dir, tmp_path / "whole", rows)
    assert whole[0] == pytest.approx(0.6931, abs=1e-3) and whole[-1] < 0.5, "it learns"
    checkpoint = tmp_path / "whole" / "checkpoints" / "step-000050"
    train_once(stage, tiny_model_dir, tmp_path / "resumed", rows, checkpoint=checkpoint)
    one, other = (tmp_path / name / "model" / "model.safetensors" for name in ("whole", "resumed"))
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.medium
@pytest.mark.parametrize("pads_with_its_end", [True, False])
def test_padding_that_is_the_end_is_not_saved(
    pads_with_its_end: bool, tiny_model_dir: Path, tmp_path: Path
) -> None:
    """With it, transformers would score the token in front of the end."""
    base = tmp_path / "base"
    shutil.copytree(tiny_model_dir, base)
    tokenizer = AutoTokenizer.from_pretrained(base)
    if pads_with_its_end:
        tokenizer.pad_token = tokenizer.eos_token
        tokenizer.save_pretrained(base)
    calls = answers()
    eos = tokenizer.eos_token_id
    ended = []
    for call in calls:
        ids, first, label = (*call.row.ids, eos), call.row.first, call.row.targets[-1]
        ended.append(
            JudgedCall.of(call.problem_id, call.episode_id, ids, first, {len(ids) - first - 1: label})
        )
    train_once(stage_of(learning_rate=1e-2), base, tmp_path / "made", rows_at(tmp_path, base, ended))
    model = plain(tmp_path / "made" / "model")
    assert (model.config.pad_token_id is None) == pads_with_its_end
    held_out = [call.row.ids for call in ended if call.problem_id == calls[-1].problem_id]
    expected = [
        score for call in read_held_out(tmp_path / "made" / "held_out.jsonl") for score in call.scores
    ]
    assert [plain_score(model, ids) for ids in held_out] == pytest.approx(expected, abs=1e-5)


def test_a_head_gets_no_adapter(tiny_model_dir: Path) -> None:
    with pytest.raises(ConfigError, match=r"lora\.targets: score: the model has no such linear layer"):
        scorer_to_train(
            tiny_model_dir,
            "outcome",
            Lora(rank=2, targets=("score",)),
            checkpoint=None,
            seed=0,
            rounded=False,
        )
