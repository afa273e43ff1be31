"""What speaks against an image for a task, or against a result: findings, or a refusal."""
