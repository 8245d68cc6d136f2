"""What a server refuses, gives up, and finishes before it ends."""

import json
import signal
import socket
import threading
import time

import httpx
import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gpt_jax.serve import page, runs, server
from gpt_jax.serve.engine import STUCK
from gpt_jax.serve.settings import Bounds
from tests.serve import served

LONG = {"model": "plain", "prompt": "the cat", "max_tokens": 120, "seed": 1}
HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: "


def metric(running, name, **labels):
    """The sum of a metric's samples with these labels."""
    headers = {"Authorization": f"Bearer {running.key}"}
    text = running.raw.get("/metrics", headers=headers).text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())


@pytest.fixture
def slow(workdirs, monkeypatch):
    """A server of one row, a queue of two and answers that take seconds, as its engine sleeps between looks."""
    with served.serving([workdirs["plain"]], Bounds(rows=1, queue=2)) as running:
        batch = running.engine._writers[0].batch
        advance = batch.advance

        def waiting(turns, least):
            time.sleep(0.1)
            advance(1, least)

        monkeypatch.setattr(batch, "advance", waiting)
        yield running


def test_a_full_queue_is_429_with_when_to_come_again(slow):
    client, results = slow.client(), []

    def ask():
        try:
            results.append(client.completions.create(**LONG | {"max_tokens": 20}))
        except openai.RateLimitError as error:
            results.append(error)

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    refused = [found for found in results if isinstance(found, openai.RateLimitError)]
    assert 3 <= len(refused) <= 4 and len(results) == 6  # one in a row, two that wait
    assert all(error.response.headers["retry-after"] == "1" and error.code == "queue_full" for error in refused)
    assert metric(slow, "gpt_jax_requests_total", status="429") == len(refused)


def hung_up(running, stream):
    """Asks, and hangs up: in a stream after its first part, else while nothing has come."""
    body = json.dumps(LONG | {"stream": stream}).encode()
    with socket.create_connection(("127.0.0.1", running.server.port)) as connection:
        connection.sendall(HEAD + str(len(body)).encode() + b"\r\n\r\n" + body)
        served.until(lambda: not running.engine.idle)
        if stream:
            assert b"200" in connection.recv(100)


@pytest.mark.parametrize("stream", [True, False])
def test_a_hang_up_frees_the_row(slow, stream):
    hung_up(slow, stream)
    served.until(lambda: metric(slow, "gpt_jax_hang_ups_total") == 1)
    served.until(lambda: metric(slow, "gpt_jax_rows_in_use") == 0)
    assert metric(slow, "gpt_jax_completion_tokens_total") == 0  # it was not written to its end
    assert slow.client().completions.create(**LONG | {"max_tokens": 3}).usage.completion_tokens <= 3


def test_one_that_waits_and_hangs_up_is_forgotten(slow):
    thread = threading.Thread(target=lambda: slow.client().completions.create(**LONG | {"max_tokens": 60}))
    thread.start()
    served.until(lambda: metric(slow, "gpt_jax_rows_in_use") == 1)
    hung_up(slow, False)
    served.until(lambda: metric(slow, "gpt_jax_hang_ups_total") == 1)
    served.until(lambda: metric(slow, "gpt_jax_queue_requests") == 0)
    thread.join()
    assert metric(slow, "gpt_jax_prompt_tokens_total") < 20  # of one prompt


def test_an_answer_has_to_come_in_time(workdirs):
    with served.serving([workdirs["plain"]], Bounds(rows=1, seconds=0.5)) as running:
        batch, client = running.engine._writers[0].batch, running.client()
        advance = batch.advance
        batch.advance = lambda turns, least: (time.sleep(0.2), advance(1, least))
        with pytest.raises(openai.InternalServerError) as error:
            client.completions.create(**LONG)
        assert error.value.status_code == 504
        with pytest.raises(openai.APIError, match="longer than the server allows"):
            list(client.completions.create(**LONG, stream=True))
        served.until(lambda: metric(running, "gpt_jax_rows_in_use") == 0)


