"""Tasks of lm-eval: every number is that of the harness's own model of the exported run, and of the plain forward pass."""

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from lm_eval.api.instance import Instance

import gpt_jax
import launch
from gpt_jax import api
from gpt_jax.config import Config
from gpt_jax.data.rendering import Writer, template_of
from gpt_jax.errors import UserError
from gpt_jax.run_directory import read_config
from gpt_jax.study.lm_eval import asked, evaluate, local
from gpt_jax.study.lm_eval import model as models
from tests.study.report.test_report import Page
from tests.train import tiny

CONTEXT = 48


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tasks")
    local.write(folder, rows=5, length=500)
    return folder


@pytest.fixture(scope="module")
def run(tasks, tmp_path_factory):
    return made(tasks, tmp_path_factory.mktemp("runs"), CONTEXT)


def made(tasks: Path, folder: Path, context: int) -> Path:
    """A run whose random weights are large enough for its texts to differ, with tokens of several letters and a template."""
    workdir, text = folder / "tiny", folder / "text.txt"
    rows = [json.loads(line) for path in sorted(tasks.glob("*_train.jsonl")) for line in path.read_text().splitlines()]
    text.write_text("".join(f"{row.get('text', '')}{row.get('prompt', '')}{row.get('answer', '')}\n" for row in rows))
    changes = {
        "train__steps": 2,
        "train__batch": 8,
        "model__init": "gpt2(std=0.5)",
        "model__context": context,
        "model__position": "rope",
    }
    changes |= {"data__tokenizer": "bpe(vocab_size=300)", "data__template": "chatml", "model__width": 32}
    assert launch.main(tiny.command(text, workdir, **changes)) == 0
    return workdir


def samples(folder: Path) -> dict:
    """Task -> document -> what was answered to its requests."""
    found = {}
    for path in sorted(folder.glob("samples_*.jsonl")):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        name = path.name.removeprefix("samples_").rsplit("_", 1)[0]
        found[name] = {row["doc_id"]: (row["arguments"], row["filtered_resps"]) for row in rows}
    return found


@pytest.fixture(scope="module")
def ours(run, tasks):
    assert launch.main(["eval", f"--workdir={run}", f"--tasks=lm_eval:{tasks}"]) == 0
    return samples(run / "eval" / "2")


@pytest.fixture
def lm(run):
    return opened(run)


def opened(run, **changes):
    config = Config.from_dict(read_config(run) | changes)
    model = api.opened(config, run)
    return evaluate.model_of(config, model.params, model.tokenizer, {"model": "gpt_jax"})


def ask(kind, *args, task="t"):
    return Instance(kind, {}, args, 0, metadata=(task, 0, 1))


def loglikelihood(lm, *pairs):
    return lm.loglikelihood([ask("loglikelihood", *pair) for pair in pairs])


def compare(ours: dict, theirs: dict) -> tuple[int, int]:
    """How many numbers and texts are the same as those that the harness has of another model; one that is not fails."""
    compared = texts = 0
    for task, documents in ours.items():
        for row in theirs["samples"][task]:
            for own, other in zip(documents[row["doc_id"]][1], row["filtered_resps"], strict=True):
                if isinstance(other, str):
                    assert own == other, (task, row["doc_id"])
                    texts += 1
                elif isinstance(other, tuple):
                    np.testing.assert_allclose(float(own[0]), other[0], atol=1e-4, err_msg=task)
                    assert json.loads(str(own[1]).lower()) == other[1]
                    compared += 1
                else:
                    np.testing.assert_allclose(float(own), other, rtol=1e-6, atol=1e-4, err_msg=task)
                    compared += 1
    return compared, texts


def test_every_log_likelihood_is_that_of_a_plain_forward_pass(run, ours, lm):
    model = gpt_jax.load(run)
    too_long = 0
    for task in ("gpt_jax_stories", "gpt_jax_stories_late"):
        for arguments, answers in ours[task].values():
            for asked_for, (said, _) in zip(arguments.values(), answers, strict=True):
                before = model.tokenizer.encode(asked_for["arg_0"]).tolist()
                whole = model.tokenizer.encode(asked_for["arg_0"] + asked_for["arg_1"]).tolist()
                too_long += len(whole) > CONTEXT + 1
                nats = np.asarray(model.loss(whole[-(CONTEXT + 1) :]))
                np.testing.assert_allclose(float(said), -nats[-(len(whole) - len(before)) :].sum(), atol=1e-4)
    assert too_long >= 20
    for arguments, (said,) in ours["gpt_jax_stories_perplexity"].values():
        ids = model.tokenizer.encode(arguments["gen_args_0"]["arg_0"]).tolist()
        whole, total = [model.tokenizer.separator, *ids], 0.0
        for end in range(1, len(whole), CONTEXT):  # as the harness does: a token is in the first window that has it
            last = min(end + CONTEXT, len(whole))
            begin = end - 1 if last - end == CONTEXT else max(0, last - CONTEXT - 1)
            total -= float(np.asarray(model.loss(whole[begin:last]))[-(last - end) :].sum())
        np.testing.assert_allclose(float(said), total, rtol=1e-5)


