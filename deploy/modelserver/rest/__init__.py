"""The REST API.

    http      the port: an event loop with its connections (deploy.net.http1), requests answered by threads
    routes    URL and method -> what to do, and its errors
    parse     JSON as the real server's parser (RapidJSON) reads it, with its error texts
    decode    a predict body -> arrays
    bulk      a long one, without an object per number
    examples  a classify or regress body -> tf.Example
    numbers   how numbers are spelled
    pretty    how values are laid out
    encode    results -> a body
"""