def test_a_fault_of_ours_ends_no_server(workdirs):
    with served.serving([workdirs["plain"]]) as running:
        batch, client = running.engine._writers[0].batch, running.client()
        expected = client.completions.create(**LONG)
        look, batch.look = batch.look, lambda top: 1 / 0
        with pytest.raises(openai.InternalServerError) as error:
            client.completions.create(**LONG)
        assert error.value.status_code == 500 and "division" not in str(error.value)
        batch.look = look
        assert client.completions.create(**LONG).choices == expected.choices
        assert running.raw.get("/healthz").status_code == 200


def test_a_server_that_was_idle_is_well(running):
    engine, seen = running.engine, []
    (writer,) = (writer for writer in engine._writers if writer.run.name == "plain")
    turn, writer.turn = writer.turn, lambda: (seen.append(engine.well), turn())
    try:
        engine._looked -= 2 * STUCK
        running.client().completions.create(**LONG | {"max_tokens": 3})
    finally:
        del writer.turn
    assert seen and all(seen)


def ended(workdirs, warm, *, forced=False):
    """How a server ends that is stopped while it starts, unless that has ended it before."""
    starting, found = server.Server(runs.opened([workdirs["plain"]]), Bounds(rows=1), "127.0.0.1", 0), []
    starting.engine._writers[0].batch.warm = warm

    def serve():
        try:
            found.append(starting.serve_until_stopped())
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    served.until(lambda: starting.started)
    if forced is not None:
        starting.force_exit, starting.should_exit = forced, True
    thread.join(20)
    return found


def test_a_server_that_starts_can_be_stopped(workdirs, monkeypatch):
    monkeypatch.setattr(server, "FORCED", 0.2)
    compiled = threading.Event()
    try:
        assert ended(workdirs, lambda stopped: served.until(stopped)) == [None]
        (at_once,) = ended(workdirs, lambda stopped: compiled.wait(), forced=True)
        assert isinstance(at_once, KeyboardInterrupt)
    finally:
        compiled.set()


def test_a_server_that_cannot_start_ends(workdirs):
    def warm(stopped):
        raise MemoryError("of the device")

    (error,) = ended(workdirs, warm, forced=None)
    assert isinstance(error, MemoryError)


