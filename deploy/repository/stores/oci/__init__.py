"""OCI registries: a version is an image of data only, its number the image's tag.

    store         OciStore: the repository's names read from images
    publishing    images of versions put together and pushed
    claims        who gets a number, without locks and conditional writes
    image         what an image of a version is made of: layers, config, annotations
    stored_image  an image in a registry: which files it has, and where their bytes lie; those of other tools, too
    referrers     signatures and receipts of a version, as the registry's referrers or under tags
    assembly      server images put together in a registry, without an engine
    remote        one repository of a registry: tags, manifests, blobs
    registry      a registry asked as somebody: tokens, other tries, refusals in a sentence
    connection    HTTP to it
    credentials   Docker's and Podman's config files, credential helpers
"""

from deploy import lazy

__getattr__, __dir__, __all__ = lazy.attach(__name__, __file__)
