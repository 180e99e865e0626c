"""What every command shares with its terminal: output, progress, logs and the files it writes."""
