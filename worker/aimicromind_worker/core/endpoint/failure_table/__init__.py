"""The one table of the endpoint's error texts: which failure each text means.

Invariants:

- The first row that matches counts, thus the order of rows is part of their meaning.
- A text that no row matches is an `EndpointError`.
- docs/endpoint.md shows the table; `make docs` writes it from here.
"""

from typing import Final

from aimicromind_worker.core.endpoint.failure_table import providers, server
from aimicromind_worker.core.endpoint.failure_table.row import Row

TABLE: Final[tuple[Row, ...]] = (*server.ROWS, *providers.ROWS)
