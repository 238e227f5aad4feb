#!/bin/sh
# ray.init waits many minutes for a cluster at an address where nobody listens.
#
# Versions: ray 2.60.0 (Python 3.11).
#
# Good guess: a port of this machine on which nobody listens refuses at once, so ray.init(address=...) raises
# ConnectionError within seconds; at most in the 20 seconds that a comment in its source names for 20 tries.
#
# Seen: each of the 20 tries takes some 40 seconds, although the connection is refused at once: after 100 seconds it still
# waits. RAY_NUM_REDIS_GET_RETRIES=1, a variable named after Redis, which takes no part in it, makes it one try; then the
# ConnectionError comes within about a minute. A command line that is given a wrong RAY_ADDRESS has to set that variable
# before it imports ray, or it seems to hang.
#
# Fails if it gives up within 100 seconds, or if one try is not enough.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/try.py" <<'PYTHON'
import os
import subprocess
import sys
import time

CODE = """
import ray
try:
    ray.init(address="127.0.0.1:6399", log_to_driver=False)
except ConnectionError as error:
    print("ConnectionError:", error)
"""


def seconds(environment):
    begun = time.monotonic()
    try:
        done = subprocess.run([sys.executable, "-c", CODE], env=environment, timeout=100,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        print(done.stdout.strip())
        return time.monotonic() - begun, "ConnectionError" in done.stdout
    except subprocess.TimeoutExpired:
        return time.monotonic() - begun, False


environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
environment.pop("RAY_NUM_REDIS_GET_RETRIES", None)
usual, gave_up = seconds(environment)
print(f"as it is: {'gave up' if gave_up else 'still waiting'} after {usual:.0f} seconds")
once, gave_up_once = seconds({**environment, "RAY_NUM_REDIS_GET_RETRIES": "1"})
print(f"with one try: {'gave up' if gave_up_once else 'still waiting'} after {once:.0f} seconds")
sys.exit(0 if not gave_up and gave_up_once else "It behaves otherwise now")
PYTHON
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet ray==2.60.0
"$folder/venv/bin/python" "$folder/try.py"
