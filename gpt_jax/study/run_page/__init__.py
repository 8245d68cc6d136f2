"""The page of a run: what was trained, what it reached and wrote, what to look at. ``page.report(workdir)`` writes it."""
