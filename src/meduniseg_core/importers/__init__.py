"""Importers of checkpoints that other programs wrote."""
