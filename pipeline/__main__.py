"""``python -m batchone.pipeline``."""

from batchone.pipeline.cli import main

if __name__ == "__main__":
    main()
