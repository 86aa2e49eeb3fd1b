"""Read the text of content parts, which model clients may write in place of a string.

LangChain: `[{"type": "text", "text": "Hi"}, …]`, with `text_delta`, `image_url` and others.
OpenAI's assistants write `{"type": "text", "text": {"value": "Hi"}}`.
"""


def text_of_parts(content: object) -> str | None:
    """Join the texts of a content part, or of a list of them; other parts are left out.

    Returns:
        None where no part has text; an empty list is an empty text.
    """
    if not isinstance(content, list):
        return _text_of_part(content) if isinstance(content, dict) else None
    texts = [text for part in content if (text := _text_of_part(part)) is not None]
    return "".join(texts) if texts or not content else None


def all_are_parts(content: object) -> bool:
    """Return whether this is a list of content parts with a type, at least one of them text."""
    return (
        isinstance(content, list)
        and bool(content)
        and all(isinstance(part, dict) and isinstance(part.get("type"), str) for part in content)
        and any(_text_of_part(part) is not None for part in content)
    )


def _text_of_part(part: object) -> str | None:
    if not isinstance(part, dict):
        return part if isinstance(part, str) else None
    text = part.get("text")
    if "text" not in str(part.get("type", "text")):
        return None
    if isinstance(text, dict):
        text = text.get("value")
    return text if isinstance(text, str) else None
