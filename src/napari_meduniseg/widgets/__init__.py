"""One widget per file; each is put together from parts and leaves the work to the core."""
