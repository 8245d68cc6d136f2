"""Where rows of examples come from: fields under their usual names, sides that share no row, rows that a programme makes."""
