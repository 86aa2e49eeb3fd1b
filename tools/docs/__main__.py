"""Write the generated pages: `make docs`."""

from tools.docs.pages import generated

if __name__ == "__main__":
    for path, text in generated().items():
        path.write_text(text)
