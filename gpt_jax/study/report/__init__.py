"""The report of a sweep: a page that opens from the disk, figures, and tables. ``page.write(results)`` writes all of it."""
