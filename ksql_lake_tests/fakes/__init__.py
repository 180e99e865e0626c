"""Stand-ins on the wire: real servers on 127.0.0.1 that do what a test says."""
