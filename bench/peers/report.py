"""The JSON that the peers' scripts write, which ../compare.py reads."""

import json
import resource
import sys


def entry(work, peer, version, threads, seconds):
    """What was measured of one work in this process: `seconds` of each repetition, and the peak memory so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"work": work, "peer": peer, "version": version, "threads": threads, "seconds": seconds, "peak_rss_bytes": peak}


def write(entries, file=None):
    """To the file; to stdout without one."""
    text = json.dumps(entries, indent=1) + "\n"
    if file:
        with open(file, "w") as out:
            out.write(text)
    else:
        sys.stdout.write(text)
