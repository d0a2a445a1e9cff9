"""What serving needs around a model, as values: `recipes=[recipes.image_bytes("-1..1"), recipes.top_k(5)]`.

Each recipe changes one signature, by default serving_default, and they are applied in their order. TensorFlow is
imported when they are applied.

    recipe   the value, and how a list of them is applied
    lines    label and vocabulary files: read, refused, kept as assets
    images   image_bytes
    texts    text
    inputs   keys, rename_inputs, tf_example, classify, regress, copy_signature
    outputs  top_k, cast_outputs, rename_outputs
    decoding image_bytes as TensorFlow ops
    parsing  `image-bytes(scale=-1..1)`, as the command line has it -> a recipe
"""

from deploy import lazy

__getattr__, __dir__, __all__ = lazy.attach(__name__, __file__)