def test_batches_make_no_difference(lm, monkeypatch):
    pairs = [("Mary went to", " the shop"), ("", "Mary"), ("John " * 40, "took"), ("Is Mary in the hall?", " yes")]
    together = loglikelihood(lm, *pairs)
    monkeypatch.setattr(models.likelihood, "AT_ONCE", 1)
    for pair, (logprob, greedy) in zip(pairs, together, strict=True):
        ((alone, alike),) = loglikelihood(lm, pair)
        assert math.isclose(alone, logprob, abs_tol=1e-5) and alike is greedy


def test_an_empty_context_is_the_token_between_documents(lm, run):
    model = gpt_jax.load(run)
    ids = model.tokenizer.encode("Mary").tolist()
    expected = -float(np.asarray(model.loss([model.tokenizer.separator, *ids])).sum())
    spelt = model.tokenizer.decode([model.tokenizer.separator])
    for pair in (("", "Mary"), ("", f"{spelt}Mary"), (spelt, "Mary")):
        assert math.isclose(loglikelihood(lm, pair)[0][0], expected, abs_tol=1e-5)


def test_spaces_at_the_end_of_a_context_belong_to_the_continuation(lm):
    one, other, alone, joined = loglikelihood(
        lm, ("Mary  ", "took"), ("Mary", "  took"), ("  ", "took"), ("", "  took")
    )
    assert one == other and alone == joined


def test_what_happens_at_the_edges_is_counted(lm):
    assert loglikelihood(lm, ("Mary", "")) == [(0.0, True)]
    assert loglikelihood(lm, ("", "")) == [(0.0, True)]
    assert lm.noted[models.EMPTY] == 2
    loglikelihood(lm, ("Mary " * 60, "took"))
    assert lm.noted[models.CUT] == 1
    text = "The cat was in the garden"
    border = next(i for i in range(1, len(text)) if _spans(lm, text, i))
    loglikelihood(lm, (text[:border], text[border:]))
    assert lm.noted[models.SPANNED] == 1
    with pytest.raises(UserError, match="longer than the context"):
        loglikelihood(lm, ("Mary", " went" * 60))


def _spans(lm, text, at):
    before = lm.tok_encode(text[:at])
    return not text[at - 1].isspace() and lm.tok_encode(text)[: len(before)] != before


def test_greedy_is_what_greedy_decoding_writes(lm, run):
    before = lm.tok_encode("Mary went")
    ids = gpt_jax.load(run).generate(before, max_new_tokens=6, temperature=0.0, ignore_eos=True).ids
    other = [*ids[:-1], (ids[-1] + 1) % 200]
    answers = lm._loglikelihood_tokens([(None, before, ids), (None, before, other)])
    assert [greedy for _, greedy in answers] == [True, False]
    (text,) = lm.generate_until([ask("generate_until", "Mary went", {"max_gen_toks": 6, "until": []})])
    assert lm._spelling.decode(ids).startswith(text)


def test_texts_end_before_the_first_stop(lm):
    (whole,) = lm.generate_until([ask("generate_until", "Mary went", {"max_gen_toks": 20, "until": []})])
    middle, later = whole[3:5], whole[7:9]
    given = [{"max_gen_toks": 20, "until": until} for until in (middle, [later, middle], [middle, later])]
    found = lm.generate_until([ask("generate_until", "Mary went", kwargs) for kwargs in given])
    assert found == [whole.split(middle)[0].split(later)[0] if i else whole.split(middle)[0] for i in range(3)]
    assert given[1] == {"max_gen_toks": 20, "until": [later, middle]}  # they are the task's, and shared


def test_samples_depend_on_their_number_alone(lm):
    drawn = {"max_gen_toks": 8, "until": [], "do_sample": True, "temperature": 1.0}
    first, second = lm.generate_until([ask("generate_until", "Mary", drawn)] * 2)
    assert first != second
    assert lm.generate_until([ask("generate_until", "Mary", drawn)] * 2) == [first, second]


