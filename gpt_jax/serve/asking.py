"""From the fields of a request to the texts that it asks for."""

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from gpt_jax.data.templates import ASSISTANT, ROLES, SYSTEM, Message
from gpt_jax.errors import UserError
from gpt_jax.limits import folded
from gpt_jax.sample import knobs
from gpt_jax.sample.outputs.requests import APART
from gpt_jax.sample.outputs.stream import StopStrings
from gpt_jax.sample.prompts import Prompt, encoded, prompt_of
from gpt_jax.sample.rows import Sampling
from gpt_jax.serve.faults import Fault, of_user_error, unsupported, wrong
from gpt_jax.serve.moderation.filters import Rule, forbidden
from gpt_jax.serve.runs import READY, ServedRun
from gpt_jax.serve.settings import Bounds
from gpt_jax.serve.tickets import Text

COMPLETION = 16  # tokens of a completion whose request names no number (OpenAI's default)
LEAST = 1e-6  # in place of top_p = 0, which leaves the most likely token alone
DEVELOPER = "developer"  # what OpenAI calls the system of some models
PROMPT = "a text, a list of texts, a list of token ids, or a list of such lists"


def chat_texts(run: ServedRun, fields: Mapping[str, Any], bounds: Bounds, rules: Sequence[Rule]) -> list[Text]:
    """The texts that a chat asks for: n answers to one dialogue.

    Raises:
      Fault: the run has no template, or the fields are not in order.
    """
    if run.writer is None:
        what = f"The model {run.name!r} was trained without a chat template; /v1/completions continues texts."
        raise Fault(400, what, param="model", code="no_chat_template")
    if "messages" not in fields:
        raise wrong("messages", "it is missing")
    messages = _messages(fields["messages"], bounds)
    _check_rules(rules, [message["content"] for message in messages], "messages")
    try:
        prompt = prompt_of(messages, "messages", run.tokenizer, run.writer)
    except UserError as error:
        raise of_user_error(error, "messages") from None
    if "top_logprobs" in fields and not fields.get("logprobs"):
        raise wrong("top_logprobs", "it needs logprobs", "logprobs = true beside it")
    top = fields.get("top_logprobs", 0) if fields.get("logprobs") else None
    wanted = fields.get("max_completion_tokens", fields.get("max_tokens"))
    limit = _limit(run, prompt, wanted, run.context, "messages")
    return _copies(run, prompt, "", limit, fields, top)


def completion_texts(
    run: ServedRun, fields: Mapping[str, Any], bounds: Bounds, rules: Sequence[Rule]
) -> tuple[list[Prompt], list[Text]]:
    """The prompts of a completion, and the texts that it asks for: n of each prompt.

    Raises:
      Fault: the fields are not in order.
    """
    if "prompt" not in fields:
        raise wrong("prompt", "it is missing", PROMPT)
    prompts = _prompts(run, fields["prompt"], bounds)
    if len(prompts) * fields.get("n", 1) > bounds.texts:
        raise wrong("n", "too many texts", f"prompts times n up to {bounds.texts}")
    before = [run.tokenizer.decode(prompt.ids) if prompt.text is None else prompt.text for prompt in prompts]
    _check_rules(rules, before, "prompt")
    echo, top = fields.get("echo", False), fields.get("logprobs")
    texts: list[Text] = []
    for prompt, as_text in zip(prompts, before, strict=True):
        limit = _limit(run, prompt, fields.get("max_tokens"), COMPLETION, "prompt")
        texts += _copies(run, prompt, as_text, limit, fields, top, echo and top is not None)
    return prompts, texts


def _copies(
    run: ServedRun,
    prompt: Prompt,
    before: str,
    limit: int,
    fields: Mapping[str, Any],
    top: int | None,
    reads: bool = False,
) -> list[Text]:
    """The samples of one prompt, each with a seed of its own; sample 0 has the request's."""
    sampling, stops = _sampling(run, fields), StopStrings(fields.get("stop", ()))
    seed = fields.get("seed", None)
    first = secrets.randbits(32) if seed is None else folded(seed % 2**64)
    given = (prompt.ids, before, prompt.text is not None, limit, sampling)
    return [Text(*given, (first + i * APART) % 2**32, stops, top, reads) for i in range(fields.get("n", 1))]


