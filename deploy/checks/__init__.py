"""The gate in front of the repository: will it be served well, will that server load it, is it safe?

    report = checks.check("build/saved_model", checks.of_version("2.20"), allow={"log-op": "wanted while we debug"})
    report.raise_if_refused()

Everything is read as data: no TensorFlow, nothing is run, memory doesn't grow with the file. Rules have stable names
(`RULES`); a finding is refused, unless the spec or the command line allows its rule with a reason.

    checking        from a path to a report; the same as a gate
    rules           all rules by name, and what a finding is
    targets         the server that is to load it: its ops, kernels, libraries; oplists/: of TensorFlow's releases
    flags           the flags that older releases lack
    policy          what ops can touch, and which rule looks at them
    files           rules about the version's files, warm-up requests, TFLite; and about files that ops touch
    signatures      rules about signatures, methods, batching
    graph           rules about what ops do, and who reaches them; reachability: what runs when
    origins         where the name of a file comes from; variables: what is assigned to them
    loading         rules about what a server has to know, and calls that come to an end
    keras_archives  rules about Keras files; keras_members: what stands in them
"""

from deploy import lazy

__getattr__, __dir__, __all__ = lazy.attach(__name__, __file__)
