"""OCI registries: a version is an image of data only, its number the image's tag.

    store         OciStore: the repository's names read from images
    publishing    numbers claimed without locks, images put together and pushed
    image         what an image of a version is made of: layers, config, annotations; and layers that others made
    referrers     signatures and receipts of a version, as the registry's referrers or under a tag
    registry      the distribution API over HTTP: tokens, retries, refusals in a sentence
    credentials   Docker's and Podman's config files, credential helpers
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
