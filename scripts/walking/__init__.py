"""The journeys of the guides, walked with the X server's own mouse and keys; ``../walk.sh`` starts them."""
