"""Intake: real images from folders, tables, shards and arrays, checked and split. See `opening` for the verbs."""
