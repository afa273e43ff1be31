"""MedUniSeg in napari: thin widgets over ``meduniseg_core``, which does the work."""
