"""Tasks over every source: what is asked, with which shots, and what the figures are of."""

import dataclasses
import json

import numpy as np
import pytest

from gpt_jax import registry
from gpt_jax.data.sources.translation.toy import NOUNS, VERBS
from gpt_jax.errors import UserError
from gpt_jax.judge import evaluate
from gpt_jax.judge.evaluate import Answers
from gpt_jax.judge.opened import calls_of, names_of, words_of
from gpt_jax.sample.likelihood import likelihoods
from tests.judge.answers import config, judged, opened, written

C = config(model__context=1024)
CALLS = [call for name in registry.names("judge.tasks") for call in registry.examples("judge.tasks", name)]
UNLIKELY = "a lion"


def right(given):
    """An answer that is."""
    return dataclasses.replace(given, texts=given.problem.answers, correct=(1.0,))


def small(call: str):
    """The settings of a run over a few rows of the task's source."""
    kind, _ = registry.parse(registry.build("judge.tasks", call).source)
    return config(model__context=1024, data__source=registry.examples("data.sources", kind)[0])


@pytest.mark.every(4)
@pytest.mark.parametrize("call", CALLS)
def test_every_task_is_answered(call):
    task, model = opened(call, small(call)), judged(C)
    found = evaluate.answers(task, model)
    assert [one.problem for one in found.answered] == [task.problems[i] for i in found.numbers]
    figures, plain = evaluate.figures(task, found), evaluate.values(task, found)
    assert {name: figure.value for name, figure in figures.items()} == plain
    assert all(figure.low <= figure.value <= figure.high for figure in figures.values())
    json.dumps(evaluate.details(task, found), allow_nan=False)
    assert evaluate.answers(task, model) == found  # the same again
    assert evaluate.answers(task, model, stop=lambda: True) is None


@pytest.mark.parametrize("call", CALLS)
def test_only_held_out_rows_are_asked_and_shots_are_training_rows(call):
    c = small(call)
    task = opened(call, c)
    source = registry.build("data.sources", task.source, c)
    train, valid = ({json.dumps(row, sort_keys=True) for row in side} for side in (source.train, source.valid))
    said = lambda problems: {json.dumps(dict(problem.row), sort_keys=True) for problem in problems}
    assert said(task.problems) <= valid
    assert not said(task.problems) & train
    assert all(said(shots) <= train for shots in task.shots)
    assert len(task.problems) == task.task.asking.problems and len(task.shots) == len(task.problems)


def test_right_answers_in_other_words_count():
    task = opened("countdown(problems=6)")
    known = [(problem.row, f"{problem.answers[0]} = {problem.row['target']}") for problem in task.problems]
    assert task.task.verify(known) == [1.0] * 6
    assert task.task.verify([(row, "1+1") for row, _ in known]) == [0.0] * 6


@pytest.mark.parametrize("score", ["raw", "bytes", "unconditional"])
def test_options_are_compared_by_their_likelihood(score, tmp_path):
    rows = [{"prompt": f"{n} and", "options": ["one", f"{n} two", UNLIKELY], "class": n % 3} for n in range(9)]
    call = f"jsonl(path={written(tmp_path, rows)!r}, options=True, problems=0, score={score!r})"
    task, model = opened(call), judged(C)
    found = evaluate.answers(task, model)

    def log_prob(prompt: str, option: str) -> float:
        before = list(prompt.encode()) or [256]
        (given,) = likelihoods(model.decoder, [[*before, *option.encode()]])
        return sum(given.logprobs[len(before) - 1 :])

    assert len(found.answered) >= 1
    for one in found.answered:
        prompt, options = one.problem.prompt, one.problem.options
        scores = np.array([log_prob(prompt, option) for option in options])
        if score == "bytes":
            scores /= [len(option.encode()) for option in options]
        if score == "unconditional":
            scores -= [log_prob("", option) for option in options]
        assert one.texts == (options[scores.argmax()],)
        shares = np.exp(scores - scores.max())
        np.testing.assert_allclose(one.probabilities, shares / shares.sum(), atol=1e-4)
        assert one.correct == (float(scores.argmax() == one.problem.right),)


