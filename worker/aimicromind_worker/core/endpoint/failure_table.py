"""The one table of what the endpoint's error texts mean, with where each of them comes from.

The endpoint reports most errors as a text alone: its own, or what a model's client wrote. A row
matches whole words in a shape that was seen, so that an ordinary sentence is no row's. The first
row that matches counts. docs/endpoint.md shows the table, and `make check` compares the two.
"""

import re
from collections.abc import Sequence
from typing import Final

import msgspec

from aimicromind_worker.core.endpoint.errors import (
    BadRequest,
    EndpointError,
    EndpointUnavailable,
    Forbidden,
    RateLimited,
    RunAborted,
    Unauthorized,
)

Meaning = type[
    BadRequest
    | EndpointError
    | EndpointUnavailable
    | Forbidden
    | RateLimited
    | RunAborted
    | Unauthorized
]


class Row(msgspec.Struct, frozen=True):
    """One meaning.

    Attributes:
        meaning: The failure.
        begins: How the message begins, behind what wraps it.
        within: What stands anywhere in the text.
        examples: Texts that were seen, or are written so at the source. A `…` stands for anything.
        source: A file of the server's public source, or the client that writes the text.
    """

    meaning: Meaning
    begins: re.Pattern[str]
    within: re.Pattern[str]
    examples: tuple[str, ...]
    source: str

    def fits(self, text: str, places: Sequence[int]) -> bool:
        """Return whether the text has this meaning.

        Args:
            text: What the endpoint said.
            places: Where its message may begin, by `beginnings`.
        """
        return any(self.begins.match(text, it) for it in places) or bool(self.within.search(text))


# What the server and the clients write before a message: "Error: predictionsServices.x - ".
_WRAPPER: Final = re.compile(
    r"\W{0,3}(?:\w{0,30}(?:error|exception)\b(?: [\w -]{1,60}?)?|\w{1,40}\.\w{1,40})"
    r"(?: fetching from \S{1,300})?\]?(?::| -)\s{1,3}",
    re.IGNORECASE,
)
_MOST_WRAPPERS: Final = 6
# What may follow a message that is a word or two, such as LangChain's link to its help.
_END: Final = r"\W{0,4}(?:troubleshooting url: \S{1,200}\s{0,3})?$"
_NEVER: Final = r"(?!)"


def beginnings(text: str) -> list[int]:
    """Return where a text's message may begin: at once, and behind each wrapper."""
    places = [0]
    while len(places) <= _MOST_WRAPPERS and (found := _WRAPPER.match(text, places[-1])):
        places.append(found.end())
    return places


def _row(
    meaning: Meaning,
    source: str,
    examples: tuple[str, ...],
    begins: str = _NEVER,
    within: str = _NEVER,
) -> Row:
    flags = re.IGNORECASE
    return Row(meaning, re.compile(begins, flags), re.compile(within, flags), examples, source)


def _status_first(numbers: str, phrases: str) -> str:
    """Match a status that begins a message: its reason begins with a capital, or is JSON.

    "401 results" and "429 USD" are none.
    """
    return (
        rf"\[?(?-i:(?:{numbers}) (?:[A-Z][a-z']|I |[{{\"'\[<(]|status code|\W*$))"
        rf"|\[?(?:{numbers})\b\W{{0,3}}(?:{phrases}|$)"
    )


def _status(numbers: str, phrases: str) -> str:
    """Match a status that is named as one, or followed by its own phrase. "room 503" is none."""
    named = (
        r"\bhttp(?:/[\d.]{1,3})?(?: error| status)?!?(?: status)?:? "
        r"|\b(?:status|(?:status|error|response)[ _-]?code)\"?(?:[:=]| of)? ?\"?|\"code\" ?: ?\"?"
    )
    return (
        rf"(?:{named})(?:{numbers})\b(?! \w{{1,20}}s\b)"
        rf"|\berror:? (?:{numbers})(?:[:;,.)\]]|$)"
        rf"|\b(?:{numbers})\b\W{{1,3}}(?:{phrases})"
    )


