"""A Hugging Face model, tuned with an adapter on instructions and exported, writes in transformers what it writes here."""

import gpt_jax
import launch
from tests.interop import models
from tests.trained import subwords

torch, transformers = models.torch, models.transformers
TEXT = "Reverse the word: stone. Sort the words: one two three four. Answer: enots. " * 20
SHORT = {
    "train.steps": 3,
    "train.batch": 8,
    "train.eval_batches": 1,
    "train.tensorboard": False,
    "sample.prompts": "()",
}


def test_it_continues_token_for_token(tmp_path):
    spec = subwords(TEXT, 300)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=spec._tokenizer, bos_token="<|endoftext|>", eos_token="<|endoftext|>"
    )
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    sizes = models.LLAMA | {"vocab_size": len(tokenizer), "max_position_embeddings": 256} | ends
    models.shaken(transformers.LlamaConfig(**sizes)).save_pretrained(tmp_path / "theirs")
    tokenizer.save_pretrained(tmp_path / "theirs")
    knobs = SHORT | {"tune.start": tmp_path / "theirs", "data.source": "instructions(count=200)"}
    flags = [f"--config.{name}={value}" for name, value in (knobs | {"data.cache": tmp_path / "cache"}).items()]
    assert launch.main(["train", "--config=tune:lora", f"--workdir={tmp_path / 'lora'}", *flags]) == 0
    assert launch.main(["export", f"--workdir={tmp_path / 'lora'}", f"--to={tmp_path / 'out'}"]) == 0
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    start = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "theirs").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    ours, changed = gpt_jax.load(tmp_path / "lora"), 0
    for prompt in ("Reverse the word: ", "Sort the words: one", "one two", "Answer"):
        given = torch.tensor([tokenizer(prompt, add_special_tokens=False).input_ids])
        found = ours.generate(prompt, temperature=0, max_new_tokens=20, ignore_eos=True, templated=False)
        assert list(map(int, found.ids)) == written(theirs, given)
        changed += written(start, given) != written(theirs, given)
    assert changed  # by the training


def written(model, given) -> list[int]:
    found = model.generate(given, max_new_tokens=20, min_new_tokens=20, do_sample=False, pad_token_id=0)
    return found[0, given.shape[1] :].tolist()
