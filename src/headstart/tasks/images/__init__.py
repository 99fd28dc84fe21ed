"""Image classification."""

from headstart.tasks.images.config import Augment, ImageData, ImageModel
from headstart.tasks.images.data.image_set import ImageSet, load_images
from headstart.tasks.images.models import build_model
from headstart.tasks.images.task import ImageClassification

__all__ = ["Augment", "ImageClassification", "ImageData", "ImageModel", "ImageSet", "build_model", "load_images"]
