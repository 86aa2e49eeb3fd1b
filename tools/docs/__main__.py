"""Write the pages that are made from the code: `make docs`."""

from tools.docs.pages import generated
from tools.generated import write

if __name__ == "__main__":
    write(generated())
