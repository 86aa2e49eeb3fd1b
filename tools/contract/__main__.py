"""Write the contract's files: `make contract`; with `baseline`, those of a release: see usage."""

import argparse
import shutil

from tools.contract.files import generated
from tools.contract.places import BASELINE, JSON


def main() -> None:
    """Write what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m tools.contract", description=__doc__)
    parser.add_argument(
        "what",
        nargs="?",
        choices=["files", "baseline"],
        default="files",
        help="files: all that is made from the types; baseline: the schemas as they are now "
        "become those that later ones are compared with",
    )
    if parser.parse_args().what == "baseline":
        shutil.rmtree(BASELINE, ignore_errors=True)
        shutil.copytree(JSON, BASELINE)
        return
    wanted = generated()
    for path in set(JSON.glob("*")) - set(wanted):
        path.unlink()
    for path, text in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


if __name__ == "__main__":
    main()
