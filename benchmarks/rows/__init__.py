"""One module a row of the table; each defines `ROW`."""
