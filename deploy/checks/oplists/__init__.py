"""Lists of ops by TensorFlow release, as text files.

    make_oplist  the script that makes a list from a release of TensorFlow
"""
