"""A sweep as a page that opens from the disk, and as tables for a paper: ``page.write(results)`` makes all of it."""
