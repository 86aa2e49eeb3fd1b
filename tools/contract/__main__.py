"""Write the files of the contract from the message types, or renew the baseline of a release."""

import argparse

from tools.contract.files import renew_baseline, write_all


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tools.contract", description=__doc__)
    parser.add_argument(
        "what",
        nargs="?",
        choices=["files", "baseline"],
        default="files",
        help="files: write all files from the types; baseline: copy the schemas, which later "
        "ones are then compared with",
    )
    if parser.parse_args().what == "baseline":
        renew_baseline()
    else:
        write_all()


if __name__ == "__main__":
    main()
