"""The ``meduniseg`` command: thin, parses and shows; the core does the work."""
