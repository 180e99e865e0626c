"""What the embedded server holds: sources, rows, offsets, transactions and persistent queries."""