def test_scores_can_disagree(tmp_path):
    """A long option loses by its sum and may win by byte: the three scores are not one."""
    rows = [{"prompt": f"{n}:", "options": ["a", "bcd efg " * 4], "class": 0} for n in range(12)]
    path, said = written(tmp_path, rows), {}
    for score in ("raw", "bytes", "unconditional"):
        task = opened(f"jsonl(path={path!r}, options=True, problems=0, score={score!r})")
        said[score] = [one.texts for one in evaluate.answers(task, judged(C)).answered]
    assert said["raw"] != said["bytes"] or said["raw"] != said["unconditional"]


def test_shots_are_the_same_for_all_or_drawn_for_each():
    same, each = opened("arithmetic(problems=8, shots=3)"), opened("arithmetic(problems=8, shots=3, each=True)")
    assert len(set(map(str, same.shots))) == 1 and len(set(map(str, each.shots))) == 8
    assert opened("arithmetic(problems=8, shots=3)").shots == same.shots
    assert opened("arithmetic(problems=8, shots=3, seed=1)").shots != same.shots
    more = opened("arithmetic(problems=8, shots=3, each=True, samples=2, temperature=1.0)")
    assert more.shots == each.shots and more.digest != each.digest


def test_shots_are_turns_of_a_dialogue_or_one_text():
    c = config(model__context=1024, data__template="chatml")
    model = judged(c)
    task = opened("arithmetic(problems=2, shots=2)", c)
    text = model.tokenizer.decode(model.prompting(task.task.asking).prompts(task.problems, task.shots)[0])
    first = task.shots[0][0]
    assert text.count("<|im_start|>user") == 3 and text.endswith("<|im_start|>assistant\n")
    assert f"{first.prompt}<|im_end|>\n<|im_start|>assistant\n{first.answers[0]}<|im_end|>" in text

    task = opened("arithmetic(problems=2, shots=2, delimiter='\\n', gap=' ')")
    prompting = judged(C).prompting(task.task.asking)
    text = judged(C).tokenizer.decode(prompting.prompts(task.problems, task.shots)[0])
    one, other = task.shots[0]
    expected = f"{one.prompt} {one.answers[0]}\n{other.prompt} {other.answers[0]}\n{task.problems[0].prompt}"
    assert text == expected
    found = evaluate.answers(task, judged(C))
    assert all("\n" not in said for answer in found.answered for said in answer.texts)


def test_what_stands_before_an_answer_is_the_same_with_and_without_it():
    for c in (C, config(model__context=1024, data__template="chatml")):
        for call in ("arithmetic(problems=3, shots=2)", "dialogue(problems=3, delimiter='\\n\\n')"):
            task, model = opened(call, c), judged(c)
            prompting = model.prompting(task.task.asking)
            before = prompting.prompts(task.problems, task.shots)
            prompts, answers = zip(*((one.prompt, one.answers[0]) for one in task.problems), strict=True)
            whole = prompting.answered(prompts, task.shots, answers)
            assert [ids[: len(ids) - count] for ids, count in whole] == before
            assert [model.tokenizer.decode(ids[-count:]) for ids, count in whole] == list(answers)


def test_an_answer_depends_on_its_own_problem_alone():
    many, few = opened("arithmetic(problems=0)"), opened("arithmetic(problems=0)")
    few = dataclasses.replace(few, problems=many.problems[:3], shots=many.shots[:3])
    whole = evaluate.answers(dataclasses.replace(many, problems=many.problems[:9], shots=many.shots[:9]), judged(C))
    assert [one.texts for one in evaluate.answers(few, judged(C)).answered] == [one.texts for one in whole.answered[:3]]


def test_groups_have_figures_of_their_own():
    task = opened("dialogue(problems=40, max_new_tokens=1)")
    found = evaluate.answers(task, judged(C))
    figures = evaluate.figures(task, found)
    groups = {name: figure.problems for name, figure in figures.items() if name.startswith("exact/distance=")}
    assert len(groups) > 2 and sum(groups.values()) == figures["exact"].problems == 40


def test_two_models_are_compared_on_the_problems_that_both_have_answered():
    task = opened("translation(source=\"translation(pair='toy')\", problems=30, max_new_tokens=4)")
    other = evaluate.answers(task, judged(C))
    one = Answers(other.numbers, tuple(right(given) if i % 3 else given for i, given in enumerate(other.answered)))
    found = evaluate.differences(task, one, other)
    values = [evaluate.values(task, given) for given in (one, other)]
    assert {n: f.value for n, f in found.items()} == pytest.approx({n: values[0][n] - values[1][n] for n in values[0]})
    assert found["chrf"].low < found["chrf"].value < found["chrf"].high
    fewer = other.only(range(20))
    assert evaluate.differences(task, one, fewer)["exact"].problems == 20
    assert all(figure.value == 0 for figure in evaluate.differences(task, one, one).values())


