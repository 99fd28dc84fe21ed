"""Images: found by path or name, in memory or decoded as they are needed."""

from headstart.tasks.images.data.image_set import ImageSet, load_images

__all__ = ["ImageSet", "load_images"]
