"""Conversations in files: {"messages": […]} with the knobs that were turned.

``sample --prompts`` and the source ``jsonl`` read the same lines.
"""

import json
from pathlib import Path
from typing import Any

from gpt_jax.config import SampleConfig
from gpt_jax.data.rendering import Writer
from gpt_jax.data.templates import Message
from gpt_jax.errors import UserError
from gpt_jax.sample.chat.chat import Chat
from gpt_jax.sample.outputs.requests import OF_A_LINE, settings_of
from gpt_jax.sample.prompts import Prompt
from gpt_jax.storage import local_path, write_atomically

SHAPE = '{"messages": [{"role": "user", "content": "a text"}, …], "seed": 0, "temperature": 0.8}, with any knobs'


def save(chat: Chat, name: str) -> Path:
    """Writes the conversation.

    Raises:
      UserError: there is such a file, and it holds something else.
      StorageError: the disk refuses.
    """
    path = local_path(name, "/save")
    if path.exists():
        _read(path, "/save", "give another name")
    knobs = {knob: value for knob in OF_A_LINE if (value := getattr(chat.sample, knob)) != getattr(chat.first, knob)}
    record = {"messages": list(chat.messages), **knobs, "seed": chat.sample.seed}
    write_atomically(path, json.dumps(record, ensure_ascii=False) + "\n")
    return path


def load(chat: Chat, name: str) -> None:
    """Goes on with a conversation: its messages, and its knobs in place of those that the chat began with.

    Raises:
      UserError: it is none, or none of this model's.
    """
    path = local_path(name, "/load")
    record = _read(path, "/load", "")
    messages = _checked(record.pop("messages"), chat.writer, str(path))
    chat.go_on_with(messages, _settings(record, chat.first, str(path)))


def _read(path: Path, where: str, fix: str) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}", where=where, fix=fix) from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} holds no conversation: {error}", where=where, allowed=SHAPE, fix=fix) from None
    if not isinstance(record, dict) or not isinstance(record.get("messages"), list):
        raise UserError(f"{path} holds no conversation", where=where, allowed=SHAPE, fix=fix)
    return record


def _checked(messages: list, writer: Writer, where: str) -> tuple[Message, ...]:
    if messages:
        writer.pieces(messages, False, where)
    return tuple({"role": message["role"], "content": message["content"]} for message in messages)


def _settings(own: dict[str, Any], sample: SampleConfig, where: str) -> SampleConfig:
    return settings_of(Prompt([], None, where, own), sample)
