"""Checks of an image against a task, and of a result against the training data: findings, or a refusal."""
