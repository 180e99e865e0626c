"""Several nodes of one service: a broker with the shared log, and node processes that follow it."""