def test_the_toy_language_is_asked_in_pairs_that_were_never_seen():
    """Subjects with verbs, whatever their number, object and adjectives; each of them alone was seen."""
    task = opened("translation(source=\"translation(pair='toy')\", problems=0)")
    seen = {_subject_and_verb(row["prompt"].split()) for row in registry.build("data.sources", task.source, C).train}
    asked = {_subject_and_verb(problem.prompt.split()) for problem in task.problems}
    assert len(asked) > 3 and not asked & seen
    subjects, verbs = zip(*seen, strict=True)
    assert all(subject in subjects and verb in verbs for subject, verb in asked)


def _subject_and_verb(words):
    """The numbers of the two in the made-up language's lists."""
    at, verb = next((i, v) for i, word in enumerate(words) for v, forms in enumerate(VERBS) if word in forms[:2])
    return next(n for n, forms in enumerate(NOUNS) if words[at - 1] in forms[:2]), verb


def test_the_runs_own_source_says_what_is_held_out():
    c = config(data__source=((1.0, "arithmetic(digits=1)"), (1.0, "countdown(numbers=4)")))
    assert opened("countdown(problems=2)", c).source == "countdown(numbers=4)"
    assert opened("dialogue(problems=2)", c).source == "dialogue"
    assert opened("countdown(problems=2, source='countdown(numbers=2)')", c).source == "countdown(numbers=2)"


def test_problems_that_are_too_long_are_left_out_and_counted():
    c = config(model__context=16)
    task = opened("arithmetic(source='arithmetic(digits=6)', problems=60)", c)
    found = evaluate.answers(task, judged(c))
    assert 0 < len(found.answered) < 60 and list(found.numbers) == sorted(found.numbers)
    with pytest.raises(UserError, match=r"shots = 3 .* do not fit") as refusal:
        evaluate.answers(opened("arithmetic(source='arithmetic(digits=6)', problems=60, shots=3)", c), judged(c))
    assert "without any, the longest" in refusal.value.allowed
    with pytest.raises(UserError, match="no problem of dialogue"):
        evaluate.answers(opened("dialogue(problems=3)", c), judged(c))


def test_what_is_written_by_hand():
    text = "a, b(x=(1, 2), y='p,q:'),c:shots=4:samples=2,d:source='e(f=3, g=\":\")'"
    calls = ("a", "b(x=(1, 2), y='p,q:')", "c(shots=4, samples=2)", "d(source='e(f=3, g=\":\")')")
    assert calls_of(words_of(text)) == calls
    assert names_of(["a", "b(x=1)", "a(x=2)", "a"]) == ["a", "b", "a_2", "a_3"]


@pytest.mark.parametrize(
    "row, answers, options",
    [
        ({"prompt": "p", "completion": "c"}, ("c",), ()),
        ({"prompt": "p", "answer": 4}, ("4",), ()),
        ({"prompt": "p", "answers": ["a", "b"]}, ("a", "b"), ()),
        ({"messages": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "c"}]}, ("c",), ()),
        ({"prompt": "p", "options": ["x", "y"], "class": 1}, ("y",), ("x", "y")),
        ({"prompt": "p", "options": ["x", "y"], "class": "x"}, ("x",), ("x", "y")),
        ({"prompt": "p", "chosen": "x", "rejected": "y"}, ("x",), ("x", "y")),
        ({"text": "t", "class": 0}, ("no",), ("no", "yes")),
    ],
)
def test_users_rows_of_every_shape(row, answers, options, tmp_path):
    filling = [{**row, "id": n} for n in range(6)]
    names = ", names=['no', 'yes']" if "text" in row else ", options=True" if options else ""
    task = opened(f"jsonl(path={written(tmp_path, filling)!r}, problems=0{names})")
    assert {(one.answers, one.options) for one in task.problems} == {(answers, options)}
    assert evaluate.values(task, evaluate.answers(task, judged(C))).keys() >= {"accuracy" if options else "exact"}
