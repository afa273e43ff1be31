"""How far a result can be trusted: what one pass shows about itself, and what a calibration makes of it."""
