"""Run the command line as `python -m aimicromind_worker`."""

from aimicromind_worker.cli import main

if __name__ == "__main__":
    main()
