"""Every knob of a run: its default, unit and reason. The other files here, and those you write, are diffs of this one."""

from ml_collections import ConfigDict, config_dict


def any_of(value):
    """A field that may hold values of several types (a name, or a list of them)."""
    field = config_dict.FieldReference(None, field_type=object)
    field.set(value)
    return field


def get_config() -> ConfigDict:
    c = ConfigDict()

    c.model = m = ConfigDict()
    m.layers = 12
    m.width = 768  # D: channels of the residual stream
    m.heads = 12  # N: query heads
    m.kv_heads = 0  # K: key/value heads; 0 = heads (multi-head), 1 = multi-query
    m.head_dim = 0  # H; 0 = width / heads
    m.mlp_width = 0  # F; 0 = 4 * width
    m.vocab = 0  # V: rows of the embedding; 0 = the tokenizer's size
    m.context = 1024  # T: tokens per sequence
    # The mechanism, what attention computes: one of gpt_jax/model/attention, or a list of them, cycled over the layers.
    m.attention = any_of("full")
    # The backend, how softmax(q k) v is computed: one of gpt_jax/model/attend. It changes speed and memory, not the model.
    m.attend = "auto"
    m.position = "learned"  # in gpt_jax/model/position
    m.norm = "layernorm"
    m.mlp = "gelu"  # in gpt_jax/model/mlp
    m.block = "pre"  # where the norms stand
    m.tied = True  # one matrix embeds tokens and reads them out
    # Biases in linear layers and norms; or a list of places: qkv, out (of attention), mlp,
    # norm, readout, router.
    m.bias = any_of(True)
    m.embed_scale = 1.0  # factor of the token embeddings (Gemma: sqrt(width))
    m.logit_softcap = 0.0  # logits are c * tanh(logits / c) (Gemma 2); 0 = off
    m.dropout = 0.0  # probability, on embeddings, attention weights and both residual branches
    m.init = "gpt2"
    m.dtype = "float32"  # of activations and matmuls; parameters, softmax, norms and losses are float32
    # True: one scanned layer, which compiles faster; False: unrolled layers, which run faster on CPU; a number: so many
    # layers a turn of the scan, all of them being the fastest on a GPU; -1: True beyond 32 layers, False up to them.
    m.scan = any_of(-1)
    m.remat = "none"  # what is kept for the backward pass: in gpt_jax/model/remat.py

    c.data = d = ConfigDict()
    d.source = any_of("python_stdlib()")  # a name in gpt_jax/data/sources, or a list of (weight, name)
    d.tokenizer = "bpe(vocab_size=1024)"
    d.template = "plain"  # how prompts, answers and dialogues are written: in gpt_jax/data/templates
    d.valid_fraction = 0.1  # of documents (or of the text, where it is a single one) held out
    # concat: windows of the joined text · segments: the same, attention stays within a document. Examples are kept apart
    # with both · padded: one example a row
    d.pack = "concat"
    d.seed = 0  # order of the windows; independent of train.seed, so that seeds can share an order
    d.cache = "~/.cache/gpt_jax"  # where tokenised corpora and trained tokenizers are kept

    c.tune = u = ConfigDict()
    # A run, with a step or without (runs/q@500), or a Hugging Face directory, whose parameters training begins with; empty =
    # from scratch. Knobs of model, tokenizer and template may then have the value "start": as there.
    u.start = ""
    u.objective = "lm"  # what is minimised: in gpt_jax/train/objectives
    u.adapter = "none"  # what is trained instead of the parameters: in gpt_jax/train/adapters
    u.reference = ""  # the run that preferences or a policy are measured against; empty = tune.start
    # Of objectives that learn from rewards of what the model writes; config.sample says how that is.
    u.reward = any_of("")  # in gpt_jax/train/rewards, or several: ((1.0, "countdown"), (0.1, "ended"))
    u.samples = 8  # completions of a prompt
    u.updates = 1  # steps from what was written at once
    u.epochs = 1  # times that each completion is used in them

    c.optim = o = ConfigDict()
    o.optimizer = "adamw(b1=0.9, b2=0.95, eps=1e-8)"
    o.lr = 6e-4  # peak learning rate
    o.schedule = "cosine(final=0.1)"  # after warmup; final is a fraction of lr
    o.warmup = 100  # steps of linear warmup
    o.weight_decay = 0.1  # decoupled, multiplied by the learning rate (AdamW's form)
    o.clip = 1.0  # global gradient norm; 0 = off
    # Decay of an exponential moving average of the parameters after each update, without bias from the first one on; where
    # there is one, evaluation, the best checkpoint, samples and exports use it. 0 = off
    o.ema = 0.0
    # The first row whose regex is found in a parameter's path applies. A row may set optimizer, lr and weight_decay
    # (the last two are factors of the values above). Vectors and scalars are not decayed, as in GPT-2 and GPT-3, unless
    # their row names a weight_decay.
    o.groups = any_of(((r"(bias|scale)$", {"weight_decay": 0.0}), (r".*", {})))

    c.train = t = ConfigDict()
    t.steps = 1000
    t.batch = 8  # sequences per step, over all devices and accumulation steps
    t.accumulate = 1  # micro-batches per step
    t.seed = 0  # of initialisation and dropout
    t.z_loss = 0.0  # weight of log(Z)^2 (PaLM, section 5), with tune.objective = "lm"
    t.loss_chunk = 0  # tokens whose logits exist at once; 0 = chosen by size
    t.log_every = 10  # steps between lines of metrics.jsonl; every step's loss is in the mean of its line
    t.eval_every = 250  # steps
    t.eval_batches = 20  # of train.batch sequences; 0 = the whole split
    t.eval_stride = 0  # of the windows of validation while training, as eval.stride
    t.save_every = 250  # steps
    t.keep = 2  # newest checkpoints kept
    t.keep_best = True  # and the best of those that are evaluated: by validation loss, or what tune.objective says
    t.on_nonfinite = "stop"  # stop: exit 76 with the last good checkpoint kept · skip: skip that step's update
    t.watch_every = 0  # steps between RMS of every parameter, gradient and update; 0 = never
    t.profile = any_of(())  # (first, last) steps traced into tensorboard/
    t.tensorboard = True
    t.wandb = ""  # project name; empty = off

    c.eval = e = ConfigDict()
    e.tasks = any_of(())  # in gpt_jax/judge/tasks, asked at each evaluation: ("arithmetic", "dialogue(problems=50)", …)
    e.split = "valid"  # of the verb eval, as what follows
    e.batch = 0  # sequences; 0 = train.batch
    e.batches = 0  # 0 = the whole split, every window once
    e.stride = 0  # tokens from one window to the next, of which each counts once; 0 = the context

    c.mesh = s = ConfigDict()  # devices along each axis; -1 = the rest
    s.data = -1  # batch split, parameters replicated
    s.fsdp = 1  # batch and parameters split
    s.tensor = 1  # heads, mlp channels and vocabulary split
    s.context = 1  # the tokens of every text split
    s.expert = 1  # batch split, and the experts of a mixture
    s.pipeline = 1  # layers split
    s.context_strategy = "ring"  # how split texts are attended to, in gpt_jax/mesh/context_strategy
    s.rounds = 1  # runs of layers that each stage of a pipeline has: with more it waits less, and sends more
    s.microbatches = 0  # that a pipeline cuts a batch into; 0 = about twice its stages
    s.rules = "default"  # the table of (path regex -> axes) in gpt_jax/mesh/rules.py
    s.start_timeout = 300  # seconds that several processes wait for each other at the start
    s.heartbeat_timeout = 20  # after which a process that does not answer ends the others
    s.step_timeout = 600.0  # that a step may take, of several processes, before they end with their stacks written down
    s.phase_timeout = 3600.0  # the same of compilation, an evaluation, a save, and reading the state

    c.sample = p = ConfigDict()
    p.max_new_tokens = 200
    p.temperature = 0.8  # 0 = greedy
    p.top_k = 0  # 0 = off
    p.top_p = 1.0  # 1 = off
    p.min_p = 0.0  # of the likeliest token's probability; 0 = off
    p.typical_p = 1.0  # 1 = off
    p.epsilon_cutoff = 0.0  # a probability; 0 = off
    p.eta_cutoff = 0.0  # 0 = off
    p.repetition_penalty = 1.0  # scores of tokens that the text has are divided by it (Keskar et al. 2019); 1 = off
    p.presence_penalty = 0.0  # off the scores of tokens that were written; 0 = off
    p.frequency_penalty = 0.0  # the same, for each time; 0 = off
    p.no_repeat_ngram_size = 0  # tokens; no run of so many is written twice. 0 = off
    p.min_new_tokens = 0  # before an end-of-text token may be written
    p.exponential_decay_length_penalty = ()  # (new tokens, factor): ending gets likelier after so many
    p.logit_bias = any_of(())  # ((word or ids, what is added to its score), …)
    p.bad_words = any_of(())  # texts, or lists of ids, that are not written
    p.allowed_words = any_of(())  # the only tokens that are; () = all
    p.suppress_tokens = any_of(())  # tokens that are not written, as texts or ids; end-of-text too
    p.guidance_scale = 1.0  # away from what the model writes after the negative prompt; 1 = off
    p.negative_prompt = ""  # a text; empty = the prompt's last token
    p.num_beams = 1  # beam search, where there are several; it draws unless temperature is 0
    p.num_beam_groups = 1  # groups of beams that differ (Vijayakumar et al. 2016)
    p.diversity_penalty = 0.0  # off the score of a token for every beam of an earlier group that takes it, in nats
    p.length_penalty = 1.0  # a beam's log-probability is divided by its length to this power
    # When beams end: with as many texts as beams (True), when a heuristic (False) or nothing ("never") expects a better one.
    p.early_stopping = any_of(False)
    p.penalty_alpha = 0.0  # contrastive search among top_k tokens (Su et al. 2022); 0 = off
    p.best_of = 1  # texts that are drawn, of which num_return_sequences are kept
    p.exact_nodes = 0  # prefixes that the search for the most likely text reads at most; 0 = off
    p.processors = any_of(())  # further ones: ("mirostat(tau=5.0)", …), see gpt_jax/sample/processors/
    p.order = "huggingface"  # of processors: huggingface, vllm, llama_cpp
    p.beyond_context = "refuse"  # texts longer than model.context; roll: by a window. reread: from half of it on
    # Speculative decoding: what proposes tokens that the model then reads at once; one of the three.
    p.draft = ""  # a run of a smaller model, with a step or without: runs/small@500
    p.draft_layers = 0  # the model's own first layers; 0 = off
    p.prompt_lookup_num_tokens = 0  # so many that followed the text's last n-gram when it stood there before; 0 = off
    p.max_matching_ngram_size = 2  # tokens of such an n-gram, at most
    p.num_assistant_tokens = 5  # proposed at a time, by draft and draft_layers
    p.cache = "model"  # how keys and values are kept: in model.dtype, or as int8
    p.weights = "model"  # how the matrices of linear layers are, while texts are written: the same
    p.seed = 0
    p.prompts = any_of(("\n",))  # texts continued at the end of training
    p.templated = (
        True  # texts are messages of a user, written by data.template; False: they are continued as they stand
    )
    p.num_return_sequences = 1  # samples of each prompt, each with a seed of its own
    p.stop_strings = any_of(())  # texts, or one; what is written ends where one of them is complete
    p.include_stop_str_in_output = False  # whether the text ends after the stop string, and not before it
    p.stop_token_ids = any_of(())  # ids that end a text, besides those of the tokenizer
    p.ignore_eos = False  # whether those of the tokenizer do not
    p.logprobs = 0  # likeliest tokens whose log-probabilities are reported with each token; 0 = the token's own alone
    p.prompt_logprobs = False  # whether those of the prompt's tokens are reported
    p.rows = 8  # texts that are written side by side; the next one takes the place of one that has ended

    c.lock()
    return c
