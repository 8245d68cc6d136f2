"""A run judged by tasks: its figures, compared with another run's problem by problem, as a table, as JSON and as a page."""
