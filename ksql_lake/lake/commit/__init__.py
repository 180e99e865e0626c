"""The commit log of a feed, and the state that follows from it."""
