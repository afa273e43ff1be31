"""One widget per file. Each is put together from parts and leaves the work to the core."""
