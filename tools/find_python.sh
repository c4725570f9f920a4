#!/bin/sh
# Print the path of a Python to make the virtual environment with: $1 if it is given, else the first one that will do.
# A candidate is run, not only looked up: version managers put names on PATH that fail when they are used.
# Of a virtual environment the Python beneath it is taken, so that ours can replace itself.
needs='import sys, venv, ensurepip; assert (3, 11) <= sys.version_info < (3, 14); print(sys._base_executable)'
for candidate in ${1:-python3.11 python3 python3.12 python3.13}; do
    if path=$("$candidate" -c "$needs" 2>/dev/null); then
        echo "$path"
        exit 0
    fi
done
echo "Python 3.11, 3.12 or 3.13 with its venv module is needed (Debian: apt install python3-venv); ${1:-python3} is none: make PYTHON=/path/to/python3.11" >&2
exit 1
