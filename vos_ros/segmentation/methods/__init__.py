"""One folder per segmentation method. Importing a folder registers its method and its options."""
