"""The command ``python -m benchmarks.flags``."""

from benchmarks.flags import main

if __name__ == "__main__":
    main()
