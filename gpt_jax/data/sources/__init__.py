"""Where data comes from: one file per source, each a function ``name(config, **arguments)``.

It returns ``Documents`` (text, for the tokenizer), ``Examples`` (rows, which a template writes), a ``TokenCorpus`` (ids) or
a ``Task`` (sequences made up on demand).
"""
