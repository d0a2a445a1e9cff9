"""Why isn't it served, and what to do.

    evidence   everything that a diagnosis looks at, as one frozen value
    disk       what lies in a base path, as the server sees it: mounts and images included
    file_findings, flag_findings, load_findings, programs   rules: evidence -> causes and fixes; pure
    diagnosis  evidence from a spec's server, from any container, from a log; all rules, the most likely cause last
"""
