from . import tensors as tensors
