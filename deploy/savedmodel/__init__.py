"""A SavedModel read as data, without TensorFlow.

`read` says what a version directory holds and whether it is whole. The modules beside it:

    reader       what a version promises, and what it lacks
    scanning     a graph of any size, opened once and read piece by piece
    flow         what a graph is made of, and where its tensors come from; names of ops that several rooms look for
    parsing      tf.Example features that a graph wants, and images
    bundle       the variables' index
    diff         may one version replace another? signatures: its rules about contracts
    tflite       a TFLite file's signatures and operators, and what a server makes of it; flatbuffer: its format
    placement    what a directory is, for people who named one a level too high or too low
    recipes      what was put around a model, as a manifest records it
"""

from deploy import lazy

__getattr__, __dir__, __all__ = lazy.attach(__name__, __file__)
