"""The REST API.

    bulk      a long predict body with one regular array of numbers, which is what most are
    decode    a predict body -> arrays, with the real server's checks in its order
    encode    results -> the bytes of a REST reply
    examples  a classify or regress body -> tf.Examples, and the results -> a body
    fast      nested lists of numbers -> array in one go, for those that need no closer look
    grisu     a double's decimal digits as RapidJSON 1.1 finds them, by Grisu2 (F. Loitsch, Printing Floating-
              Point Numbers Quickly and Accurately with Integers, 2010)
    http      the REST port
    metadata  status and metadata as JSON, laid out as protobuf's C++ library does
    numbers   how the real server spells numbers in JSON
    parse     JSON as RapidJSON reads it: NaN and Infinity, raw bytes in strings, text after the value
    pretty    how JSON is laid out, as RapidJSON's PrettyWriter does
    routes    URLs and methods of the REST API. Answers requests
    values    one JSON value as one element of a tensor
"""
