"""The chat page: one file beside this one, which may load nothing but itself."""

import base64
import hashlib
import re
from functools import cache
from pathlib import Path

FILE = Path(__file__).with_name("page.html")
INLINE = re.compile(rb"<(script|style)>(.*?)</\1>", re.DOTALL)


@cache
def page() -> tuple[bytes, str] | None:
    """The page and its Content-Security-Policy, which names its scripts and styles by their digests; None without one."""
    if not FILE.is_file():
        return None
    content = FILE.read_bytes()
    digests: dict[bytes, list[str]] = {b"script": [], b"style": []}
    for kind, text in INLINE.findall(content):
        digests[kind].append(f"'sha256-{base64.b64encode(hashlib.sha256(text).digest()).decode()}'")
    allowed = {f"{kind.decode()}-src": " ".join(found) or "'none'" for kind, found in digests.items()}
    policy = {
        **{"default-src": "'none'", "connect-src": "'self'", "img-src": "data:"},
        **allowed,
        **{"base-uri": "'none'", "form-action": "'none'", "frame-ancestors": "'none'"},
    }
    return content, "; ".join(f"{name} {value}" for name, value in policy.items())
