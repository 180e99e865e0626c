"""The embedded server on the wire: routes, answers, framing and the server process."""
