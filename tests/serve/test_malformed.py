"""A sample of `python -m tests.serve.malformed`, and that it finds what it looks for."""

from gpt_jax.serve import server
from tests.serve import malformed, served


def test_malformed_requests_do_no_harm(workdirs, monkeypatch):
    monkeypatch.setattr(server, "IDLE", 1)
    with served.serving(list(workdirs.values()), malformed.BOUNDS) as running:
        counted = malformed.fuzz(running, 150, 1)
    assert counted["400"] > 60 and sum(counted.values()) == 150


def test_faults_are_found():
    assert malformed.fault_of(b"", b"HTTP/1.1 500 x") and malformed.fault_of(b"", b"HTTP/1.1 200 OK\r\n\r\na quagga")
    assert not malformed.fault_of(b"quagga", b"HTTP/1.1 200 OK\r\n\r\na quagga") and not malformed.fault_of(b"", b"")
    assert malformed.fault_of(b"", b"SSH-2.0")
