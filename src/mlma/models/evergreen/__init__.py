"""Evergreen members: cheap models of all streams of a shard at once, brought up to date after every batch."""