@pytest.mark.slow
def test_sigterm_lets_running_requests_finish(workdirs):
    long = LONG | {"prompt": ["the cat"] * 8, "n": 16, "max_tokens": 110}
    with served.process(f"--workdir={workdirs['plain']}", "--rows=1") as (child, url):
        results = []
        threads = [
            threading.Thread(target=lambda: results.append(httpx.post(f"{url}/v1/completions", json=long, timeout=120)))
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        served.until(lambda: 'gpt_jax_rows_in_use{model="plain"} 1' in httpx.get(f"{url}/metrics").text)
        time.sleep(0.2)
        child.send_signal(signal.SIGTERM)
        served.until(lambda: httpx.get(f"{url}/healthz").status_code == 503)
        refused = httpx.post(f"{url}/v1/completions", json=LONG)
        assert refused.status_code == 503 and refused.json()["error"]["code"] == "stopping"
        for thread in threads:
            thread.join()
        assert [len(found.json()["choices"]) for found in results] == [128] * 3
        assert child.wait(20) == 0
        assert "stopping once all requests are answered" in child.stderr.read()


def post(running, content=None, **headers):
    given = {"Content-Type": "application/json"} | {key.replace("_", "-"): value for key, value in headers.items()}
    return running.raw.post("/v1/completions", content=content or json.dumps(LONG | {"max_tokens": 1}), headers=given)


def code(response):
    return response.status_code, response.json()["error"]["code"]


def test_an_oversize_body_is_413(running):
    large = json.dumps(LONG | {"prompt": "x" * 2**20})
    assert code(post(running, large)) == (413, "body_too_large")
    assert code(post(running, iter([b" " * 2**19] * 4))) == (
        413,
        "body_too_large",
    )  # of a length that is not known before
    assert post(running).status_code == 200


def test_a_body_has_to_be_json(running):
    assert code(post(running, Content_Type="text/plain")) == (415, "unsupported_media_type")
    assert post(running, Content_Type="application/json; charset=utf-8").status_code == 200
    for body in (b"{", b"\xff", b"[" * 10**5, b'{"seed": NaN}', b"[]", b"1" * 5000):
        assert code(post(running, body)) == (400, "invalid_json")


def test_the_host_has_to_be_this_machine(running):
    for host in ("evil.example", "evil.example:8000", "127.0.0.1.evil.example", ""):
        assert code(post(running, Host=host)) == (403, "host_not_allowed")
    for host in ("localhost:9", "127.0.0.1", "[::1]:9", "LOCALHOST"):
        assert post(running, Host=host).status_code == 200


def test_no_other_page_may_read(running):
    found = post(running, Origin="https://evil.example")
    assert not [name for name in found.headers if name.startswith("access-control")]
    assert found.headers["cross-origin-resource-policy"] == "same-origin"
    assert running.raw.options("/v1/completions").status_code == 405
    assert code(running.raw.get("/nothing")) == (404, None)


def test_without_the_key_there_is_nothing(workdirs):
    with served.serving([workdirs["plain"]], key="s3cret ü") as running:
        for headers in ({}, {"Authorization": "Bearer other"}, {"Authorization": "Basic s3cret"}):
            assert code(running.raw.get("/v1/models", headers=headers)) == (401, "invalid_api_key")
            assert running.raw.get("/metrics", headers=headers).status_code == 401
        assert running.raw.get("/healthz").status_code == 200
        header = {b"Authorization": "Bearer s3cret ü".encode()}
        assert running.raw.get("/v1/models", headers=header).status_code == 200


def test_a_connection_that_says_nothing_is_closed(workdirs, monkeypatch):
    monkeypatch.setattr(server, "IDLE", 1)
    with served.serving([workdirs["plain"]], Bounds(rows=1, body_seconds=0.5)) as running:
        place = ("127.0.0.1", running.server.port)
        for begun in (b"", b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"):
            with socket.create_connection(place, timeout=10) as connection:
                connection.sendall(begun)
                assert connection.recv(100) == b""
        with socket.create_connection(place, timeout=10) as connection:
            connection.sendall(HEAD + b"9\r\n\r\n{")
            assert connection.recv(100).startswith(b"HTTP/1.1 408")


def test_the_page_may_load_nothing_but_itself(running, tmp_path, monkeypatch):
    page.page.cache_clear()
    monkeypatch.setattr(page, "FILE", tmp_path / "page.html")
    try:
        assert running.raw.get("/").status_code == 404
        page.page.cache_clear()
        (tmp_path / "page.html").write_text("<style>a{}</style><script>1</script>")
        found = running.raw.get("/")
        policy = found.headers["content-security-policy"]
        assert found.headers["content-type"].startswith("text/html") and "default-src 'none'" in policy
        assert policy.count("'sha256-") == 2 and "unsafe" not in policy
    finally:
        page.page.cache_clear()


def test_the_metrics_are_as_prometheus_reads_them(running):
    running.client().completions.create(**LONG | {"max_tokens": 7})
    assert metric(running, "gpt_jax_completion_tokens_total", model="plain") >= 1
    assert metric(running, "gpt_jax_prompt_tokens_total") >= 1
    assert metric(running, "gpt_jax_requests_total", route="completions", status="200") >= 1
    assert metric(running, "gpt_jax_request_seconds_count", route="completions") >= 1
    assert metric(running, "gpt_jax_first_token_seconds_bucket", le="+Inf") >= 1
    assert metric(running, "gpt_jax_rows") == 4
