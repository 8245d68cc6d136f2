"""Dialogues drawn at random, and small tokenizers of the kinds that models with templates have."""

import functools
import json
import random

from gpt_jax.data.templates import ASSISTANT, SYSTEM, USER
from gpt_jax.data.tokenizers.file import Subwords

TEXT = "the quick brown fox's  jumps over\n\n the lazy dog, 12345 times!\n\tand then\n\n\nuser assistant model system\n"
PARTS = [
    "the",
    " quick",
    "fox",
    "\n",
    "\n\n",
    "  ",
    "\t",
    "日本",
    "é",
    "🙂",
    "'s",
    "12",
    "!",
    "assistant",
    "user\n",
    "[INST]",
]
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
LLAMA3 += r"|\s+(?!\S)|\s+"


def text(draw: random.Random, most: int = 6) -> str:
    return "".join(draw.choices(PARTS, k=draw.randint(0, most)))


def dialogue(draw: random.Random, system: bool, turns: int, bare: bool) -> list[dict]:
    """Messages of the user and the assistant in turns, perhaps after the system's.

    Args:
      bare: whether answers begin without a space, so that no token can stand across their border.
    """
    messages = [{"role": SYSTEM, "content": text(draw)}] if system else []
    for number in range(turns):
        content = text(draw)
        if number % 2:
            messages.append({"role": ASSISTANT, "content": "x" + content if bare else content})
        else:
            messages.append({"role": USER, "content": content})
    return messages


@functools.cache
def tokenizer_json(kind: str, specials: tuple[str, ...]) -> str:
    """The text of a tokenizer.json.

    Args:
      kind: "bytes" (no merges), "gpt2", "llama3" (their pre-tokenizers), "llama2" or "gemma" (byte fallback, of which the
        first puts a space before a text).
    """
    import tokenizers
    from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers

    fallback = kind in ("llama2", "gemma")
    made = tokenizers.Tokenizer(models.BPE(byte_fallback=fallback, unk_token="<unk>" if fallback else None))
    if fallback:
        space = normalizers.Replace(" ", "▁")
        made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), space]) if kind == "llama2" else space
        made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
        alphabet, extra = [], ["<unk>", *(f"<0x{i:02X}>" for i in range(256))]
    else:
        regex = pre_tokenizers.Split(Regex(LLAMA3), "isolated")
        level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=kind != "llama3")
        made.pre_tokenizer = pre_tokenizers.Sequence([regex, level]) if kind == "llama3" else level
        made.decoder = decoders.ByteLevel()
        alphabet, extra = sorted(pre_tokenizers.ByteLevel.alphabet()), []
    size = len(specials) + len(extra) + len(alphabet) + (0 if kind == "bytes" else 80)
    given = {"special_tokens": [*specials, *extra], "initial_alphabet": alphabet, "show_progress": False}
    made.train_from_iterator([TEXT] * 2, trainers.BpeTrainer(vocab_size=size, **given))
    spec = json.loads(made.to_str())
    spec["added_tokens"] = [token for token in spec["added_tokens"] if token["content"] not in extra]
    return json.dumps(spec)


def subwords(kind: str, specials: tuple[str, ...] = (), separator: str = "</s>", **given) -> Subwords:
    return Subwords(tokenizer_json(kind, tuple(dict.fromkeys((separator, *specials)))), separator, "a test", **given)
