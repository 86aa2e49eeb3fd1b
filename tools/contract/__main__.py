"""Write the files of the contract from the message types, or renew the baseline of a release."""

import argparse
import shutil

from tools.contract.files import generated
from tools.contract.places import BASELINE, JSON
from tools.generated import write


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
        shutil.rmtree(BASELINE, ignore_errors=True)
        shutil.copytree(JSON, BASELINE)
        return
    wanted = generated()
    for path in set(JSON.glob("*")) - set(wanted):
        path.unlink()
    write(wanted)


if __name__ == "__main__":
    main()
