"""Runs over HTTP, as OpenAI's API has it: `app` has the routes, `engine` the one thread that computes."""