_SERVER = "packages/server/src"
_NODES = "packages/components"
_AWAY = "408|425|502|503|504|52[0-9]|530|598|599"
_AWAY_PHRASES = (
    "request timeout|too early|bad gateway|service unavailable|gateway time-?out|overloaded"
)
_REFUSED = "400|402|404|405|406|409|410|413|415|422"
_REFUSED_PHRASES = (
    "bad request|payment required|not found|(?:payload|request entity) too large"
    "|unprocessable (?:entity|content)"
)

TABLE: Final = (
    # A clock or somebody stopped the run.
    _row(
        EndpointUnavailable,
        "undici",
        ("The operation was aborted due to timeout",),
        within=r"\baborted due to (?:a )?timeout\b",
    ),
    _row(
        RunAborted,
        f"{_SERVER}/utils/buildAgentflow.ts, {_NODES}/nodes/sequentialagents, OpenAI's client",
        (
            "Aborted!",
            "Error in LLM node: This operation was aborted",
            "Request was aborted.",
            "The user aborted a request.",
            "Run aborted by user",
        ),
        begins=rf"aborted{_END}",
        within=r"\b(?:operation|request|run|execution) was aborted\b|\bAbortError\b"
        r"|\babort(?:ed)? by (?:the |a )?user\b|\bthe user aborted\b",
    ),
    # The server's own, all of which last until somebody changes the flow or the job.
    _row(
        BadRequest,
        f"{_SERVER}/utils/buildAgentflow.ts, {_NODES}/nodes/agentflow/Agent/Agent.ts",
        (
            "Invalid history format. Each history item must have: …",
            "Question and form cannot be provided at the same time",
            "Cannot resume execution … because it is in 'FINISHED' state. …",
            "No previous execution found for session …",
            "No stopped node found in previous execution data to resume from",
            "Node … not found in previous execution. …",
            "Invalid human input type. Expected 'proceed' or 'reject', but got '…'",
            "Execution … not found",
        ),
        begins=r"invalid history format|question and form cannot be provided at the same time"
        r"|cannot resume execution\b|no previous execution found\b"
        r"|no stopped node found in previous execution|node \S{1,200} not found in previous"
        r"|invalid human input type\b|execution \S{1,200} not found",
    ),
    _row(
        BadRequest,
        f"{_SERVER}/utils/buildAgentflow.ts, buildAgentGraph.ts, buildChatflow.ts, index.ts; "
        f"{_NODES}/nodes/agentflow/ExecuteFlow",
        (
            "Multiple starting nodes are not allowed",
            "Start input type not found",
            "This flow is configured as a Webhook Trigger. …",
            "Node not found",
            "Graph should have only one start node",
            "Ending nodes not found",
            "Ending node must be either a Chain or Agent or Engine",
            "Output of … must be …, can't be an Output Prediction",
            "Workspace … not found",
            "Cannot call the same agentflow!",
            "Invalid base URL: must be a valid URL",
        ),
        begins=r"multiple starting nodes are not allowed|start input type not found"
        r"|this flow is configured as a (?:webhook|scheduled) trigger"
        r"|(?:start )?node not found|graph should have\b|ending nodes? \b"
        r"|output of .{1,200} must be\b|(?:workspace|organization) \S{1,200} not found"
        r"|cannot call the same (?:agent|chat)flow|invalid base url\b"
        r"|invalid (?:chat|agent)?flow id\b",
    ),
    _row(
        BadRequest,
        f"{_SERVER}/controllers/predictions/index.ts",
        ("Error: predictionsController.createPrediction - body not provided!",),
        begins=r"(?:id|body) not provided",
    ),
    _row(
        BadRequest,
        f"{_NODES}/src/validator.ts, storageUtils.ts, speechToText.ts",
        (
            "Invalid filename: …",
            "Invalid or unsafe fileName detected",
            "Invalid path characters detected",
            "Invalid MIME type: expected application/pdf",
            'MIME type "…" is not supported or does not have a valid file extension mapping',
            "MIME type mismatch: file extension …",
            "File type not allowed: files must have a valid file extension",
            "File … not found",
            "Speech to text is not selected, but found a recorded audio file. …",
            "Please provide image as base64 encoded data URL",
        ),
        begins=r"invalid (?:or unsafe )?file ?name\b|invalid file path|invalid path(?::| char)"
        r"|(?:invalid )?mime type\b|file type not allowed|file \S{1,200} not found"
        r"|speech to text is not selected|please provide image as base64|unsupported file type",
    ),
    _row(
        BadRequest,
        f"{_NODES}/nodes/agentflow, nodes/sequentialagents, nodes/chains, nodes/agents, "
        "nodes/chatmodels",
        (
            "Form is required",
            "Error in LLM node: Model is required",
            "LLM Node name is required!",
            "End must have a predecessor!",
            "Invalid JSON in the Custom Function Input Variables: …",
            "Please provide Prompt Values for: …",
            "Agent needs to have a function calling capable models.",
            "LLM Node only compatible with function calling models.",
            "This model does not support images",
            "This model is no longer supported",
        ),
        begins=r"[\w ']{1,60} (?:is|are) required\b[^,;]{0,80}$"
        r"|[\w ']{1,60} must have a predecessor\b|invalid json\b|please provide prompt values"
        r"|tools must not be empty|(?:agent|supervisor) needs to have a function calling"
        r"|provided prompt is missing|this agent requires that the .bindtools"
        r"|this model does not support\b|unsupported (?:source type|message input)",
        within=r"\bonly compatible with function calling models\b"
        r"|\b(?:is|are) no longer supported\b",
    ),
    # Keys, before statuses: Google answers a wrong one with 400.
    _row(
        Unauthorized,
        f"{_SERVER}/utils/buildChatflow.ts, middlewares/errors/index.ts; clients of OpenAI, "
        "Anthropic, Google, LangChain",
        (
            "Error: predictionsServices.buildChatflow - Unauthorized",
            "401 Unauthorized … check your API key …",
            "Unauthorized Access",
            "Incorrect API key provided: …",
            "… [400 Bad Request] API key not valid. Please pass a valid API key.",
            '{"type":"authentication_error","message":"invalid x-api-key"}',
            "…/errors/MODEL_AUTHENTICATION/",
        ),
        begins=r"unauthori[sz]ed\b(?! (?:use|copying|reproduction)\b)",
        within=r"\b(?:incorrect|invalid|wrong|expired) api[ _-]?key\b|\bapi[ _-]?key not valid\b"
        r"|\binvalid[_ ](?:x-)?api[-_]key\b|\bauthentication_error\b|\bMODEL_AUTHENTICATION\b"
        r'|"UNAUTHENTICATED"',
    ),
    _row(
        Unauthorized,
        f"{_NODES}/src/utils.ts, google-utils.ts, nodes/chatmodels; OpenAI's client",
        (
            "Credentials could not be decrypted.",
            "Failed to decrypt credential data.",
            "Access token is expired and no refresh token is available. …",
            "Please specify your Google Application Credential",
            "OpenAI ApiKey not found",
            "Missing credentials. Please pass an `apiKey`, or set …",
            "Cloudflare API Token is missing in credential.",
        ),
        begins=r"credentials could not be decrypted|failed to decrypt credential"
        r"|failed to retrieve secret value|access token is expired and no refresh token"
        r"|failed to refresh token|please specify your google application credential"
        r"|missing credentials\b|the \w{1,60}_API_KEY environment variable is missing"
        r"|\w{1,40} api ?key (?:is )?(?:not found|missing)",
        within=r"\bis missing in credential\b",
    ),
    # Statuses that a text tells, and words of providers and clients.
    _row(
        Unauthorized,
        "clients of OpenAI, Anthropic; axios",
        (
            "401 Incorrect API key provided",
            "Request failed with status code 401",
            "status code: 401",
            "HTTP 401",
            "Error: 401 Invalid token",
        ),
        begins=_status_first("401", "unauthori[sz]ed"),
        within=_status("401", "unauthori[sz]ed"),
    ),
    _row(
        Forbidden,
        f"{_SERVER}/controllers/predictions/index.ts, {_NODES}/src/httpSecurity.ts; providers",
        (
            "403 You are not allowed to access this model",
            "This site is not allowed to access this chatbot",
            "Access to this host is denied by policy.",
            "Request failed with status code 403",
        ),
        begins=_status_first("403", "forbidden")
        + r"|forbidden\b|this site is not allowed to access|access to this host is denied",
        within=_status("403", "forbidden")
        + r"|\bpermission_error\b|\byou are not allowed to access\b",
    ),
    _row(
        RateLimited,
        f"{_SERVER}/utils/quotaUsage.ts; clients of OpenAI, Google, AWS, LangChain",
        (
            "429 You exceeded your current quota",
            "[429 Too Many Requests] …",
            "Rate limit reached for …",
            '{"code":"insufficient_quota"}',
            "rate_limit_exceeded",
            "ThrottlingException: Too many tokens, please wait before trying again.",
            "…/errors/MODEL_RATE_LIMIT/",
            "Predictions limit exceeded",
        ),
        begins=_status_first("429", "too many requests|rate limit")
        + r"|(?:predictions|storage) limit exceeded|limit exceeded: \w",
        within=_status("429", "too many requests|rate limit")
        + r"|\btoo many requests\b|\brate[ _-]limit(?:ed|s|_exceeded|_error)?\b"
        r"|\binsufficient_quota\b|\bRESOURCE_EXHAUSTED\b|\bThrottlingException\b"
        r"|\bMODEL_RATE_LIMIT\b|\bexceed\w{0,4} (?:\w{1,20} ){0,4}quota\b"
        r"|\bquota (?:\w{1,20} ){0,4}(?:exceeded|exhausted)\b",
    ),
    _row(
        EndpointUnavailable,
        "clients of OpenAI, Anthropic, Google; axios",
        (
            "503 The engine is currently overloaded",
            "[503 Service Unavailable] The model is overloaded. …",
            "Request failed with status code 503",
            "502 Bad Gateway",
            "Overloaded",
            '529 {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}',
        ),
        begins=_status_first(_AWAY, _AWAY_PHRASES) + rf"|overloaded{_END}",
        within=_status(_AWAY, _AWAY_PHRASES)
        + r"|\boverloaded_error\b|\bbad gateway\b|\bgateway time-?out\b"
        r"|\bservice (?:is )?(?:temporarily |currently )?unavailable\b"
        r"|\b(?:model|engine|server|service|system)s? (?:is|are) "
        r"(?:currently |temporarily )?overloaded\b",
    ),
    _row(
        EndpointUnavailable,
        "Node.js, undici, axios, BullMQ, OpenAI's client",
        (
            "Connection error.",
            "connect ECONNREFUSED …",
            "getaddrinfo ENOTFOUND …",
            "read ETIMEDOUT",
            "socket hang up",
            "fetch failed",
            "terminated",
            "Request timed out.",
            "timeout of 30000ms exceeded",
            "The model is unreachable",
            "job stalled more than allowable limit",
        ),
        begins=rf"(?:api)?connection error\b|(?:terminated|network error|failed to fetch){_END}",
        within=r"\bECONN(?:REFUSED|RESET|ABORTED)\b"
        r"|\bE(?:TIMEDOUT|HOSTUNREACH|NETUNREACH|PIPE|NOTFOUND|AI_AGAIN)\b"
        r"|\bsocket hang up\b|\bfetch failed\b|\btimed[ -]out\b|\bother side closed\b"
        r"|\btimeout of \d{1,9} ?ms exceeded\b|\bpremature close\b|\bupstream connect error\b"
        r"|\bAPIConnection(?:Timeout)?Error\b|\bjob stalled more than allowable limit\b"
        r"|\b(?:host|network|model|server|endpoint|service) is unreachable\b",
    ),
    _row(
        BadRequest,
        "clients of OpenAI, Anthropic, Google, LangChain, Ollama",
        (
            "400 This model's maximum context length is 8192 tokens",
            "404 The model `…` does not exist",
            "model '…' not found, try pulling it first",
            "413 Request too large for model",
            "Request failed with status code 400",
            "Bad Request",
            "invalid_request_error",
            "…/errors/MODEL_NOT_FOUND/",
        ),
        begins=_status_first(_REFUSED, _REFUSED_PHRASES) + r"|bad request\b",
        within=_status(_REFUSED, _REFUSED_PHRASES)
        + r"|\binvalid_request(?:_error)?\b|\bcontext_length_exceeded\b|\bnot_found_error\b"
        r"|\bmaximum context length\b|\bprompt is too long\b|\bCONTEXT_OVERFLOW\b"
        r"|\bmodel \S{1,100} (?:not found|does not exist)\b"
        r"|\bmodel_not_found\b|\bINVALID_PROMPT_INPUT\b|\bINVALID_ARGUMENT\b",
    ),
)
