"""The nouns of the OCI specifications: descriptors, images, layers, the content store."""
