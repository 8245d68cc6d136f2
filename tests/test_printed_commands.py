"""Every command, flag and Python snippet that the documents print works as printed, in a folder where what it names exists.

Trainings and fits get a few settings that make them short (``tests/printed.py``); modules that measure for minutes only read
their command line.
"""

import json
import shutil

import jax
import pytest

from gpt_jax.main import main
from gpt_jax.mesh.planning import plan
from gpt_jax.study.lm_eval import local
from tests import fallback
from tests.printed import CORPUS, ROOT, Page, short
from tests.printed_reader import read

OWN_TESTS = ("api.md", "serving.md")  # tests/test_api_docs.py, tests/serve/test_serving_docs.py
DOCS = sorted(path for path in (ROOT / "docs").rglob("*.md") if path.name not in OWN_TESTS)
FIRST = [ROOT / "README.md", ROOT / "experiments" / "README.md"]
ABLATION = '''"""Does a gated MLP help?"""

from gpt_jax.configs import quickstart
from gpt_jax.study.sweep import Sweep


def sweep():
    return Sweep(quickstart.get_config(), {"gelu": {}, "swiglu": {"model.mlp": "swiglu"}}, seeds=(0,))
'''


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """What the commands name: a run, a model of Hugging Face, prompts, texts, a study, and a table of runs."""
    folder = tmp_path_factory.mktemp("printed") / "world"
    home = folder.parent
    for place in (home / CORPUS, folder):
        place.mkdir(exist_ok=True)
    for i in range(30):
        (home / CORPUS / f"{i}.py").write_text("".join(f"def f{i}(x):\n    return x + {n}\n" for n in range(40)))
    for room in ("experiments", "requirements"):
        (folder / room).symlink_to(ROOT / room)
    (folder / "my_ablation.py").write_text(ABLATION)
    (folder / "FILE.jsonl").write_text('{"prompt": "def "}\n{"ids": [5, 17, 3]}\n')
    local.write(folder / "tasks", rows=2, length=200)
    (folder / "book.txt").write_text("def f(x):\n    return x + 1\n" * 40)
    (folder / "posts.jsonl").write_text("".join(json.dumps({"text": f"post {i} " * 60}) + "\n" for i in range(40)))
    pairs = [{"prompt": f"{i} and {i} is ", "completion": str(2 * i)} for i in range(200)]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    better = [{"prompt": f"{i} and {i} is ", "chosen": str(2 * i), "rejected": str(i)} for i in range(200)]
    (folder / "preferred.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in better))
    (folder / "data" / "llama").mkdir(parents=True)
    fallback.tokenizer().save(str(folder / "data" / "llama" / "tokenizer.json"))
    (folder / "schema.json").write_text(
        '{"type": "object", "properties": {"n": {"type": "boolean"}}, "required": ["n"]}'
    )
    (folder / "brackets.py").write_text("start = 0\nstep = lambda depth, text: 0\naccepts = lambda depth: True\n")
    rows = [
        f"{n:.0f},{d:.0f},{1.7 + 406 / n**0.34 + 410 / d**0.28 + 0.003 * ((i * 7 + j * 3) % 5 - 2):.5f}"
        for i, n in enumerate([1e5, 3e5, 1e6, 3e6, 1e7])
        for j, d in enumerate([1e7, 3e7, 1e8, 3e8, 1e9])
    ]
    (folder / "runs.csv").write_text("\n".join(["params,tokens,loss", *rows]) + "\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("HOME", str(home))
        assert main(short(["train", "--config=quickstart", "--workdir=runs/q"])) == 0
        assert main(["export", "--workdir=runs/q", "--to=HF_DIR"]) == 0
        yield folder


@pytest.fixture
def page(world, tmp_path, monkeypatch):
    """A page in a copy of the world; what it registers is forgotten afterwards."""
    folder = tmp_path / "page"
    shutil.copytree(world, folder, symlinks=True)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(plan, "virtual_devices", has_devices)
    page = Page(tmp_path)
    yield page
    page.forget()


def has_devices(count: int) -> None:
    """In place of what has to come before JAX is used: the devices of the tests, which stand for more too
    (tests/mesh/test_plan_at_scale.py)."""
    assert count % jax.device_count() == 0


@pytest.mark.parametrize("document", FIRST, ids=lambda path: path.parent.name)
def test_what_is_read_first_works(document, page):
    works(document, page)


@pytest.mark.every(4)
@pytest.mark.parametrize("document", DOCS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_printed_works(document, page):
    works(document, page)


def works(document, page):
    faults = [fault for printed in read(document.read_text("utf-8")) if (fault := page.fault(printed))]
    assert not faults, "\n\n".join(faults)


def test_what_does_not_work_is_found(page):
    text = """`--config.optim.rate=1`, `config.model.depth = 3`, `python -m tests.nothing` and `launch.py plan --chip=h100
    --step=3`.

    python launch.py eval --workdir=runs/none
    gpt-jax evaluate --workdir=runs/q
    make peace
    pip install -r requirements/none.txt
    python -m benchmarks.decode --turns=3
    --config.optim.lr=fast

```python
import gpt_jax.nothing
```

```bash
for i in 0 1; do python launch.py eval --workdir=runs/none$i || true; done
```
"""
    found = list(read(text))
    kinds = " ".join(printed.kind for printed in found)
    assert kinds == "flags setting shell mention shell shell shell shell shell flags python script"
    assert all(page.fault(printed) for printed in found)


def test_what_works_is_no_fault(page):
    text = "`config.model.layers = 3`, `python -m benchmarks.decode --rounds=3`\n\n    gpt-jax eval --workdir=runs/q\n"
    assert [page.fault(printed) for printed in read(text)] == ["", "", ""]
