"""The variants, one file a family. Importing this package registers them."""

from gan_zoo.models import autoencoder, generator

__all__ = ["autoencoder", "generator"]