def _sampling(run: ServedRun, fields: Mapping[str, Any]) -> Sampling:
    given = {name: fields[name] for name in READY if name in fields}
    if given.get("top_k") == -1:
        given["top_k"] = 0
    if given.get("top_p") == 0:
        given["top_p"] = LEAST
    try:
        return knobs.sampling(run.vocabulary, **given)
    except UserError as error:
        raise of_user_error(error, error.where.rpartition(".")[2] or "sampling") from None


def _limit(run: ServedRun, prompt: Prompt, wanted: int | None, otherwise: int, param: str) -> int:
    """How many tokens may be written; without a wish, no more than the context has room for.

    Raises:
      Fault: the model cannot read the prompt, or they do not fit.
    """
    outside = next((i for i in prompt.ids if not 0 <= i < run.vocabulary.size), None)
    if outside is not None:
        raise wrong(param, f"token id {outside} is outside the vocabulary", f"0 to {run.vocabulary.size - 1}")
    room = run.context - len(prompt.ids)
    if room < (1 if wanted is None else wanted):
        what = (
            f"This model's context is {run.context} tokens. The prompt has {len(prompt.ids)}, and "
            f"{1 if wanted is None else wanted} more were asked for."
        )
        raise Fault(400, what, param=param, code="context_length_exceeded")
    return min(otherwise, room) if wanted is None else wanted


def _messages(given: Any, bounds: Bounds) -> list[Message]:
    if not isinstance(given, list) or not given:
        raise wrong("messages", "it is no list of messages", '[{"role": "user", "content": "…"}]')
    if len(given) > bounds.messages:
        raise wrong("messages", f"there are {len(given)}", f"up to {bounds.messages}")
    return [_message(message, f"messages[{i}]") for i, message in enumerate(given)]


def _message(given: Any, where: str) -> Message:
    if not isinstance(given, dict):
        raise wrong(where, "it is no object", '{"role": …, "content": …}')
    role = SYSTEM if given.get("role") == DEVELOPER else given.get("role")
    if role in ("tool", "function"):
        raise unsupported(f"{where}.role", "models here call no tools")
    if role not in ROLES:
        raise wrong(f"{where}.role", "there is no such role", ", ".join(ROLES))
    for name, value in given.items():
        if name not in ("role", "content", "name") and value not in (None, []):
            raise unsupported(f"{where}.{name[:100]}", "a message is a role and a content")
    return {"role": role, "content": _content(given.get("content"), role, f"{where}.content")}


def _content(given: Any, role: str, where: str) -> str:
    if given is None and role == ASSISTANT:
        return ""
    parts = [{"type": "text", "text": given}] if isinstance(given, str) else given
    if not isinstance(parts, list) or not parts:
        raise wrong(where, "it is neither a text nor a list of text parts")
    for part in parts:
        if isinstance(part, dict) and part.get("type") != "text":
            raise unsupported(where, "models here read text alone")
        if not isinstance(part, dict) or part.keys() - {"type", "text"} or not isinstance(part.get("text"), str):
            raise wrong(where, "a part is no text part", '{"type": "text", "text": "…"}')
    return "".join(part["text"] for part in parts)


def _prompts(run: ServedRun, given: Any, bounds: Bounds) -> list[Prompt]:
    several = isinstance(given, list) and given and not isinstance(given[0], int)
    each = given if several else [given]
    if len(each) > bounds.texts:
        raise wrong("prompt", f"there are {len(each)}", f"up to {bounds.texts}")
    return [_prompt(run, one) for one in each]


def _prompt(run: ServedRun, given: Any) -> Prompt:
    if isinstance(given, str):
        try:
            return encoded(given, "prompt", run.tokenizer)
        except UserError as error:
            raise of_user_error(error, "prompt") from None
    whole = isinstance(given, list) and given and all(isinstance(i, int) and not isinstance(i, bool) for i in given)
    if not whole:
        raise wrong("prompt", "it is no such thing", PROMPT)
    return Prompt(given, None, "prompt")


def _check_rules(rules: Sequence[Rule], texts: Sequence[str], param: str) -> None:
    broken = next((rule for text in texts if (rule := forbidden(rules, text))), None)
    if broken is not None:
        raise Forbidden(broken, param)


class Forbidden(Fault):
    """A prompt that a rule does not let pass."""

    def __init__(self, rule: Rule, param: str):
        super().__init__(400, "The prompt was refused by the content filter.", param=param, code="content_filter")
        self.rule = rule
