"""From the knobs that people know (``config.sample``) to processors, and the order in which these run."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from gpt_jax import registry
from gpt_jax.config import SampleConfig
from gpt_jax.errors import UserError, did_you_mean
from gpt_jax.sample.constraints import words
from gpt_jax.sample.decode import Sampling
from gpt_jax.sample.engine.guidance import Guidance
from gpt_jax.sample.processors import Processor, Vocabulary

KIND = "sample.processors"
WHERE = "config.sample.processors"


@dataclass(frozen=True)
class Knob:
    """A plain knob: the processor that it stands for, the arguments that its value gives, and the value at which it is off.

    Several arguments take a tuple of as many values.
    """

    processor: str
    arguments: tuple[str, ...]
    off: Any

    def values(self, value: Any) -> dict[str, Any]:
        """The arguments of the processor.

        Raises:
          UserError: several are needed, and there is another number of values.
        """
        given = value if len(self.arguments) > 1 else [value]
        if len(given) != len(self.arguments):
            needed = f"{len(self.arguments)}: {', '.join(self.arguments)}"
            raise UserError(f"{self.processor}: {value!r} holds {len(given)} values", where="sample", allowed=needed)
        return dict(zip(self.arguments, given, strict=True))


KNOBS: dict[str, Knob] = {
    "temperature": Knob("temperature", ("t",), 1.0),
    "top_k": Knob("top_k", ("k",), 0),
    "top_p": Knob("top_p", ("p",), 1.0),
    "min_p": Knob("min_p", ("p",), 0.0),
    "typical_p": Knob("typical", ("mass",), 1.0),
    "epsilon_cutoff": Knob("epsilon", ("cutoff",), 0.0),
    "eta_cutoff": Knob("eta", ("cutoff",), 0.0),
    "repetition_penalty": Knob("repetition", ("penalty",), 1.0),
    "presence_penalty": Knob("presence", ("penalty",), 0.0),
    "frequency_penalty": Knob("frequency", ("penalty",), 0.0),
    "no_repeat_ngram_size": Knob("no_repeat_ngram", ("size",), 0),
    "min_new_tokens": Knob("min_new_tokens", ("tokens",), 0),
    "exponential_decay_length_penalty": Knob("exponential_decay", ("start", "factor"), ()),
    "logit_bias": Knob("bias", ("words",), ()),
    "bad_words": Knob("bad_words", ("words",), ()),
    "allowed_words": Knob("allowed_words", ("words",), ()),
    "suppress_tokens": Knob("suppress", ("words",), ()),
}

# Orders by name: docs/sampling.md says where they come from. "…" is where processors go that an order does not name.
ORDERS: dict[str, tuple[str, ...]] = {
    "huggingface": (
        "bias", "repetition", "frequency", "presence", "dry", "no_repeat_ngram", "bad_words", "min_new_tokens",
        "allowed_words", "regex", "json_schema", "automaton", "forced_words", "exponential_decay", "suppress", "…",
        "temperature", "top_n_sigma", "top_k", "top_p", "min_p", "typical", "epsilon", "eta", "xtc", "mirostat", "watermark",
    ),
    "vllm": (
        "suppress", "allowed_words", "regex", "json_schema", "automaton", "bad_words", "forced_words", "min_new_tokens",
        "bias", "repetition", "frequency", "presence", "dry", "no_repeat_ngram", "exponential_decay", "…",
        "temperature", "min_p", "top_n_sigma", "top_k", "top_p", "typical", "epsilon", "eta", "xtc", "mirostat", "watermark",
    ),
    "llama_cpp": (
        "bias", "bad_words", "suppress", "allowed_words", "regex", "json_schema", "automaton", "forced_words",
        "min_new_tokens",
        "repetition", "frequency", "presence", "no_repeat_ngram", "exponential_decay", "dry", "…",
        "top_n_sigma", "top_k", "typical", "top_p", "min_p", "epsilon", "eta", "xtc", "temperature", "mirostat", "watermark",
    ),
}  # fmt: skip


def sampling(
    given: Vocabulary,
    *,
    processors: Sequence[str] = (),
    order: str = "huggingface",
    guidance_scale: float = 1.0,
    negative_prompt: str | Sequence[int] = "",
    **knobs: Any,
) -> Sampling:
    """How tokens are drawn, by plain knobs and further processors.

    Args:
      processors: calls, as "mirostat(tau=5.0)".
      guidance_scale, negative_prompt: see ``gpt_jax.sample.engine.guidance``; a text begins as prompts do. A scale of 1 is
        off.
      knobs: by the names of ``KNOBS``; those left out are off. A temperature of 0 is greedy.

    Raises:
      UserError: there is no such knob, processor or order, a value is out of its limits, or lists of words contradict.
    """
    for name in knobs:
        if name not in KNOBS:
            known = did_you_mean(name, KNOBS)
            raise UserError(f"there is no knob {name!r}", where="sample", allowed=", ".join(KNOBS), fix=known)
    greedy = "temperature" in knobs and knobs["temperature"] == 0
    if greedy:
        del knobs["temperature"]
    asked = {name: value for name, value in knobs.items() if value != KNOBS[name].off}
    plain = [(KNOBS[name].processor, KNOBS[name].values(value)) for name, value in asked.items()]
    calls = [registry.parse(call, WHERE, KIND) for call in processors]
    built = [(name, _built(given, name, arguments)) for name, arguments in (*plain, *calls)]
    words.check(given, (*plain, *calls))
    guided = None if guidance_scale == 1 else Guidance(guidance_scale, negative(given, negative_prompt))
    return Sampling(tuple(ordered(built, order)), greedy, given.stop_ids, guided)


def negative(given: Vocabulary, prompt: str | Sequence[int]) -> tuple[int, ...]:
    """The token ids of a negative prompt; none of an empty one.

    Raises:
      UserError: it is not of this vocabulary.
    """
    where = "sample.negative_prompt"
    opening = given.tokenizer.opening if isinstance(prompt, str) and given.tokenizer is not None else ()
    return (*opening, *given.ids(prompt, where)) if len(prompt) else ()


def of_config(sample: SampleConfig, given: Vocabulary) -> Sampling:
    """What ``config.sample`` says."""
    knobs = {name: getattr(sample, name) for name in KNOBS}
    knobs |= {name: getattr(sample, name) for name in ("processors", "order", "guidance_scale", "negative_prompt")}
    return sampling(given, **knobs)


def ready(given: Vocabulary, order: str) -> tuple[Processor, ...]:
    """A processor for every knob that is a number, in order: a decoder that holds them compiles no more when one is set."""
    plain = {knob.processor for knob in KNOBS.values() if not isinstance(knob.off, tuple)}
    calls = [registry.parse(registry.typical(KIND, name)) for name in registry.names(KIND) if name in plain]
    return tuple(ordered([(name, _built(given, name, arguments)) for name, arguments in calls], order))


def negative_tokens(sample: SampleConfig, given: Vocabulary) -> int:
    """How many tokens ``sample`` has new ones follow besides the prompt's."""
    return 0 if sample.guidance_scale == 1 else len(negative(given, sample.negative_prompt))


def ordered(built: Iterable[tuple[str, Processor]], order: str) -> list[Processor]:
    """Processors, each with its name, in an order. Those with one place stay as they are.

    Raises:
      UserError: there is no such order.
    """
    if order not in ORDERS:
        raise UserError(f"there is no order {order!r}", where="config.sample.order", allowed=", ".join(ORDERS))
    places = {name: place for place, name in enumerate(ORDERS[order])}
    return [processor for _, processor in sorted(built, key=lambda item: places[item[0] if item[0] in places else "…"])]


def _built(given: Vocabulary, name: str, arguments: dict[str, Any]) -> Processor:
    return registry.built(KIND, name, arguments, given, where=WHERE)
