"""Talking to a model that was trained on dialogues: a history as a prompt, the conversation, its loop at the terminal."""
