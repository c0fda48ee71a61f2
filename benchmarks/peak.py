"""Run a command and write the peak of its memory, MB, to a file: peak FILE COMMAND..."""

import resource
import subprocess
import sys

status = subprocess.run(sys.argv[2:], check=False).returncode
unit = 1e6 if sys.platform == "darwin" else 1e6 / 1024  # bytes there, kibibytes elsewhere
with open(sys.argv[1], "w", encoding="utf-8") as file:
    file.write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / unit))
sys.exit(status)
