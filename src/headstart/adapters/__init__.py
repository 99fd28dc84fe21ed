"""The Distiller in frameworks that own the training loop; each module needs the framework it is named after."""
