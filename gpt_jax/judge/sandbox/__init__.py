"""Runs programmes that a model wrote, within limits, which contain accidents and not malice."""
