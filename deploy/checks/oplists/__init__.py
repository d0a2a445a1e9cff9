"""Lists of ops by TensorFlow release, as text files.

    effects      what ops do to the world, and which argument names a function or file
    make_oplist  the script that makes a list from a release of TensorFlow
"""
