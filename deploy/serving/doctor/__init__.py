"""Why isn't it served, and what to do.

    evidence   everything that a diagnosis looks at, as one frozen value
    collect    evidence from a spec's server, from any container, from a log
    disk, server_files   what lies in a base path, as the server sees it: mounts and images included
    files, flag_findings, load_findings, programs   rules: evidence -> causes and fixes; pure
    examine    all rules, the most likely cause last
"""
