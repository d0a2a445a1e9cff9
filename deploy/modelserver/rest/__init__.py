"""The REST API.

    arrays   regular arrays of numbers, which most bodies are: JSON -> array in one go
    decode   bodies of requests: predict -> arrays, classify and regress -> tf.Examples
    encode   JSON as the real server writes it: the bytes of replies, and values quoted in errors
    http     the REST port
    numbers  how the real server spells numbers in JSON
    parse    JSON as RapidJSON reads it: NaN and Infinity, raw bytes in strings, text after the value
    routes   URLs and methods of the REST API. Answers requests
    values   tensors of JSON, value by value: which fits which dtype and shape
"""
