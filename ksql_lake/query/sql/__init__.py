"""SQL over the lake: views made when they are named, a connection, answers as text and files."""
