#!/bin/sh
# webdataset 1.0.2 says that it includes wids, its random access to shards, and does not.
#
# Versions: webdataset 1.0.2, numpy 2.4.6 (Python 3.11).
#
# Good guess: its page on PyPI names "webdataset for Python3 (includes the wids library)", so sample n of
# some shards is `wids.ShardListDataset(...)[n]`, whatever the order in which samples are asked for.
#
# Seen: the description in the installed package says so, and `import wids` fails; nothing in the package gives a
# sample by its number. What is left reads shards from front to end, and shuffles a buffer: sample n depends on
# the number of workers. A training that must know sample n by its number alone has to index the tar files by itself.
#
# Fails if wids is there, or the description no longer says so.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/try.py" <<'PYTHON'
import importlib.metadata
import importlib.util
import sys

import webdataset

text = importlib.metadata.metadata("webdataset").get_payload()
says = "includes the `wids` library" in str(text)
there = importlib.util.find_spec("wids") is not None
by_number = [name for name in dir(webdataset) if hasattr(getattr(webdataset, name), "__getitem__")
             and isinstance(getattr(webdataset, name), type)]
print("webdataset", importlib.metadata.version("webdataset"))
print("its description says that it includes wids:", says)
print("wids is there:", there)
print("classes that give a sample by its number:", by_number)
sys.exit(0 if says and not there else "It behaves otherwise now")
PYTHON
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet webdataset==1.0.2 numpy==2.4.6
"$folder/venv/bin/python" "$folder/try.py"