@pytest.mark.parametrize(
    "kwargs, what",
    [
        ({"max_gen_toks": CONTEXT}, "leaves no room"),
        ({"temperatur": 1.0}, "has 'temperatur'"),
        ({"do_sample": True, "top_p": 2.0}, "top_p"),
    ],
)
def test_settings_that_cannot_be_followed_are_named(lm, kwargs, what):
    with pytest.raises(UserError, match=what) as error:
        lm.generate_until([ask("generate_until", "Mary", kwargs, task="mine")])
    assert "mine" in error.value.where


def test_a_chat_has_the_ids_of_the_run_s_own_dialogues(lm, run):
    config = Config.from_dict(read_config(run))
    model = gpt_jax.load(run)
    messages = [{"role": "user", "content": "Where is Mary?"}, {"role": "assistant", "content": "shop"}]
    messages += [{"role": "user", "content": "And John?"}]
    (written,) = Writer(template_of(config), model.tokenizer).write([messages], answer=True)
    assert lm.tok_encode(lm.apply_chat_template(messages)) == written.ids.tolist()
    begun = lm.apply_chat_template([*messages, {"role": "assistant", "content": "In the"}], add_generation_prompt=False)
    assert begun == lm.apply_chat_template(messages) + "In the"
    assert lm.tokenizer_name.endswith("-chatml")


def test_the_verb_prints_and_writes_what_the_harness_does(run, tasks, tmp_path, capsys):
    folder = tmp_path / "run"
    folder.symlink_to(run)
    chosen = f"lm_eval:{tasks}/stories.yaml:shots=2:limit=3,lm_eval:{tasks}/sums.yaml:chat:limit=2"
    assert launch.main(["eval", f"--workdir={folder}", f"--tasks={chosen}"]) == 0
    said = capsys.readouterr().out
    assert "|gpt_jax_stories|" in said.replace(" ", "") and "acc_norm" in said
    paths = [Path(line) for line in said.splitlines() if line.endswith(".json")]
    results = [json.loads(path.read_text()) for path in paths]
    by_task = {next(iter(result["results"])): result for result in results}
    stories, sums = by_task["gpt_jax_stories"], by_task["gpt_jax_sums"]
    assert stories["n-shot"]["gpt_jax_stories"] == 2 and stories["n-samples"]["gpt_jax_stories"]["effective"] == 3
    assert stories["config"]["model"] == "gpt_jax" and stories["config"]["model_args"]["step"] == 2
    assert "<|im_start|>" in sums["chat_template"]
    values = stories["results"]["gpt_jax_stories"]
    figure = f"{values['acc,none']:.4g} ± {values['acc_stderr,none']:.2g}"
    assert launch.main(["report", f"--workdir={folder}"]) == 0
    shown = Page((folder / "report.html").read_text()).text
    assert f"lm_eval:gpt_jax_stories acc {figure} 3 " in shown and "lm_eval:gpt_jax_sums exact_match" in shown


@pytest.mark.parametrize(
    "words, what",
    [
        (",", "no task is named"),
        ("lm_eval:", "names no task"),
        ("lm_eval:x:shots=many", "has the option"),
        ("lm_eval:x:limit=0", "has the option"),
        ("lm_eval:no/such/place", "there is no file or directory"),
        ("lm_eval:{empty}", "is a task"),
        ("lm_eval:{broken}", "cannot load"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(run, tmp_path, capsys, words, what):
    places = {name: tmp_path / name for name in ("empty", "broken")}
    for place in places.values():
        place.mkdir()
    (places["broken"] / "t.yaml").write_text(
        "task: t\ndataset_path: json\ndataset_kwargs: {data_files: nowhere.jsonl}\n"
    )
    assert launch.main(["eval", f"--workdir={run}", f"--tasks={words.format(**places)}"]) == 2
    assert what in capsys.readouterr().err


def test_an_unknown_name_gets_those_like_it(run, capsys):
    assert launch.main(["eval", f"--workdir={run}", "--tasks=lm_eval:hellaswagg"]) == 2
    said = capsys.readouterr().err
    assert "no task 'hellaswagg'" in said and "did you mean 'hellaswag" in said


def test_the_package_is_named_where_it_is_missing(run, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    assert launch.main(["eval", f"--workdir={run}", "--tasks=lm_eval:x"]) == 2
    assert "pip install" in capsys.readouterr().err


def test_a_run_without_a_tokenizer_is_refused(run):
    model = gpt_jax.load(run)
    with pytest.raises(UserError, match="no tokenizer"):
        evaluate.model_of(model.config, model.params, None, {})


def test_words_are_read():
    assert asked.asked(["lm_eval:a:shots=0:chat"]) == [asked.Asked("a", shots=0, chat=True)]
