"""Chains of + - * over whole numbers, read from texts that may hold anything, in time bounded by their length."""

import ast
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass

from gpt_jax.registry import NO_LITERAL

LONGEST = 300  # characters; so numbers have no more digits, nor their products, and nothing is nested deeper
SPELT = re.compile(r"[0-9+\-*() ]+")
OPERATIONS: dict[type, Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
}


@dataclass(frozen=True)
class Expression:
    """What it comes to, and the numbers in it, from left to right."""

    value: int
    numbers: tuple[int, ...]


def read(text: str) -> Expression | None:
    """The expression that a text is: whole numbers, + - *, a minus sign before a part, parentheses and blanks. None where
    it is something else, or longer than ``LONGEST``."""
    text = text.strip()
    if len(text) > LONGEST or not SPELT.fullmatch(text):
        return None
    try:
        return _of(ast.parse(text, mode="eval").body)
    except NO_LITERAL:
        return None


def _of(node: ast.expr) -> Expression:
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return Expression(node.value, (node.value,))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        part = _of(node.operand)
        return Expression(-part.value, part.numbers)
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATIONS:
        left, right = _of(node.left), _of(node.right)
        return Expression(OPERATIONS[type(node.op)](left.value, right.value), left.numbers + right.numbers)
    raise ValueError("another operation")
