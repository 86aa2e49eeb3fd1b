"""Rows for texts of model providers and their clients, which the endpoint passes on.

Where the endpoint has its own words for the same failure, they are in the same row.
"""

from typing import Final

from aimicromind_worker.core.endpoint.errors import (
    BadRequest,
    EndpointUnavailable,
    Forbidden,
    RateLimited,
    Unauthorized,
)
from aimicromind_worker.core.endpoint.failure_table.row import (
    COMPONENTS,
    END,
    SERVER,
    row,
    status,
    status_first,
)

_AWAY = "408|425|502|503|504|52[0-9]|530|598|599"
_AWAY_PHRASES = (
    "request timeout|too early|bad gateway|service unavailable|gateway time-?out|overloaded"
)
_REFUSED = "400|402|404|405|406|409|410|413|415|422"
_REFUSED_PHRASES = (
    "bad request|payment required|not found|(?:payload|request entity) too large"
    "|unprocessable (?:entity|content)"
)


ROWS: Final = (
    # Keys come before statuses: Google answers a wrong key with status 400.
    row(
        Unauthorized,
        f"{SERVER}/utils/buildChatflow.ts, middlewares/errors/index.ts; clients of OpenAI, "
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
    row(
        Unauthorized,
        f"{COMPONENTS}/src/utils.ts, google-utils.ts, nodes/chatmodels; OpenAI's client",
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
    # Statuses, and the words of providers and clients for them.
    row(
        Unauthorized,
        "clients of OpenAI, Anthropic; axios",
        (
            "401 Incorrect API key provided",
            "Request failed with status code 401",
            "status code: 401",
            "HTTP 401",
            "Error: 401 Invalid token",
        ),
        begins=status_first("401", "unauthori[sz]ed"),
        within=status("401", "unauthori[sz]ed"),
    ),
    row(
        Forbidden,
        f"{SERVER}/controllers/predictions/index.ts, {COMPONENTS}/src/httpSecurity.ts; providers",
        (
            "403 You are not allowed to access this model",
            "This site is not allowed to access this chatbot",
            "Access to this host is denied by policy.",
            "Request failed with status code 403",
        ),
        begins=status_first("403", "forbidden")
        + r"|forbidden\b|this site is not allowed to access|access to this host is denied",
        within=status("403", "forbidden")
        + r"|\bpermission_error\b|\byou are not allowed to access\b",
    ),
    row(
        RateLimited,
        f"{SERVER}/utils/quotaUsage.ts; clients of OpenAI, Google, AWS, LangChain",
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
        begins=status_first("429", "too many requests|rate limit")
        + r"|(?:predictions|storage) limit exceeded|limit exceeded: \w",
        within=status("429", "too many requests|rate limit")
        + r"|\btoo many requests\b|\brate[ _-]limit(?:ed|s|_exceeded|_error)?\b"
        r"|\binsufficient_quota\b|\bRESOURCE_EXHAUSTED\b|\bThrottlingException\b"
        r"|\bMODEL_RATE_LIMIT\b|\bexceed\w{0,4} (?:\w{1,20} ){0,4}quota\b"
        r"|\bquota (?:\w{1,20} ){0,4}(?:exceeded|exhausted)\b",
    ),
    row(
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
        begins=status_first(_AWAY, _AWAY_PHRASES) + rf"|overloaded{END}",
        within=status(_AWAY, _AWAY_PHRASES)
        + r"|\boverloaded_error\b|\bbad gateway\b|\bgateway time-?out\b"
        r"|\bservice (?:is )?(?:temporarily |currently )?unavailable\b"
        r"|\b(?:model|engine|server|service|system)s? (?:is|are) "
        r"(?:currently |temporarily )?overloaded\b",
    ),
    row(
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
        begins=rf"(?:api)?connection error\b|(?:terminated|network error|failed to fetch){END}",
        within=r"\bECONN(?:REFUSED|RESET|ABORTED)\b"
        r"|\bE(?:TIMEDOUT|HOSTUNREACH|NETUNREACH|PIPE|NOTFOUND|AI_AGAIN)\b"
        r"|\bsocket hang up\b|\bfetch failed\b|\btimed[ -]out\b|\bother side closed\b"
        r"|\btimeout of \d{1,9} ?ms exceeded\b|\bpremature close\b|\bupstream connect error\b"
        r"|\bAPIConnection(?:Timeout)?Error\b|\bjob stalled more than allowable limit\b"
        r"|\b(?:host|network|model|server|endpoint|service) is unreachable\b",
    ),
    row(
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
        begins=status_first(_REFUSED, _REFUSED_PHRASES) + r"|bad request\b",
        within=status(_REFUSED, _REFUSED_PHRASES)
        + r"|\binvalid_request(?:_error)?\b|\bcontext_length_exceeded\b|\bnot_found_error\b"
        r"|\bmaximum context length\b|\bprompt is too long\b|\bCONTEXT_OVERFLOW\b"
        r"|\bmodel \S{1,100} (?:not found|does not exist)\b"
        r"|\bmodel_not_found\b|\bINVALID_PROMPT_INPUT\b|\bINVALID_ARGUMENT\b",
    ),
)
