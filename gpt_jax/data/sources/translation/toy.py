"""A made-up language, by a synchronous grammar: the verb goes last, adjectives follow, words agree in number.

the old king sees the small dogs    ->    roku vano ditari polli ka vidat
"""

from gpt_jax.data.rows.generated import Draw

# English singular and plural, and the other language's: regular ones end in -o and -i, irregular ones in neither.
NOUNS = (
    ("king", "kings", "roku", "reki"),
    ("dog", "dogs", "ditaro", "ditari"),
    ("bird", "birds", "pelo", "peli"),
    ("man", "men", "umm", "ommen"),
    ("child", "children", "baso", "basi"),
    ("fish", "fish", "sur", "surun"),
    ("horse", "horses", "kavo", "kavi"),
    ("tree", "trees", "lumo", "lumi"),
    ("ship", "ships", "navo", "navi"),
    ("stone", "stones", "tek", "tekke"),
)
ADJECTIVES = (("old", "van"), ("small", "poll"), ("red", "rud"), ("good", "bel"), ("fast", "zik"))  # then -o or -i
# English forms for one and for many, and the other language's.
VERBS = (
    ("sees", "see", "vidat", "vidun"),
    ("has", "have", "es", "esten"),
    ("finds", "find", "torat", "torun"),
    ("follows", "follow", "sekat", "sekun"),
    ("likes", "like", "gam", "gomen"),
    ("hears", "hear", "nimat", "nimun"),
    ("takes", "take", "halat", "halun"),
    ("knows", "know", "kelat", "kelun"),
)
OBJECT = "ka"  # after the object


def pair(draw: Draw) -> tuple[str, str, str]:
    subject, object_ = draw.some(NOUNS, 2)
    verb = draw.one(VERBS)
    (text, said, many), (other, other_said, _) = (_phrase(draw, noun) for noun in (subject, object_))
    sentence = f"{text} {verb[many]} {other}"
    return f"{subject[0]} {verb[1]}", sentence, f"{said} {other_said} {OBJECT} {verb[2 + many]}"


def _phrase(draw: Draw, noun: tuple[str, str, str, str]) -> tuple[str, str, int]:
    """(English, the other language, whether it is of many)."""
    many = draw.between(0, 1)
    adjective = draw.one((None, *ADJECTIVES))
    if adjective is None:
        return f"the {noun[many]}", noun[2 + many], many
    return f"the {adjective[0]} {noun[many]}", f"{noun[2 + many]} {adjective[1]}{'oi'[many]}", many
